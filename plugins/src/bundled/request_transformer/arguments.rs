//! Arguments of a query or of an urlencoded form, to be changed by name.

use super::rules::Rules;
use crate::pdk::query;
use crate::pdk::template::Sight;

/// Names with their values, in the order in which the names came.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<(Vec<u8>, Values)>);

/// The values of one name; none where it stood without `=`.
type Values = Vec<Option<Vec<u8>>>;

impl Arguments {
    /// Takes a query apart. Arguments without a name are dropped.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut all = Self::default();
        for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
            let (name, value) = match memchr::memchr(b'=', part) {
                Some(at) => (part.get(..at), part.get(at + 1..)),
                None => (Some(part), None),
            };
            let name = query::decoded(name.unwrap_or_default()).into_owned();
            if !name.is_empty() {
                all.push(name, value.map(|value| query::decoded(value).into_owned()));
            }
        }
        all
    }

    /// Adds a value behind those that a name has.
    pub(super) fn push(&mut self, name: Vec<u8>, value: Option<Vec<u8>>) {
        match self.get_mut(&name) {
            Some(values) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    /// Adds the arguments of another query.
    pub(super) fn extend(&mut self, others: Self) {
        for (name, values) in others.0 {
            values.into_iter().for_each(|value| self.push(name.clone(), value));
        }
    }

    fn get_mut(&mut self, name: &[u8]) -> Option<&mut Values> {
        self.0.iter_mut().find(|(own, _)| own == name).map(|(_, values)| values)
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    fn take(&mut self, name: &[u8]) -> Option<Values> {
        let at = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.remove(at).1)
    }

    /// Does what the rules ask for; false if that was nothing. Where there was no body, only adding
    /// and appending make sense: `whole` tells.
    pub(super) fn change(&mut self, rules: &Rules, sight: &Sight<'_>, whole: bool) -> bool {
        let mut changed = whole && !rules.remove.is_empty();
        if whole {
            rules.remove.iter().for_each(|name| drop(self.take(name.as_bytes())));
            for rule in &rules.rename {
                let Some(new) = rule.value(sight).filter(|new| *new != rule.name.as_bytes()) else {
                    continue;
                };
                if let Some(values) = self.take(rule.name.as_bytes()) {
                    self.take(&new);
                    self.0.push((new, values));
                    changed = true;
                }
            }
            for rule in &rules.replace {
                if let Some(values) = self.get_mut(rule.name.as_bytes()) {
                    *values = vec![rule.value(sight)];
                    changed = true;
                }
            }
        }
        let mut added = 0;
        for rule in rules.add.iter().filter(|rule| !rule.name.is_empty()) {
            if !self.has(rule.name.as_bytes()) {
                self.0.insert(added, (rule.name.clone().into(), vec![rule.value(sight)]));
                added += 1;
            }
        }
        for rule in rules.append.iter().filter(|rule| !rule.name.is_empty()) {
            match self.get_mut(rule.name.as_bytes()) {
                // What stood without a value gets one.
                Some(values) if matches!(values.as_slice(), [None]) => {
                    *values = vec![rule.value(sight)];
                }
                Some(values) => values.push(rule.value(sight)),
                None => self.0.push((rule.name.clone().into(), vec![rule.value(sight)])),
            }
        }
        changed || added > 0 || !rules.append.is_empty()
    }

    /// Puts the names in order, as Kong does where it writes a query.
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    }

    /// Writes the query.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, values) in &self.0 {
            for value in values {
                if !out.is_empty() {
                    out.push(b'&');
                }
                escape(name, &mut out);
                if let Some(value) = value {
                    out.push(b'=');
                    escape(value, &mut out);
                }
            }
        }
        out
    }
}

/// Appends a component: all but unreserved characters as `%XX`.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let written = Arguments::parse(text.as_bytes()).write();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn a_query_is_written_as_it_was_meant() {
        check("", "");
        check("a=1&b=2", "a=1&b=2");
        check("a=1&b&a=2&a", "a=1&a=2&a&b");
        check("a=&b=%2b+x%zz", "a=&b=%2B%20x%25zz");
        check("&=1&&c=~.-_!", "c=~.-_%21");
    }
}
