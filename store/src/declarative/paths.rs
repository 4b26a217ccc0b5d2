//! Documents of the formats 1.1 and 2.1: in their routes' paths a regular expression was known by
//! its letters; since 3.0 it begins with `~`.
//!
//! Source: Kong `kong/db/declarative/migrations/route_path.lua`,
//! `kong/db/migrations/migrate_path_280_300.lua`.

use serde_json::{Map, Value as Json, json};

/// Rewrites the paths of top-level routes, and of routes of top-level services.
pub(super) fn to_version_3(document: &mut Map<String, Json>) {
    let version = document.get("_format_version").and_then(Json::as_str);
    if !matches!(version, Some("1.1" | "2.1")) {
        return;
    }
    routes(document.get_mut("routes"));
    for service in items(document.get_mut("services")) {
        routes(service.get_mut("routes"));
    }
    document.insert("_format_version".to_owned(), json!("3.0"));
}

fn items(list: Option<&mut Json>) -> &mut [Json] {
    match list {
        Some(Json::Array(items)) => items,
        _ => &mut [],
    }
}

fn routes(list: Option<&mut Json>) {
    for route in items(list) {
        for path in items(route.get_mut("paths")) {
            if let Some(text) = path.as_str() {
                *path = rewritten(text).into();
            }
        }
    }
}

fn rewritten(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~/%".contains(&byte);
    if path.bytes().all(plain) {
        return normal(path);
    }
    format!("~{}", decoded(path, true))
}

/// Percent signs are taken apart where they must not stay; dots and double slashes go.
fn normal(path: &str) -> String {
    let decoded = decoded(path, false);
    let mut kept: Vec<&str> = Vec::new();
    let closed = ["/", "/.", "/.."].iter().any(|end| decoded.ends_with(end));
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if !decoded.starts_with('/') {
        return decoded;
    }
    let end = if closed && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// What RFC 3986 reserves keeps its percent sign; the rest is what it stands for, escaped where
/// it would mean something to a regular expression.
fn decoded(path: &str, regex: bool) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.filter(|_| *byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(code) = code else {
            out.push(*byte);
            at += 1;
            continue;
        };
        at += 3;
        if b"!#$%&'()*+,/:;=?@[]".contains(&code) || !regex && !code.is_ascii() {
            out.extend_from_slice(format!("%{code:02X}").as_bytes());
        } else {
            if regex && b".^-{}\\|".contains(&code) {
                out.push(b'\\');
            }
            out.push(code);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let mut document = Map::new();
        document.insert("_format_version".to_owned(), json!("2.1"));
        document.insert("routes".to_owned(), json!([{"paths": [path]}]));
        document.insert("services".to_owned(), json!([{"routes": [{"paths": [path]}]}, 1]));
        to_version_3(&mut document);
        assert_eq!(document["_format_version"], "3.0");
        assert_eq!(document["routes"][0]["paths"][0], expected);
        assert_eq!(document["services"][0]["routes"][0]["paths"][0], expected);
    }

    #[test]
    fn old_paths_say_what_they_are() {
        check("/a/b", "/a/b");
        check("/a/%62/../c//d/", "/a/c/d/");
        check("/a%2fb", "/a%2Fb");
        check("/", "/");
        check("/a(b)", "~/a(b)");
        check(r"/v\d+", r"~/v\d+");
        check("/(%2e%2f%61)", r"~/(\.%2Fa)");
    }
}
