//! Texts with `$(…)` look-ups, as request-transformer has them.
//!
//! Kong runs what stands in the parentheses as Lua. Here it is a small language of its own, which
//! cannot loop, allocate without bound or reach anything but the request:
//! ```text
//!   expr  = or;  or = and {"or" and};  and = equal {"and" equal}
//!   equal = join [("==" | "~=") join];  join = unary {".." unary};  unary = "not" unary | value
//!   value = text | number | "nil" | "true" | "false" | "type" "(" expr ")" | "(" expr ")" | look
//!   look  = ("headers" | "query_params" | "uri_captures" | "shared") {"." name | "[" expr "]"}
//! ```
//! Whatever goes beyond is a fault of the configuration. Where Lua would fail while it runs (an
//! index into nothing, two dots behind nothing), the empty text takes the place.
//!
//! Source: Kong `kong/plugins/request-transformer/access.lua`, Penlight `pl/template.lua` (how a
//! text is split, and that nothing is rendered as the empty text).

mod parse;

use std::borrow::Cow;

use runtime::http::head::Fields;
use smallvec::SmallVec;

use super::{Captures, lines, lua, query};

/// A compiled text.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Box<[Part]>);

/// A piece of a text.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<[u8]>),
    Look(Expr),
}

/// What stands in the parentheses.
#[derive(Clone, Debug, PartialEq)]
enum Expr {
    Nil,
    Flag(bool),
    Number(f64),
    Text(Box<[u8]>),
    Root(Root),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Type(Box<Expr>),
    Pair(Pair, Box<Expr>, Box<Expr>),
}

/// The operators between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    Or,
    And,
    Equal,
    Unequal,
    Join,
}

/// Where a look-up begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Headers,
    QueryParams,
    UriCaptures,
    Shared,
}

/// The one name in `shared` that bundled plugins set; Lua, which could set others, is not built.
const JWT: &[u8] = b"authenticated_jwt_token";

/// What look-ups see.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The request's header lines.
    pub headers: &'a Fields,
    /// The query without its question mark.
    pub query: &'a [u8],
    /// What the route's regular expression took.
    pub captures: &'a Captures,
    /// The JSON Web Token that was accepted: all that bundled plugins share.
    pub jwt: Option<&'a [u8]>,
}

/// What an expression is worth.
#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Nil,
    Flag(bool),
    Number(f64),
    Text(Cow<'a, [u8]>),
    /// Several values of one name.
    List(SmallVec<[Cow<'a, [u8]>; 2]>),
    Root(Root),
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with the first expression that is, in one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::text(text)
    }

    /// Whether there is anything to look up.
    pub fn looks(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Look(_)))
    }

    /// Whether it looks at the groups of the route's regular expression.
    pub fn looks_at_captures(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Look(expr) if expr.has(Root::UriCaptures)))
    }

    /// The text for one request.
    pub fn render(&self, sight: &Sight<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Look(expr) => out.extend_from_slice(&expr.value(sight).text()),
            }
        }
        out
    }
}

impl Expr {
    fn has(&self, root: Root) -> bool {
        match self {
            Self::Root(own) => *own == root,
            Self::Not(inner) | Self::Type(inner) => inner.has(root),
            Self::Index(a, b) | Self::Pair(_, a, b) => a.has(root) || b.has(root),
            Self::Nil | Self::Flag(_) | Self::Number(_) | Self::Text(_) => false,
        }
    }

    fn value<'a>(&'a self, sight: &Sight<'a>) -> Value<'a> {
        match self {
            Self::Nil => Value::Nil,
            Self::Flag(flag) => Value::Flag(*flag),
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Root(root) => Value::Root(*root),
            Self::Index(table, key) => table.value(sight).index(&key.value(sight), sight),
            Self::Not(inner) => Value::Flag(!inner.value(sight).holds()),
            Self::Type(inner) => Value::Text(Cow::Borrowed(inner.value(sight).kind())),
            Self::Pair(pair, a, b) => {
                let a = a.value(sight);
                match pair {
                    Pair::Or if a.holds() => a,
                    Pair::And if !a.holds() => a,
                    Pair::Or | Pair::And => b.value(sight),
                    Pair::Equal => Value::Flag(a == b.value(sight)),
                    Pair::Unequal => Value::Flag(a != b.value(sight)),
                    Pair::Join => {
                        let joined = [&*a.text(), &*b.value(sight).text()].concat();
                        Value::Text(Cow::Owned(joined))
                    }
                }
            }
        }
    }
}

impl<'a> Value<'a> {
    /// Lua's truth: all but nil and false.
    fn holds(&self) -> bool {
        !matches!(self, Self::Nil | Self::Flag(false))
    }

    fn kind(&self) -> &'static [u8] {
        match self {
            Self::Nil => b"nil",
            Self::Flag(_) => b"boolean",
            Self::Number(_) => b"number",
            Self::Text(_) => b"string",
            Self::List(_) | Self::Root(_) => b"table",
        }
    }

    /// As it is rendered; several values stand behind each other with commas.
    fn text(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Nil | Self::Flag(false) | Self::Root(_) => Cow::Borrowed(b""),
            Self::Flag(true) => Cow::Borrowed(b"true"),
            Self::Number(number) => Cow::Owned(lua::number(*number).into_bytes()),
            Self::Text(text) => Cow::Borrowed(text),
            Self::List(texts) => Cow::Owned(texts.join(&b", "[..])),
        }
    }

    fn index(&self, key: &Self, sight: &Sight<'a>) -> Self {
        match (self, key) {
            (Self::Root(Root::Headers), Self::Text(name)) => header(sight.headers, name),
            (Self::Root(Root::QueryParams), Self::Text(name)) => argument(sight.query, name),
            (Self::Root(Root::Shared), Self::Text(name)) if **name == *JWT => {
                sight.jwt.map_or(Self::Nil, |token| Self::Text(Cow::Borrowed(token)))
            }
            (Self::Root(Root::UriCaptures), Self::Text(name)) => {
                sight.captures.named(name).map_or(Self::Nil, |text| Self::Text(Cow::Borrowed(text)))
            }
            (Self::Root(Root::UriCaptures), Self::Number(number)) => {
                let found = place(*number).and_then(|place| sight.captures.numbered(place));
                found.map_or(Self::Nil, |text| Self::Text(Cow::Borrowed(text)))
            }
            (Self::List(texts), Self::Number(number)) => {
                let found = place(*number).and_then(|place| texts.get(place.checked_sub(1)?));
                found.map_or(Self::Nil, |text| Self::Text(text.clone()))
            }
            _ => Self::Nil,
        }
    }

    fn of_all(texts: impl Iterator<Item = Cow<'a, [u8]>>) -> Self {
        let mut texts: SmallVec<[_; 2]> = texts.collect();
        match texts.len() {
            0 => Self::Nil,
            1 => texts.pop().map_or(Self::Nil, Self::Text),
            _ => Self::List(texts),
        }
    }
}

fn place(number: f64) -> Option<usize> {
    (number.fract() == 0.0 && (0.0..1e6).contains(&number)).then_some(number as usize)
}

/// A header's values. The name may have `_` for `-`.
fn header<'a>(fields: &'a Fields, name: &[u8]) -> Value<'a> {
    let Ok(name) = std::str::from_utf8(name) else { return Value::Nil };
    Value::of_all(fields.all(&lines::spelled(fields, name)).map(Cow::Borrowed))
}

/// An argument's values; one without `=` is true.
fn argument<'a>(query: &'a [u8], name: &[u8]) -> Value<'a> {
    let is = |part: &&[u8]| {
        let key = part.split(|byte| *byte == b'=').next().unwrap_or(part);
        !part.is_empty() && *query::decoded(key) == *name
    };
    let mut parts = query.split(|byte| *byte == b'&').filter(is);
    let value = |part: &'a [u8]| {
        let mark = memchr::memchr(b'=', part)?;
        part.get(mark + 1..).map(query::decoded)
    };
    match (parts.next(), parts.next()) {
        (None, _) => Value::Nil,
        (Some(only), None) => value(only).map_or(Value::Flag(true), Value::Text),
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(parts);
            Value::of_all(all.map(|part| value(part).unwrap_or(Cow::Borrowed(b"true"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers() -> Fields {
        let mut fields = Fields::default();
        for (name, value) in
            [("Host", "h.example"), ("User-Agent", "ua/1"), ("X-B", "bb"), ("X-Two", "1")]
        {
            assert!(fields.add(name, value));
        }
        assert!(fields.add("x-two", "2"));
        fields
    }

    fn rendered(text: &str) -> Result<String, String> {
        let mut captures = Captures::default();
        captures.push(None, Some(b"/u/42/x"));
        captures.push(Some("id"), Some(b"42"));
        captures.push(None, None);
        let headers = headers();
        let sight = Sight {
            headers: &headers,
            query: b"q=7&a=x%20y&flag&two=1&two=2",
            captures: &captures,
            jwt: Some(b"h.p.s"),
        };
        Ok(String::from_utf8(Template::parse(text)?.render(&sight)).unwrap())
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(rendered(text), Ok(expected.to_owned()), "{text}");
    }

    #[test]
    fn what_is_no_look_up_stays() {
        for text in ["", "100%", "$", "$x", "$ (x)", "a)b(", "$(unclosed", "#not a comment", "a$("]
        {
            check(text, text);
        }
        check("$$(headers.x_b)", "$bb");
    }

    #[test]
    fn look_ups_see_the_request() {
        check("$(headers.host)", "h.example");
        check("$(headers['user-agent'])", "ua/1");
        check("$(headers[\"User-Agent\"])", "ua/1");
        check("pre-$(headers.x_b)-post", "pre-bb-post");
        check("$(headers.none)", "");
        check("$(query_params.q)", "7");
        check("$(query_params['a'])", "x y");
        check("$(query_params.flag)", "true");
        check("$(uri_captures.id)/$(uri_captures[1])", "42/42");
        check("$(uri_captures[0])$(uri_captures[2])$(uri_captures[9])", "/u/42/x");
        check("$(shared.v)", "");
        check("$('Bearer ' .. shared.authenticated_jwt_token)", "Bearer h.p.s");
        check("$(headers)", "");
    }

    #[test]
    fn several_values_are_a_list() {
        check("$(headers.x_two)", "1, 2");
        check("$(headers.x_two[2])", "2");
        check("$(headers.x_two[3])$(headers.x_two[0])", "");
        check("$(query_params.two[1])", "1");
        check("$(type(headers.x_two) == 'table' and headers.x_two[1] or headers.x_two)", "1");
        check(
            "$(type(headers.x_b) .. type(nil) .. type(1) .. type(true))",
            "stringnilnumberboolean",
        );
    }

    #[test]
    fn operators_are_those_of_lua() {
        check("$(query_params.none or 'none')", "none");
        check("$(headers.x_b and 1 or 2)", "1");
        check("$(headers.none and 1 or 2)", "2");
        check("$(not headers.none)", "true");
        check("$(not not headers.none)", "");
        check("$(headers.x_b == 'bb')", "true");
        check("$(headers.x_b ~= \"bb\" or 'same')", "same");
        check("$((headers.none or headers.x_b) .. '!' .. 1.5)", "bb!1.5");
        check("$(nil or false or 0)", "0");
        check("$('a\\'b\\\\' .. \"\\t\")", "a'b\\\t");
        check("$(headers.a.b.c or 'x')", "x");
    }

    #[test]
    fn what_goes_beyond_is_refused() {
        for (text, words) in [
            (
                "$(string.upper(headers.x))",
                "'string' is none of headers, query_params, uri_captures, shared",
            ),
            ("$((function() return 1 end)())", "'function' is none of"),
            ("$(headers.x:upper())", "':' is not understood"),
            ("$(headers.x + 1)", "'+' is not understood"),
            ("$(1 < 2)", "'<' is not understood"),
            ("$(headers.)", "a name is missing"),
            ("$(headers[1)", "']' is missing"),
            ("$()", "there is no value"),
            ("$('a)", "a text has no end"),
            ("$(headers.x headers.y)", "'headers' is not understood"),
            ("$(headers(1))", "'(' is not understood"),
            ("$(os)", "'os' is none of"),
            ("$([[x]])", "'[' is not understood"),
            ("$(#headers)", "'#' is not understood"),
        ] {
            let found = rendered(text).unwrap_err();
            assert!(found.contains(words), "{text}: {found}");
        }
        let deep = format!("$({}1{})", "(".repeat(100), ")".repeat(100));
        assert!(rendered(&deep).unwrap_err().contains("too deep"));
        let long = format!("$(1{})", " or 1".repeat(5_000));
        assert!(rendered(&long).unwrap_err().contains("too long"));
        let nots = format!("$({} 1)", "not ".repeat(5_000));
        assert!(rendered(&nots).unwrap_err().contains("too"));
        let dots = format!("$(headers{})", ".a".repeat(5_000));
        assert!(rendered(&dots).unwrap_err().contains("too"));
    }

    #[test]
    fn what_is_looked_at_is_known() {
        let at = |text| Template::parse(text).unwrap();
        assert!(!at("a$b").looks());
        assert!(at("$(headers.a)").looks() && !at("$(headers.a)").looks_at_captures());
        assert!(at("a$(not (1 or type(uri_captures['x'])))").looks_at_captures());
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[$()a-z.'\"\\[\\]0-9 =~-]{0,60}") {
            let _either = rendered(&text);
        }

        #[test]
        fn no_expression_is_too_much(
            words in prop::collection::vec(prop::sample::select(vec![
                "headers", "query_params", "uri_captures", "shared", ".", "x_b", "[", "]", "'a'",
                "1", "or", "and", "not", "==", "~=", "..", "(", ")", "type", "nil", "true", "-",
            ]), 0..24),
        ) {
            let _either = rendered(&format!("$({})", words.join(" ")));
        }
    }
}
