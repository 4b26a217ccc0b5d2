//! Lists are given out in pages: `size`, `offset`, `tags`, and the `next` path.
//!
//! Source: Kong `kong/api/endpoints.lua`, `kong/db/dao/init.lua`, `kong/db/strategies/postgres`.

use super::Reply;
use super::form::pairs;
use crate::fault::{Fault, Kind};
use crate::value::Row;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use uuid::Uuid;

/// Rows of a page when the client does not say.
const PAGE_ROWS: usize = 100;
/// Most rows of a page.
const PAGE_ROWS_MAX: usize = 1000;
/// Most tags that one filter may name.
const FILTER_TAGS_MAX: usize = 5;

/// Without padding, as Kong writes offsets; reads both forms.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What `ngx.escape_uri` leaves alone.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The arguments of a query, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, Value)>);

impl Query {
    /// # Errors
    /// The answer to a query with too many arguments or with bytes that are no text.
    pub(super) fn read(query: &str) -> Result<Self, Reply> {
        Ok(Self(pairs(query.as_bytes())?))
    }

    /// The text of the argument of that name: empty where it has none, or is given more than once.
    pub(super) fn only(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let first = found.next()?;
        Some(if found.next().is_none() { first.as_str().unwrap_or_default() } else { "" })
    }

    /// The first argument of that name, if it has a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_str())
    }
}

/// Which rows of a list are asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    /// At most so many rows.
    pub(super) size: usize,
    /// The key of the last row of the page before.
    pub(super) after: Option<Vec<Value>>,
    /// Only rows with such tags.
    pub(super) tags: Option<TagFilter>,
}

impl Page {
    /// Reads `size`, `offset` and, where the entity has tags, `tags`.
    ///
    /// # Errors
    /// Codes 7, 9 and 11, in the order in which Kong looks: size, tags, offset.
    pub(super) fn read(query: &Query, tagged: bool) -> Result<Self, Fault> {
        let size = size_of(query)?;
        let tags = if tagged { tags_of(query)? } else { None };
        let after = query.text("offset").map(key).transpose()?;
        Ok(Self { size, after, tags })
    }

    /// The id that an offset of an ordinary entity names.
    ///
    /// # Errors
    /// Code 7 when the offset is another entity's.
    pub(super) fn after_id(&self) -> Result<Option<Uuid>, Fault> {
        let Some(key) = &self.after else { return Ok(None) };
        match key.as_slice() {
            [Value::String(id)] => Uuid::try_parse(id).map(Some).map_err(|_| strange(key)),
            _ => Err(strange(key)),
        }
    }
}

/// An offset that is well written and names no row of this list. (Kong answers 500.)
pub(super) fn strange(key: &[Value]) -> Fault {
    let words = format!("'{}' is not a valid offset: not a primary key", token(key));
    Fault::plain(Kind::InvalidOffset, words)
}

/// How many rows a page has.
///
/// # Errors
/// Code 9.
pub(super) fn size_of(query: &Query) -> Result<usize, Fault> {
    query.text("size").map_or(Ok(PAGE_ROWS), size)
}

/// How many rows a page of a list has whose sizes are clamped instead of refused.
///
/// # Errors
/// Code 9.
pub(super) fn clamped_size_of(query: &Query) -> Result<usize, Fault> {
    let Some(text) = query.text("size") else { return Ok(PAGE_ROWS) };
    Ok(number(text)?.clamp(0.0, PAGE_ROWS_MAX as f64) as usize)
}

/// Which tags are asked for, if any.
///
/// # Errors
/// Code 11.
pub(super) fn tags_of(query: &Query) -> Result<Option<TagFilter>, Fault> {
    query.text("tags").map(TagFilter::read).transpose()
}

/// Kong reads the number as Lua does: surrounding space, exponents and `0x` are fine.
fn size(text: &str) -> Result<usize, Fault> {
    let number = number(text)?;
    (1..=PAGE_ROWS_MAX).find(|&whole| whole as f64 == number).ok_or_else(|| {
        let words = format!("size must be an integer between 1 and {PAGE_ROWS_MAX}");
        Fault::plain(Kind::InvalidSize, words)
    })
}

fn number(text: &str) -> Result<f64, Fault> {
    lua_number(text).ok_or_else(|| Fault::plain(Kind::InvalidSize, "size must be a number"))
}

/// `tonumber` of Lua: decimal numbers, and whole ones after `0x`.
pub(super) fn lua_number(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return u32::from_str_radix(digits, 16).ok().filter(|_| is_hex).map(f64::from);
    }
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if digits && plain { text.parse().ok() } else { None }
}

fn key(token: &str) -> Result<Vec<Value>, Fault> {
    let fault = |why| {
        let words = format!("'{token}' is not a valid offset: bad {why} encoding");
        Fault::plain(Kind::InvalidOffset, words)
    };
    let bytes = BASE64.decode(token).map_err(|_| fault("base64"))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Array(key)) => Ok(key),
        _ => Err(fault("json")),
    }
}

/// The offset that stands for the row with this key.
pub(super) fn token(key: &[Value]) -> String {
    BASE64.encode(Value::Array(key.to_vec()).to_string())
}

/// The body of a list: its rows and, if there are more, where they begin.
///
/// `path` is what `next` begins with; `kept` are the arguments that it repeats.
pub(super) fn list(
    rows: &[Value],
    more: Option<&[Value]>,
    path: &str,
    kept: &[(&str, &str)],
) -> Value {
    let Some(key) = more else { return json!({ "data": rows, "next": null }) };
    let offset = token(key);
    let mut next = format!("{path}?offset={}", escaped(&offset));
    for (name, value) in kept {
        next.push_str(&format!("&{name}={}", escaped(value)));
    }
    json!({ "data": rows, "next": next, "offset": offset })
}

/// The arguments of a query that the `next` of a flat list repeats, in Kong's order.
pub(super) fn kept(query: &Query) -> Vec<(&str, &str)> {
    ["tags", "size"].iter().filter_map(|&name| Some((name, query.text(name)?))).collect()
}

/// A text as part of a path or query.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// `tags=a,b` asks for both, `tags=a/b` for either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TagFilter {
    /// Rows that have all of them.
    All(Vec<String>),
    /// Rows that have any of them.
    Any(Vec<String>),
}

impl TagFilter {
    /// # Errors
    /// Code 11.
    fn read(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err(refused("cannot be null"));
        }
        let separator = if text.contains('/') { '/' } else { ',' };
        let mixed = text.contains(',') && separator == '/';
        let listed = text.strip_suffix(separator).unwrap_or(text);
        let tags: Vec<_> = listed.split(separator).map(str::to_owned).collect();
        if mixed || tags.iter().any(|tag| tag.is_empty() || tag.chars().any(char::is_control)) {
            return Err(refused("invalid filter syntax"));
        }
        if tags.len() > FILTER_TAGS_MAX {
            return Err(refused("cannot query more than 5 tags"));
        }
        Ok(if separator == '/' { Self::Any(tags) } else { Self::All(tags) })
    }

    /// Whether a row is wanted.
    pub(super) fn wants_row(&self, row: &Row) -> bool {
        let own = row.list("tags");
        self.wants(|tag| own.iter().any(|known| known.as_text() == Some(tag)))
    }

    /// Whether a row with these tags is wanted.
    fn wants(&self, has: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::All(tags) => tags.iter().all(|tag| has(tag)),
            Self::Any(tags) => tags.iter().any(|tag| has(tag)),
        }
    }
}

fn refused(why: &str) -> Fault {
    Fault::invalid_option("tags", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(query: &str, code: u16, message: &str) {
        let query = Query::read(query).expect("few arguments");
        let fault = Page::read(&query, true).and_then(|page| page.after_id()).expect_err("refused");
        assert_eq!((fault.kind.code(), fault.message.as_str()), (code, message));
    }

    /// Source: `recorded/admin.jsonl` 45 to 48 and 163, suite `admin-misc`.
    #[test]
    fn bad_pages_are_refused_as_recorded() {
        for size in ["0", "1001", "1.5", "-1"] {
            refused(&format!("size={size}"), 9, "size must be an integer between 1 and 1000");
        }
        for size in ["abc", "", "inf", "nan"] {
            refused(&format!("size={size}"), 9, "size must be a number");
        }
        refused("offset=%21%21", 7, "'!!' is not a valid offset: bad base64 encoding");
        refused("offset=bad", 7, "'bad' is not a valid offset: bad json encoding");
        refused("offset=abcd", 7, "'abcd' is not a valid offset: bad json encoding");
        refused("offset=WzFd", 7, "'WzFd' is not a valid offset: not a primary key");
        refused("tags=x,y/z", 11, "invalid option (tags: invalid filter syntax)");
        refused("tags=", 11, "invalid option (tags: cannot be null)");
        refused("tags=a,b,c,d,e,f", 11, "invalid option (tags: cannot query more than 5 tags)");
    }

    #[test]
    fn offsets_are_those_of_kong() {
        let key = [json!("0cce57a9-45bf-47e5-8dcf-c73b6823b05f")];
        let offset = "WyIwY2NlNTdhOS00NWJmLTQ3ZTUtOGRjZi1jNzNiNjgyM2IwNWYiXQ";
        assert_eq!(token(&key), offset);
        let query = Query::read(&format!("size=2&offset={offset}&tags=a/b")).expect("readable");
        let page = Page::read(&query, true).expect("valid");
        assert_eq!(
            page.after_id(),
            Ok(Uuid::try_parse("0cce57a9-45bf-47e5-8dcf-c73b6823b05f").ok())
        );
        let body = list(&[], Some(&key), "/routes", &kept(&query));
        assert_eq!(body["next"], json!(format!("/routes?offset={offset}&tags=a%2Fb&size=2")));
        assert_eq!(list(&[], None, "/routes", &[]), json!({"data": [], "next": null}));
    }

    #[test]
    fn numbers_are_read_as_lua_reads_them() {
        assert_eq!(lua_number(" 80 "), Some(80.0));
        assert_eq!(lua_number("1e2"), Some(100.0));
        assert_eq!(lua_number("0x50"), Some(80.0));
        for text in ["", "x", "0x", "0x-1", "0x+1", "1 2"] {
            assert_eq!(lua_number(text), None, "{text}");
        }
    }

    #[test]
    fn one_value_is_told_from_none_and_several() {
        let query = Query::read("a=1&b&c=1&c=2&d=").expect("readable");
        let values = ["a", "b", "c", "d", "e"].map(|name| query.only(name));
        assert_eq!(values, [Some("1"), Some(""), Some(""), Some(""), None]);
    }

    #[test]
    fn tags_are_joined_by_and_or_by_or() {
        let wants = |text: &str| TagFilter::read(text).expect("valid").wants(|tag| tag == "a");
        assert!(wants("a") && wants("a,") && wants("a/b") && !wants("a,b") && !wants("b"));
    }

    proptest! {
        #[test]
        fn no_query_panics(query: String, offset: String) {
            for text in [query, format!("size={offset}&offset={offset}&tags={offset}")] {
                if let Ok(query) = Query::read(&text) {
                    let _ = Page::read(&query, true).and_then(|page| page.after_id());
                }
            }
        }
    }
}
