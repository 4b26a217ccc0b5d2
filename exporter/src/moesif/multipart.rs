//! Multipart forms under masks: parts of masked names go, JSON in a part is masked as JSON is.
//!
//! Strict on purpose: a form that two readers may read differently is not read at all, and its
//! body is left out.
//!
//! Source: RFC 7578 and RFC 2046; browsers write a quote in a name as `%22`.

use super::json;
use super::query::is_form_masked;
use memchr::memmem::find;

/// Longest boundary in bytes (RFC 2046).
const BOUNDARY_BYTES_MAX: usize = 70;

/// The form cannot be read without doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotReadable;

/// Appends the form `body` of the type `kind` without what `masks` name. If nothing of it is
/// named, it is byte for byte the same. On a fault nothing is appended.
///
/// # Errors
/// There is no boundary, something stands outside of the parts, a part has no plain name or is
/// encoded, or the JSON in one cannot be read.
pub fn push_multipart(
    out: &mut Vec<u8>,
    body: &[u8],
    kind: &[u8],
    masks: &[String],
) -> Result<(), NotReadable> {
    let start = out.len();
    let pushed = push_parts(out, body, kind, masks);
    if pushed != Ok(Changed(true)) {
        out.truncate(start);
    }
    if pushed? == Changed(false) {
        out.extend_from_slice(body);
    }
    // A text in a part may have a key in it, as any text.
    if json::names_member(out.get(start..).unwrap_or_default(), masks) {
        out.truncate(start);
        return Err(NotReadable);
    }
    Ok(())
}

/// Whether anything was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Changed(bool);

fn push_parts(
    out: &mut Vec<u8>,
    body: &[u8],
    kind: &[u8],
    masks: &[String],
) -> Result<Changed, NotReadable> {
    let boundary = boundary(kind).ok_or(NotReadable)?;
    let first = [b"--", boundary.as_slice()].concat();
    let limit = [b"\r\n", first.as_slice()].concat();
    let mut rest = body.strip_prefix(b"\r\n").unwrap_or(body);
    rest = rest.strip_prefix(first.as_slice()).ok_or(NotReadable)?;
    let mut changed = Changed(false);
    loop {
        if let Some(behind) = rest.strip_prefix(b"--") {
            out.extend_from_slice(&first);
            out.extend_from_slice(b"--\r\n");
            return if behind.trim_ascii().is_empty() { Ok(changed) } else { Err(NotReadable) };
        }
        let padded = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = rest.get(padded..).and_then(|rest| rest.strip_prefix(b"\r\n")).ok_or(NotReadable)?;
        let end = find(rest, &limit).ok_or(NotReadable)?;
        let (part, behind) = rest.split_at_checked(end).ok_or(NotReadable)?;
        rest = behind.get(limit.len()..).ok_or(NotReadable)?;
        let (head, content) = split(part)?;
        if is_form_masked(&name(head)?, masks) {
            changed = Changed(true);
            continue;
        }
        out.extend_from_slice(&first);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(head);
        out.extend_from_slice(b"\r\n\r\n");
        changed.0 |= push_content(out, content, masks)?;
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends what a part holds; true if something was taken away.
fn push_content(out: &mut Vec<u8>, content: &[u8], masks: &[String]) -> Result<bool, NotReadable> {
    let start = out.len();
    if json::opens(content) {
        json::push_masked(out, content, masks).map_err(|_| NotReadable)?;
        return Ok(out.get(start..) != Some(content));
    }
    out.extend_from_slice(content);
    Ok(false)
}

/// Head and content of a part.
fn split(part: &[u8]) -> Result<(&[u8], &[u8]), NotReadable> {
    let end = find(part, b"\r\n\r\n").ok_or(NotReadable)?;
    Ok((part.get(..end).unwrap_or_default(), part.get(end + 4..).unwrap_or_default()))
}

/// The one name of a part whose content is as it stands there.
fn name(head: &[u8]) -> Result<Vec<u8>, NotReadable> {
    let mut name = None;
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':').ok_or(NotReadable)?;
        let (field, value) = line.split_at_checked(colon).ok_or(NotReadable)?;
        if !field.iter().all(|byte| byte.is_ascii_graphic()) {
            // A line that goes on, or no line of a head at all.
            return Err(NotReadable);
        }
        let value = value.get(1..).unwrap_or_default();
        let plain = [&b"binary"[..], b"8bit", b"7bit"];
        if field.eq_ignore_ascii_case(b"content-transfer-encoding")
            && !plain.iter().any(|plain| value.trim_ascii().eq_ignore_ascii_case(plain))
        {
            return Err(NotReadable);
        }
        if field.eq_ignore_ascii_case(b"content-disposition")
            && name.replace(parameter(value, b"name").ok_or(NotReadable)?).is_some()
        {
            return Err(NotReadable);
        }
    }
    name.ok_or(NotReadable)
}

fn boundary(kind: &[u8]) -> Option<Vec<u8>> {
    let found = parameter(kind, b"boundary")?;
    (1..=BOUNDARY_BYTES_MAX).contains(&found.len()).then_some(found)
}

/// The value of a parameter behind a semicolon, without its quotes; `None` if there is not exactly
/// one, or a backslash makes it doubtful where one ends.
fn parameter(value: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let first = value.iter().position(|byte| *byte == b';')?;
    let mut rest = value.get(first..)?;
    while let Some(behind) = rest.trim_ascii_start().strip_prefix(b";") {
        let behind = behind.trim_ascii_start();
        let name_len = behind.iter().position(|byte| matches!(byte, b'=' | b';'));
        let (name, value) = behind.split_at_checked(name_len.unwrap_or(behind.len()))?;
        let (text, after) = match value.strip_prefix(b"=") {
            Some(value) => quoted_or_token(value)?,
            None => (&b""[..], value),
        };
        let name = name.trim_ascii();
        // `name*` is the same name in another coding (RFC 5987).
        if name.strip_suffix(b"*").is_some_and(|name| name.eq_ignore_ascii_case(wanted)) {
            return None;
        }
        if name.eq_ignore_ascii_case(wanted) && found.replace(text.to_vec()).is_some() {
            return None;
        }
        rest = after;
    }
    found.filter(|_| rest.trim_ascii().is_empty())
}

/// A value and what stands behind it.
fn quoted_or_token(value: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(quoted) = value.strip_prefix(b"\"") {
        let end = quoted.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (text, behind) = quoted.split_at_checked(end)?;
        return Some((text, behind.strip_prefix(b"\"")?));
    }
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let (text, behind) = value.split_at_checked(end)?;
    Some((text.trim_ascii(), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &[u8] = b"multipart/form-data; charset=utf-8; boundary=\"xx\"";

    /// A form of these parts: what stands behind `form-data`, and the content.
    fn form(parts: &[(&str, &str)]) -> String {
        let parts = parts.iter().map(|(head, content)| {
            format!("--xx\r\nContent-Disposition: form-data{head}\r\n\r\n{content}\r\n")
        });
        parts.collect::<String>() + "--xx--\r\n"
    }

    #[track_caller]
    fn check(kind: &[u8], body: &str, expected: Option<&str>) {
        let mut out = b"before".to_vec();
        let masks = ["pin".to_owned(), "key".to_owned()];
        let pushed = push_multipart(&mut out, body.as_bytes(), kind, &masks);
        assert_eq!(pushed.is_ok(), expected.is_some(), "{body}");
        let found = String::from_utf8(out.split_off(6)).unwrap();
        assert_eq!(found, expected.unwrap_or_default());
    }

    #[test]
    fn parts_of_masked_names_go() {
        let kept = ("; name=\"a\"; filename=\"x; name=pin\"\r\nContent-Type: image/png", "\r\n\0");
        let all = form(&[("; name=\"pin\"", "1"), kept, ("; name=user[key]", "2")]);
        check(KIND, &all, Some(&form(&[kept])));
        check(KIND, &form(&[("; name=pins", "1")]), Some(&form(&[("; name=pins", "1")])));
        check(KIND, &form(&[("; name=\"p%69n\"", "1")]), Some("--xx--\r\n"));
        let odd = "\r\n--xx \r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--xx--\r\n\r\n";
        check(KIND, odd, Some(odd));
        check(KIND, "--xx--", Some("--xx--"));
    }

    #[test]
    fn json_in_a_part_is_masked() {
        let part = |json: &str| form(&[("; name=a\r\nContent-Type: application/json", json)]);
        check(KIND, &part(r#"{"pin":1,"b":{"key":2}}"#), Some(&part(r#"{"b":{}}"#)));
        check(KIND, &part(r#"{"b":[ 1 ]}"#), Some(&part(r#"{"b":[ 1 ]}"#)));
        check(KIND, &part(r#"{"pin":1"#), None);
        check(KIND, &part("data: {\"pin\" : 1}"), None);
    }

    #[test]
    fn what_is_doubtful_is_not_read() {
        let good = form(&[("; name=a", "1")]);
        for kind in [&b"multipart/form-data"[..], b"multipart/form-data; boundary=", b"a; b=\"x"] {
            check(kind, &good, None);
        }
        check(b"multipart/form-data; boundary=xx; boundary=y", &good, None);
        for head in [
            "",
            "; filename=a",
            "; name=a; name=pin",
            "; name=\"a\\\"",
            "; name=\"a",
            "; name=a\r\n folded",
            "; name=a\r\nContent-Transfer-Encoding: base64",
            "; name=a\r\nContent-Disposition: form-data; name=pin",
            "; name*=utf-8''pin",
            "; name=\"a\"x",
            "; name=a\r\nno line",
        ] {
            check(KIND, &form(&[(head, "1")]), None);
        }
        check(KIND, &format!("pin {good}"), None);
        check(KIND, &format!("{good}pin"), None);
        check(KIND, good.trim_end_matches("--xx--\r\n"), None);
        check(KIND, &good.replace("\r\n", "\n"), None);
        check(KIND, &good.replace("\r\n\r\n", "\r\n"), None);
    }
}
