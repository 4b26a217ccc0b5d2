//! `multipart/form-data` bodies, as `curl -F` sends them.
//!
//! Source: RFC 7578; Kong `kong/api/api_helpers.lua`, `parse_multipart`.

use super::ADMIN_ARGUMENTS_MAX;
use super::form::Unreadable;
use serde_json::Value;

/// RFC 2046 allows 70; a little more does no harm.
const BOUNDARY_BYTES_MAX: usize = 200;

/// The parts of a body as arguments: files count as their content; a part of type
/// `application/json` is decoded.
///
/// # Errors
/// Any [`Unreadable`] but `TooDeep`.
pub(super) fn pairs(content_type: &str, body: &[u8]) -> Result<Vec<(String, Value)>, Unreadable> {
    let boundary = parameter(content_type, "boundary").ok_or(Unreadable::NoParts)?;
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
        return Err(Unreadable::NoParts);
    }
    let delimiter = format!("--{boundary}").into_bytes();
    let mut found = Vec::new();
    let mut rest = after_delimiter(body, &delimiter).ok_or(Unreadable::NoParts)?.1;
    while !rest.starts_with(b"--") {
        let (part, behind) = after_delimiter(rest, &delimiter).ok_or(Unreadable::NoParts)?;
        if found.len() == ADMIN_ARGUMENTS_MAX {
            return Err(Unreadable::TooMany);
        }
        found.extend(argument(part)?);
        rest = behind;
    }
    Ok(found)
}

/// What stands before the next delimiter line (without its line break) and what behind it.
fn after_delimiter<'a>(body: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    loop {
        let line = body.get(from..)?;
        if line.starts_with(delimiter) {
            let before = body.get(..from)?;
            let before = before.strip_suffix(b"\n").unwrap_or(before);
            let before = before.strip_suffix(b"\r").unwrap_or(before);
            return Some((before, line.get(delimiter.len()..)?));
        }
        from += line.iter().position(|&byte| byte == b'\n')? + 1;
    }
}

/// One part as an argument; nothing if it has no name.
fn argument(part: &[u8]) -> Result<Option<(String, Value)>, Unreadable> {
    let (head, content) = split_head(part).ok_or(Unreadable::NoParts)?;
    let head = std::str::from_utf8(head).map_err(|_| Unreadable::NotText)?;
    let line = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let Some(name) = line("content-disposition").and_then(|line| parameter(line, "name")) else {
        return Ok(None);
    };
    let is_json = line("content-type").is_some_and(|kind| media_type(kind) == "application/json");
    let value = if is_json {
        serde_json::from_slice(content).map_err(|_| Unreadable::NotJson)?
    } else {
        Value::String(String::from_utf8(content.to_vec()).map_err(|_| Unreadable::NotText)?)
    };
    Ok(Some((name, value)))
}

/// The header lines of a part and its content.
fn split_head(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut from = part.iter().position(|&byte| byte == b'\n')? + 1;
    loop {
        let line = part.get(from..)?;
        let end = line.iter().position(|&byte| byte == b'\n')?;
        if matches!(line.get(..end)?, b"" | b"\r") {
            return Some((part.get(..from)?, line.get(end + 1..)?));
        }
        from += end + 1;
    }
}

/// The type without its parameters, in lower case.
pub(super) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A parameter of a header value, without quotes.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (text, behind) = token(after);
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = behind.split_once(';')?.1;
    }
}

/// A quoted or bare value at the start of `text`, and what is behind it.
fn token(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (bare, behind) = text.split_at(end);
        return (bare.trim().to_owned(), behind);
    };
    let mut found = String::new();
    let mut symbols = quoted.char_indices();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '"' => return (found, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => found.extend(symbols.next().map(|(_, escaped)| escaped)),
            plain => found.push(plain),
        }
    }
    (found, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    #[track_caller]
    fn check(body: &str, expected: &[(&str, Value)]) {
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(pairs(TYPE, body.as_bytes()), Ok(expected), "{body}");
    }

    #[test]
    fn parts_are_arguments() {
        check(
            "--XX\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nmp\r\n\
             --XX\r\nContent-Disposition: form-data; name=\"url\"\r\n\r\nhttp://a:81/x\r\n--XX--\r\n",
            &[("name", json!("mp")), ("url", json!("http://a:81/x"))],
        );
        check(
            "preamble\r\n--XX\r\ncontent-disposition: form-data; filename=\"a;b.pem\"; name=cert\r\n\
             Content-Type: application/octet-stream\r\n\r\nline 1\r\nline 2\r\n\r\n--XX--",
            &[("cert", json!("line 1\r\nline 2\r\n"))],
        );
        check(
            "--XX\nContent-Disposition: form-data; name=\"a\\\"b\"\nContent-Type: application/json\n\n\
             {\"x\": 1}\n--XX--",
            &[("a\"b", json!({"x": 1}))],
        );
        check(
            "--XX\r\nContent-Disposition: form-data; name=e\r\n\r\n\r\n--XX--",
            &[("e", json!(""))],
        );
        check("--XX--", &[]);
    }

    #[test]
    fn a_body_that_breaks_off_is_refused() {
        for body in [
            "",
            "--XX",
            "--XY--",
            "--XX\r\n",
            "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nb",
            "--XX\r\nContent-Disposition: form-data; name=a\r\n--XX--",
        ] {
            assert_eq!(pairs(TYPE, body.as_bytes()), Err(Unreadable::NoParts), "{body}");
        }
        assert_eq!(pairs("multipart/form-data", b"--XX--"), Err(Unreadable::NoParts));
        let part = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n";
        let many = part.repeat(ADMIN_ARGUMENTS_MAX + 1) + "--XX--";
        assert_eq!(pairs(TYPE, many.as_bytes()), Err(Unreadable::TooMany));
    }

    proptest! {
        #[test]
        fn no_body_panics(kind in "multipart/form-data; ?[a-z]{0,8}=?\"?[X;\"\\\\]{0,4}", body in "(--XX|\r\n|\n|name=a|[:;\"-]|Content-Disposition|é){0,30}") {
            let _ = pairs(&kind, body.as_bytes());
            let _ = pairs(TYPE, body.as_bytes());
        }
    }
}
