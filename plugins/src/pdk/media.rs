//! Media types (RFC 9110, 8.3.1), as Kong reads them: what does not fit the grammar is none.

/// A media type taken apart, in small letters but for the values of its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `application`, or a star.
    pub kind: String,
    /// `json`, or a star.
    pub subtype: String,
    /// Names and values, in order; of equal names the last counts.
    pub parameters: Vec<(String, String)>,
}

impl Media {
    /// Takes a type apart. A lone star is `*/*`.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        let (range, mut rest) = text.split_at(end);
        let (kind, subtype) = match range {
            "*" => ("*", "*"),
            _ => range.split_once('/').filter(|(kind, sub)| is_token(kind) && is_token(sub))?,
        };
        let mut media = Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            parameters: Vec::new(),
        };
        while !rest.is_empty() {
            rest = trimmed(trimmed(rest).strip_prefix(';')?);
            let (name, behind) = rest.split_once('=')?;
            is_token(name).then_some(())?;
            let (value, behind) = value(behind)?;
            let name = name.to_ascii_lowercase();
            media.parameters.retain(|(own, _)| *own != name);
            media.parameters.push((name, value.to_owned()));
            rest = behind;
        }
        Some(media)
    }

    /// Whether a type that was told is of this range: stars stand for anything, parameters must be
    /// the same.
    pub fn admits(&self, told: &Self) -> bool {
        let fits = |own: &str, other: &str| own == "*" || own == other;
        fits(&self.kind, &told.kind)
            && fits(&self.subtype, &told.subtype)
            && self.parameters.len() == told.parameters.len()
            && self.parameters.iter().all(|pair| told.parameters.contains(pair))
    }

    /// Whether it is JSON: `application/json`, or `application/…+json`.
    pub fn is_json(&self) -> bool {
        self.kind == "application" && (self.subtype == "json" || self.subtype.ends_with("+json"))
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// A token or a quoted text, and what follows it.
fn value(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut escaped = false;
        let end = quoted.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        return Some((quoted.get(..end)?, quoted.get(end + 1..)?));
    }
    let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    is_token(value).then_some((value, rest))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    #[track_caller]
    fn check(text: &str, expected: Option<Expected<'_>>) {
        let expected = expected.map(|(kind, subtype, parameters)| Media {
            kind: kind.to_owned(),
            subtype: subtype.to_owned(),
            parameters: parameters.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        });
        assert_eq!(Media::parse(text), expected, "{text}");
    }

    #[test]
    fn types_are_taken_apart() {
        check("application/json", Some(("application", "json", &[])));
        check("Text/HTML; Charset=UTF-8", Some(("text", "html", &[("charset", "UTF-8")])));
        check("a/b;x=1 ;y=\"2;3\"", Some(("a", "b", &[("x", "1"), ("y", "2;3")])));
        check("*", Some(("*", "*", &[])));
        check("*/*", Some(("*", "*", &[])));
        for text in
            ["", "a", "a/", "/b", "a/b;", "a/b; x", "a/b x", "a/b;x=\"1", "a/b, c/d", "a b/c"]
        {
            check(text, None);
        }
    }

    #[test]
    fn a_range_admits_its_types() {
        let admits = |range: &str, told: &str| {
            Media::parse(range).unwrap().admits(&Media::parse(told).unwrap())
        };
        assert!(admits("application/json", "Application/JSON"));
        assert!(!admits("application/json", "application/json; charset=utf-8"));
        assert!(admits("application/json; charset=utf-8", "application/json;Charset=utf-8"));
        assert!(!admits("application/json; charset=utf-8", "application/json; charset=UTF-8"));
        assert!(admits("text/*", "text/plain") && admits("*/*", "a/b") && admits("*", "a/b"));
        assert!(!admits("text/*", "text/plain; a=b"));
    }

    #[test]
    fn json_is_told() {
        for (text, is) in [
            ("application/json", true),
            ("application/problem+json; charset=utf-8", true),
            ("text/json", false),
            ("application/jsonx", false),
        ] {
            assert_eq!(Media::parse(text).unwrap().is_json(), is, "{text}");
        }
    }
}
