//! `custom_fields_by_lua` without Lua: snippets that only return a constant, or what a common
//! look-up of the plugin development kit gives.
//!
//! A field is a path into the document and an expression; `nil` takes the path out. What needs Lua
//! itself is refused when it is configured ([`Field::parse`]), so that no entry is ever sent with
//! a field that should have been changed.
//!
//! ```text
//! return "prod"      return nil      return { n = 1, list = { 1, 2 } }
//! return kong.request.get_header("user-agent") or "none"      return kong.client.get_ip()
//! return kong.request.get_method() .. " " .. kong.request.get_path()
//! ```
//! Source: Kong `kong/pdk/log.lua` (`set_serialize_value`: dots nest, `\.` is a dot); the Lua 5.1
//! manual for literals.

use super::document::{arguments, query};
use super::record::LogRecord;
use crate::event::Scheme;
use serde_json::{Map, Number, Value};

/// Most characters of one snippet.
const SNIPPET_BYTES_MAX: usize = 65_536;
/// Deepest nesting of tables.
const DEPTH_MAX: usize = 16;
/// Most parts that are joined or chosen from.
const PARTS_MAX: usize = 64;

/// One field that is set in every document of a plugin row.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    path: Vec<String>,
    value: Expression,
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Nil,
    Constant(Value),
    Ask(Ask),
    /// `a .. b`
    Joined(Vec<Expression>),
    /// `a or b`
    Either(Vec<Expression>),
}

/// What can be looked up.
#[derive(Debug, Clone, PartialEq)]
enum Ask {
    RequestHeader(String),
    ResponseHeader(String),
    Argument(String),
    Method,
    Path,
    PathWithQuery,
    RawQuery,
    Host,
    Port,
    Scheme,
    ClientIp,
    Status,
}

impl Field {
    /// Reads one pair of the map.
    ///
    /// # Errors
    /// One sentence: why the snippet cannot be used.
    pub fn parse(name: &str, snippet: &str) -> Result<Self, String> {
        let value = parse(snippet).map_err(|why| format!("{name}: {why}"))?;
        Ok(Self { path: path(name), value })
    }

    /// A field that is taken out of every document.
    pub fn absent(name: &str) -> Self {
        Self { path: path(name), value: Expression::Nil }
    }

    /// Sets the field in a document.
    pub(super) fn apply(&self, document: &mut Value, record: &LogRecord<'_>) {
        set(document, &self.path, self.value.value(record));
    }
}

impl Expression {
    /// None is `nil`.
    fn value(&self, record: &LogRecord<'_>) -> Option<Value> {
        match self {
            Self::Nil => None,
            Self::Constant(value) => Some(value.clone()),
            Self::Ask(ask) => ask.answer(record),
            Self::Joined(parts) => {
                let text = |part: &Self| match part.value(record)? {
                    Value::String(text) => Some(text),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                parts.iter().map(text).collect::<Option<String>>().map(Value::String)
            }
            Self::Either(parts) => {
                let mut values = parts.iter().map(|part| part.value(record));
                let is_true = |value: &Option<Value>| {
                    value.as_ref().is_some_and(|value| *value != Value::Bool(false))
                };
                values.find(is_true).unwrap_or_else(|| parts.last()?.value(record))
            }
        }
    }
}

/// The names of a path: dots nest, a dot behind a backslash is a dot.
fn path(name: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek(), names.last_mut()) {
            ('\\', Some('.'), Some(last)) => {
                last.push('.');
                characters.next();
            }
            ('.', ..) => names.push(String::new()),
            (other, _, Some(last)) => last.push(other),
            (_, _, None) => {}
        }
    }
    names
}

fn set(document: &mut Value, path: &[String], value: Option<Value>) {
    let Some((name, rest)) = path.split_first() else { return };
    let Value::Object(object) = document else { return };
    if rest.is_empty() {
        match value {
            Some(value) => object.insert(name.clone(), value),
            None => object.shift_remove(name),
        };
        return;
    }
    if value.is_none() && !object.contains_key(name) {
        return;
    }
    let inner = object.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        // A path through something that is no table replaces it, so that what should be gone is.
        *inner = Value::Object(Map::new());
    }
    set(inner, rest, value);
}

impl Ask {
    fn named(name: &str, argument: Option<String>) -> Option<Self> {
        Some(match (name, argument) {
            ("kong.request.get_header", Some(name)) => Self::RequestHeader(name),
            ("kong.response.get_header", Some(name)) => Self::ResponseHeader(name),
            ("kong.request.get_query_arg", Some(name)) => Self::Argument(name),
            ("kong.request.get_method", None) => Self::Method,
            ("kong.request.get_path" | "kong.request.get_raw_path", None) => Self::Path,
            ("kong.request.get_path_with_query", None) => Self::PathWithQuery,
            ("kong.request.get_raw_query", None) => Self::RawQuery,
            ("kong.request.get_host", None) => Self::Host,
            ("kong.request.get_port", None) => Self::Port,
            ("kong.request.get_scheme", None) => Self::Scheme,
            ("kong.client.get_ip" | "kong.client.get_forwarded_ip", None) => Self::ClientIp,
            ("kong.response.get_status", None) => Self::Status,
            _ => return None,
        })
    }

    fn answer(&self, record: &LogRecord<'_>) -> Option<Value> {
        let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
        Some(match self {
            Self::RequestHeader(name) => text(record.request_lines.get(&dashed(name))?),
            Self::ResponseHeader(name) => text(record.response_lines.get(&dashed(name))?),
            Self::Argument(name) => {
                let found = arguments(query(record));
                let found = found.iter().find(|(key, _)| **key == *name.as_bytes())?;
                found.1.as_ref().map_or(Value::Bool(true), |value| text(value))
            }
            Self::Method => text(record.method),
            Self::Path => text(record.target.split(|b| *b == b'?').next().unwrap_or_default()),
            Self::PathWithQuery => text(record.target),
            Self::RawQuery => text(record.target.splitn(2, |b| *b == b'?').nth(1)?),
            Self::Host => text(&record.host.to_ascii_lowercase()),
            Self::Port => Value::from(record.port),
            Self::Scheme => Value::from(match record.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            }),
            Self::ClientIp => Value::from(record.client_ip.to_string()),
            Self::Status => Value::from(record.status),
        })
    }
}

/// Lua code writes header names with underscores as well.
fn dashed(name: &str) -> Vec<u8> {
    name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte }).collect()
}

fn parse(snippet: &str) -> Result<Expression, String> {
    let needs_lua = "only `return` of a constant or of a kong.request, kong.response or \
                     kong.client look-up is supported: Lua is not built into this program";
    if snippet.len() > SNIPPET_BYTES_MAX {
        return Err(needs_lua.to_owned());
    }
    let mut from = Scan { rest: snippet };
    from.space();
    if from.rest.is_empty() {
        return Ok(Expression::Nil);
    }
    let read = from.word("return").and_then(|()| {
        from.space();
        if from.rest.is_empty() || from.rest.trim_end() == ";" {
            return Some(Expression::Nil);
        }
        let read = from.either()?;
        from.space();
        from.skip(";");
        from.space();
        from.rest.is_empty().then_some(read)
    });
    read.ok_or_else(|| needs_lua.to_owned())
}

/// One part stands for itself.
fn several(
    mut parts: Vec<Expression>,
    whole: fn(Vec<Expression>) -> Expression,
) -> Option<Expression> {
    match parts.len() {
        1 => parts.pop(),
        2..=PARTS_MAX => Some(whole(parts)),
        _ => None,
    }
}

/// The unread rest of a snippet.
struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// White space and comments to the end of a line.
    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with("--") || self.rest.starts_with("--[[") {
                return;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    /// Steps over a word that ends there.
    fn word(&mut self, word: &str) -> Option<()> {
        let rest = self.rest.strip_prefix(word)?;
        if rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    fn either(&mut self) -> Option<Expression> {
        let mut parts = vec![self.joined()?];
        while self.word("or").is_some() {
            parts.push(self.joined()?);
        }
        several(parts, Expression::Either)
    }

    /// Also steps over the space behind it.
    fn joined(&mut self) -> Option<Expression> {
        let mut parts = Vec::new();
        loop {
            self.space();
            parts.push(self.expression(0)?);
            self.space();
            if !self.skip("..") {
                return several(parts, Expression::Joined);
            }
        }
    }

    fn expression(&mut self, depth: usize) -> Option<Expression> {
        if depth > DEPTH_MAX {
            return None;
        }
        for (word, value) in [
            ("nil", Expression::Nil),
            ("true", Expression::Constant(Value::Bool(true))),
            ("false", Expression::Constant(Value::Bool(false))),
        ] {
            if self.word(word).is_some() {
                return Some(value);
            }
        }
        match self.rest.chars().next()? {
            '"' | '\'' => self.text().map(|text| Expression::Constant(text.into())),
            '{' => self.table(depth).map(Expression::Constant),
            '-' | '.' | '0'..='9' => self.number().map(Expression::Constant),
            _ => self.call().map(Expression::Ask),
        }
    }

    fn number(&mut self) -> Option<Value> {
        let negative = self.skip("-");
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let number = match hex {
            Some(hex) => i64::from_str_radix(hex, 16).ok()? as f64,
            None if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                digits.parse::<f64>().ok()?
            }
            None => return None,
        };
        let number = if negative { -number } else { number };
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
            return Some(Value::from(number as i64));
        }
        Number::from_f64(number).map(Value::Number)
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut characters = self.rest.char_indices().skip(1);
        let mut text = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(text);
                }
                '\n' => return None,
                '\\' => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    other @ ('\\' | '"' | '\'' | '.' | '/') => text.push(other),
                    // Digits and the rest of Lua's escapes make bytes, not characters.
                    _ => return None,
                },
                other => text.push(other),
            }
        }
        None
    }

    fn table(&mut self, depth: usize) -> Option<Value> {
        self.skip("{");
        let (mut list, mut object) = (Vec::new(), Map::new());
        loop {
            self.space();
            if self.skip("}") {
                break;
            }
            match self.key() {
                Some(name) => {
                    if let Some(value) = self.constant(depth)? {
                        object.insert(name, value);
                    }
                }
                // A hole in a list ends it in Lua: nobody means that.
                None => list.push(self.constant(depth)??),
            }
            self.space();
            if !self.skip(",") && !self.skip(";") && !self.rest.starts_with('}') {
                return None;
            }
        }
        if object.is_empty() && !list.is_empty() {
            return Some(Value::Array(list));
        }
        for (number, value) in list.into_iter().enumerate() {
            object.insert((number + 1).to_string(), value);
        }
        Some(Value::Object(object))
    }

    /// A value inside a table; the inner none is `nil`.
    fn constant(&mut self, depth: usize) -> Option<Option<Value>> {
        self.space();
        match self.expression(depth + 1)? {
            Expression::Nil => Some(None),
            Expression::Constant(value) => Some(Some(value)),
            Expression::Ask(_) | Expression::Joined(_) | Expression::Either(_) => None,
        }
    }

    /// `name =` or `["name"] =`, if that is what comes.
    fn key(&mut self) -> Option<String> {
        let mut ahead = Scan { rest: self.rest };
        let name = if ahead.skip("[") {
            ahead.space();
            let name = ahead.text()?;
            ahead.space();
            ahead.skip("]").then_some(name)?
        } else {
            ahead.name()?.to_owned()
        };
        ahead.space();
        if ahead.rest.starts_with("==") || !ahead.skip("=") {
            return None;
        }
        self.rest = ahead.rest;
        Some(name)
    }

    fn name(&mut self) -> Option<&'a str> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end)?;
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        self.rest = rest;
        Some(name)
    }

    fn call(&mut self) -> Option<Ask> {
        let name = self.name()?;
        self.space();
        if !self.skip("(") {
            return None;
        }
        self.space();
        let argument = if self.rest.starts_with(['"', '\'']) { Some(self.text()?) } else { None };
        self.space();
        if !self.skip(")") {
            return None;
        }
        Ask::named(name, argument)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{bytes_of, report};
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(fields: &[(&str, &str)], before: Value, after: Value) {
        let bytes = bytes_of(&report());
        let record = LogRecord::read(&bytes).unwrap();
        let mut document = before;
        for (name, snippet) in fields {
            Field::parse(name, snippet).unwrap().apply(&mut document, &record);
        }
        assert_eq!(document, after);
    }

    #[test]
    fn constants_set_nested_fields_and_nil_removes_them() {
        check(
            &[
                ("env", "return 'prod'"),
                ("request.extra", "return {n=1, list={1,2}}"),
                ("service", "return nil"),
                ("route.name", "return \"re\\\"named\"; -- why"),
                ("num", "return 1.5"),
                ("yes", "return true"),
                ("a\\.b", "return -2"),
                ("new.path", "return { [\"x y\"] = 'z', }"),
                ("not.there", "return nil"),
                ("empty", "return {}"),
                ("gone", "return"),
                ("status.deep", "return 1"),
            ],
            json!({"service": {}, "route": {"name": "r", "id": 1}, "request": {}, "gone": 1,
                   "status": 7}),
            json!({
                "route": {"name": "re\"named", "id": 1},
                "request": {"extra": {"n": 1, "list": [1, 2]}}, "env": "prod", "num": 1.5,
                "yes": true, "a.b": -2, "new": {"path": {"x y": "z"}}, "empty": {},
                "status": {"deep": 1},
            }),
        );
    }

    #[test]
    fn look_ups_read_the_record() {
        check(
            &[
                ("host", "return kong.request.get_header('HOST')"),
                ("none", "return kong.request.get_header(\"x-none\")"),
                ("ip", "return kong.client.get_ip()"),
                ("b", "return kong.request.get_query_arg('b')"),
                ("path", " return kong.request.get_path( ) "),
                ("status", "return kong.response.get_status()"),
                ("who", "return kong.request.get_header('x-none') or false or 'nobody' or 1"),
                ("line", "return kong.request.get_method() .. ' ' .. kong.request.get_port()"),
                ("gone", "return 'a' .. kong.request.get_header('x-none')"),
            ],
            json!({"none": "before", "gone": 1}),
            json!({"host": "127.0.0.1:8000", "ip": "127.0.0.1", "b": "2", "path": "/r",
                   "status": 200, "who": "nobody", "line": "GET 8000"}),
        );
    }

    proptest::proptest! {
        /// Whatever an operator writes is a field or a sentence.
        #[test]
        fn any_text_is_read(
            text in r#"(return )?[a-z0-9_.{}()\[\]"'\\,;= -]{0,40}"#,
            name in r"[a-z.\\]{0,12}",
        ) {
            let read = Field::parse(&name, &text);
            proptest::prop_assert!(read.is_ok() || read.is_err_and(|why| !why.is_empty()));
        }
    }

    #[test]
    fn what_needs_lua_is_refused() {
        for snippet in [
            "return (",
            "error('no')",
            "return 1 + 1",
            "return 'a' ..",
            "return 'a' or",
            "return 'a' orb 'c'",
            "return kong.request.get_header",
            "return kong.request.get_header()",
            "return kong.service.get()",
            "return os.time()",
            "local a = 1 return a",
            "return 'a",
            "return {1, nil, 2}",
            "return {f = kong.client.get_ip()}",
            "returns",
            "return 0x",
            "return nilly",
            &format!("return {}1{}", "{".repeat(40), "}".repeat(40)),
        ] {
            let fault = Field::parse("f", snippet).unwrap_err();
            assert!(fault.starts_with("f: only `return`"), "{snippet}: {fault}");
        }
    }
}
