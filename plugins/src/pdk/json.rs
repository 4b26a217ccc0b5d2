//! A JSON object, taken apart at its top level only: what lies deeper is checked and kept as it was
//! written, however deep it goes. Numbers keep their digits, members their order.

use std::borrow::Cow;

/// The members of an object, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Member<'a>)>,
}

/// A value as JSON text.
pub type Member<'a> = Cow<'a, str>;

impl<'a> Object<'a> {
    /// Takes a text apart; none if it is no JSON, or no object.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut reader = Reader { text, at: 0 };
        let mut object = Self::default();
        reader.blank();
        reader.takes(b'{').then_some(())?;
        reader.blank();
        if !reader.takes(b'}') {
            loop {
                reader.blank();
                let from = reader.at;
                reader.string()?;
                let name = unquoted(text.get(from..reader.at)?)?;
                reader.blank();
                reader.takes(b':').then_some(())?;
                reader.blank();
                let from = reader.at;
                reader.value()?;
                object.members.push((name, Cow::Borrowed(text.get(from..reader.at)?)));
                reader.blank();
                if !reader.takes(b',') {
                    break;
                }
            }
            reader.takes(b'}').then_some(())?;
        }
        reader.blank();
        (reader.at == text.len()).then_some(object)
    }

    /// A member's value; of several with one name the last counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.members.iter().rev().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<Member<'a>> {
        let mut found = None;
        self.members.retain_mut(|(own, value)| {
            let is = own == name;
            if is {
                found = Some(std::mem::take(value));
            }
            !is
        });
        found
    }

    /// Gives a member a value, where it stands or at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Member<'a>>) {
        let value = value.into();
        match self.members.iter_mut().rev().find(|(own, _)| own == name) {
            Some((_, old)) => *old = value,
            None => self.members.push((Cow::Owned(name.to_owned()), value)),
        }
    }

    /// Adds a value to a member, as Lua would: a text becomes a list of two, a list grows, an
    /// object gets a member `1`, anything else is replaced by a list of one.
    pub fn append(&mut self, name: &str, value: &str) {
        let old = self.get(name).unwrap_or("").trim_end();
        let next = match old.as_bytes().first() {
            Some(b'"') => format!("[{old},{value}]"),
            Some(b'[' | b'{') if is_hollow(old) => format!("[{value}]"),
            Some(b'[') => format!("{},{value}]", old.strip_suffix(']').unwrap_or(old)),
            Some(b'{') => format!("{},\"1\":{value}}}", old.strip_suffix('}').unwrap_or(old)),
            _ => format!("[{value}]"),
        };
        self.set(name, next);
    }

    /// Writes the object.
    pub fn write(&self) -> Vec<u8> {
        let bytes: usize = self.members.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        let mut out = Vec::with_capacity(bytes + 2);
        out.push(b'{');
        for (at, (name, value)) in self.members.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(quoted(name).as_bytes());
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
        out
    }
}

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a list or an object has nothing in it.
fn is_hollow(text: &str) -> bool {
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or("");
    inside.bytes().all(|byte| byte.is_ascii_whitespace())
}

fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let inside = text.get(1..text.len().checked_sub(1)?)?;
    if inside.contains('\\') {
        return serde_json::from_str(text).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside))
}

/// Checks JSON without recursion. Its text is valid UTF-8.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let takes = self.peek() == Some(byte);
        self.at += usize::from(takes);
        takes
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Reads one value, whatever lies in it.
    fn value(&mut self) -> Option<()> {
        // What is open: `true` for an object. As deep as the text is long, at most.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.blank();
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    self.blank();
                    if !self.takes(b'}') {
                        self.name()?;
                        open.push(true);
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.blank();
                    if !self.takes(b']') {
                        open.push(false);
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => self.number()?,
            }
            if !self.ends(&mut open)? {
                continue;
            }
            return Some(());
        }
    }

    /// Behind a value: closes what is closed. True when nothing is open any more, false when
    /// another value follows.
    fn ends(&mut self, open: &mut Vec<bool>) -> Option<bool> {
        while let Some(is_object) = open.last().copied() {
            self.blank();
            if self.takes(b',') {
                if is_object {
                    self.blank();
                    self.name()?;
                }
                return Some(false);
            }
            self.takes(if is_object { b'}' } else { b']' }).then_some(())?;
            open.pop();
        }
        Some(true)
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.blank();
        self.takes(b':').then_some(())
    }

    fn string(&mut self) -> Option<()> {
        self.takes(b'"').then_some(())?;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let escape = self.peek()?;
                    self.at += 1;
                    match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
                            digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                            self.at += 4;
                        }
                        _ => return None,
                    }
                }
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text.get(self.at..)?.starts_with(word).then_some(())?;
        self.at += word.len();
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _sign = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &str) -> Option<String> {
        Object::parse(text.as_bytes()).map(|object| String::from_utf8(object.write()).unwrap())
    }

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(written(text).as_deref(), expected, "{text}");
    }

    #[test]
    fn an_object_is_kept_as_it_was_written() {
        check("{}", Some("{}"));
        check(" { } \n", Some("{}"));
        check(
            r#"{"b": 1.0, "a" :[1, {"x":"\u00e9\/"}]}"#,
            Some(r#"{"b":1.0,"a":[1, {"x":"\u00e9\/"}]}"#),
        );
        check(
            r#"{"big":12345678901234567890,"e":1E3}"#,
            Some(r#"{"big":12345678901234567890,"e":1E3}"#),
        );
        check(r#"{"a\"\u0041":null}"#, Some(r#"{"a\"A":null}"#));
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        check(&deep, Some(&deep));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in [
            "",
            "1",
            "null",
            "[1]",
            "\"a\"",
            "{",
            "}",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1}}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":1.}",
            "{\"a\":.1}",
            "{\"a\":tru}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":[1 2]}",
            "{\"a\":[}",
            "{\"a\":{\"b\"}}",
            "{bad",
            "{\"a\":[1,]}",
            "{\"a\":{,}}",
            "{\"a\":nan}",
        ] {
            check(text, None);
        }
        assert_eq!(Object::parse(b"{\"a\":\"\xff\"}"), None);
    }

    #[test]
    fn members_change_by_name() {
        let text = r#"{"a":1,"b":"x","a":2,"l":[1],"o":{"k":1},"n":[ ],"f":false}"#;
        let mut object = Object::parse(text.as_bytes()).unwrap();
        assert_eq!((object.get("a"), object.get("z")), (Some("2"), None));
        assert_eq!(object.remove("a").as_deref(), Some("2"));
        assert_eq!(object.remove("a"), None);
        object.set("b", "3");
        object.set("z", quoted("é\"\n"));
        for name in ["l", "o", "n", "f", "z", "new"] {
            object.append(name, "9");
        }
        let expected = "{\"b\":3,\"l\":[1,9],\"o\":{\"k\":1,\"1\":9},\"n\":[9],\"f\":[9],\
            \"z\":[\"é\\\"\\n\",9],\"new\":[9]}";
        assert_eq!(String::from_utf8(object.write()).unwrap(), expected);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(|n| serde_json::json!(n)),
            ".{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec((".{0,3}", inner), 0..4)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What serde reads as an object this reads too, and means the same.
        #[test]
        fn it_agrees_with_serde(value in json(), cut in 0_usize..40, pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let cut = text.char_indices().rev().nth(cut).map_or(text.len(), |(at, _)| at);
            for text in [text.as_str(), &text[..cut]] {
                let expected = serde_json::from_str::<serde_json::Value>(text).ok();
                let expected = expected.filter(serde_json::Value::is_object);
                let found = written(text).map(|text| serde_json::from_str(&text).unwrap());
                prop_assert_eq!(found, expected, "{}", text);
            }
        }

        #[test]
        fn no_text_is_too_much(text in "[{}\\[\\]\",:0-9a-ftrn\\\\ .+-]{0,40}") {
            let expected = serde_json::from_str::<serde_json::Value>(&text).ok();
            let expected = expected.is_some_and(|value| value.is_object());
            prop_assert_eq!(written(&text).is_some(), expected, "{}", text);
        }
    }
}
