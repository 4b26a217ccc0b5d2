//! response-transformer: changes header lines and JSON bodies on their way to the client.
//!
//! In this order: remove, rename, replace, add, append. Without a rule for the body it streams on
//! untouched; with one, a JSON body is held until its end. Its members are those of the top level,
//! and what lies deeper keeps its text: numbers keep their digits, which Kong's do not.
//!
//! Source: Kong `kong/plugins/response-transformer/{schema,handler,header_transformer,
//! body_transformer}.lua`; recorded cases of the suite `plugins-transform`.

mod schema;

use std::sync::Arc;

use runtime::buffers::Piece;
use runtime::http::head::Fields;
use smallvec::SmallVec;

use crate::pdk::json::{Object, quoted};
use crate::pdk::media::Media;
use crate::pdk::{
    Config, Exchange, Fault, Phase, Plugin, Prepared, ResponseBody, Spec, gather, lua,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::HeaderFilter, Phase::BodyFilter],
    entities: &[],
    endpoints: &[],
    prepare,
};

/// A larger body streams on as it is.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A name, and a value or another name.
type Pair<T> = (String, T);

/// What is done to header lines.
#[derive(Debug)]
struct Headers {
    remove: Vec<String>,
    rename: Vec<Pair<String>>,
    replace: Vec<Pair<String>>,
    add: Vec<Pair<String>>,
    append: Vec<Pair<String>>,
}

/// What is done to a JSON body; values are JSON already.
#[derive(Debug)]
struct Members {
    remove: Vec<String>,
    rename: Vec<Pair<String>>,
    replace: Vec<Pair<String>>,
    add: Vec<Pair<String>>,
    append: Vec<Pair<String>>,
}

#[derive(Debug)]
struct ResponseTransformer {
    headers: Headers,
    members: Members,
}

/// A body that waits for its end.
#[derive(Default)]
struct Held {
    pieces: SmallVec<[Piece; 2]>,
    bytes: usize,
}

/// The name and the value of `name:value`; further colons belong to the value, but for those that
/// follow the first at once.
fn pair(text: &str) -> (&str, &str) {
    let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    (name, rest.trim_start_matches(':'))
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let texts = |record, field| -> Vec<String> {
        let list = config.get(record).lookup(field);
        list.map(|list| list.texts().map(str::to_owned).collect()).unwrap_or_default()
    };
    let names = |field| texts("remove", field).iter().map(|t| pair(t).0.to_owned()).collect();
    // Where nothing stands behind the colon there is nothing to do.
    let pairs = |record, field| -> Vec<Pair<String>> {
        let texts = texts(record, field);
        let pairs = texts.iter().map(|text| pair(text)).filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let values = |record| -> Vec<Pair<String>> {
        let types = texts(record, "json_types");
        let pairs = texts(record, "json").into_iter().enumerate();
        pairs
            .filter_map(|(at, text)| {
                let (name, value) = pair(&text);
                let json = json_value(value, types.get(at).map(String::as_str))?;
                Some((name.to_owned(), json))
            })
            .collect()
    };
    let prepared = Arc::new(ResponseTransformer {
        headers: Headers {
            remove: names("headers"),
            rename: pairs("rename", "headers"),
            replace: pairs("replace", "headers"),
            add: pairs("add", "headers"),
            append: pairs("append", "headers"),
        },
        members: Members {
            remove: names("json"),
            rename: pairs("rename", "json"),
            replace: values("replace"),
            add: values("add"),
            append: values("append"),
        },
    });
    Ok(Prepared::new(move || Box::new(Arc::clone(&prepared))))
}

/// A configured value as JSON of its type; none for what is no number where one is wanted.
fn json_value(value: &str, kind: Option<&str>) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    Some(match kind {
        Some("number") => {
            let number: f64 = value.trim().parse().ok()?;
            number.is_finite().then(|| lua::number(number))?
        }
        Some("boolean") => (value == "true").to_string(),
        _ => quoted(value),
    })
}

impl Headers {
    fn is_empty(&self) -> bool {
        let lists = [&self.rename, &self.replace, &self.add, &self.append];
        self.remove.is_empty() && lists.iter().all(|list| list.is_empty())
    }

    /// As in Kong, what is there is judged by the head as it came, whatever was removed since.
    fn change(&self, fields: &mut Fields) {
        let before = fields.clone();
        for name in &self.remove {
            fields.remove(name);
        }
        for (old, new) in &self.rename {
            if before.contains(old) {
                fields.remove(old);
                fields.remove(new);
                for value in before.all(old) {
                    fields.add(new, value);
                }
            }
        }
        for (name, value) in &self.replace {
            if before.contains(name) {
                fields.set(name, value);
            }
        }
        for (name, value) in &self.add {
            if !before.contains(name) {
                fields.set(name, value);
            }
        }
        for (name, value) in &self.append {
            fields.add(name, value);
        }
    }
}

impl Members {
    fn is_empty(&self) -> bool {
        let lists = [&self.rename, &self.replace, &self.add, &self.append];
        self.remove.is_empty() && lists.iter().all(|list| list.is_empty())
    }

    /// The changed body; none if it is no object.
    fn change(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut object = Object::parse(body)?;
        // Lua's truth: a member that is false is not there.
        let holds =
            |object: &Object<'_>, name: &str| object.get(name).is_some_and(|v| v != "false");
        for name in &self.remove {
            object.remove(name);
        }
        for (old, new) in self.rename.iter().filter(|(old, new)| old != new) {
            if let Some(value) = object.remove(old) {
                object.set(new, value);
            }
        }
        for (name, value) in &self.replace {
            if holds(&object, name) {
                object.set(name, value.clone());
            }
        }
        for (name, value) in &self.add {
            if !holds(&object, name) {
                object.set(name, value.clone());
            }
        }
        for (name, value) in &self.append {
            object.append(name, value);
        }
        Some(object.write())
    }
}

/// Whether one of the types in Content-Type is JSON.
fn is_json(fields: &Fields) -> bool {
    let told = fields.get("content-type").and_then(|told| std::str::from_utf8(told).ok());
    let types = told.unwrap_or("").split(',');
    types.filter_map(|text| Media::parse(text.trim())).any(|media| media.is_json())
}

impl Plugin for Arc<ResponseTransformer> {
    fn header_filter(&self, exchange: &mut Exchange) {
        let was_json = is_json(&exchange.response.fields);
        if !self.headers.is_empty() {
            self.headers.change(&mut exchange.response.fields);
        }
        if !self.members.is_empty() && (was_json || is_json(&exchange.response.fields)) {
            exchange.response_body = ResponseBody::OtherLength;
            exchange.notes.put(Held::default());
        }
    }

    fn body_filter(&self, exchange: &mut Exchange, piece: &mut Piece, last: bool) {
        let Some(held) = exchange.notes.get_mut::<Held>() else { return };
        held.bytes += piece.len();
        gather(&mut held.pieces, std::mem::take(piece));
        let too_large = held.bytes > BODY_BYTES_MAX;
        if !last && !too_large {
            return;
        }
        let Some(held) = exchange.notes.take::<Held>() else { return };
        let body = held.pieces.iter().map(|piece| &**piece).collect::<SmallVec<[_; 8]>>().concat();
        let changed = if too_large { None } else { self.members.change(&body) };
        if changed.is_none() {
            log::warn!("response-transformer: a body is no JSON object, or too large: not changed");
        }
        *piece = Piece::from_vec(changed.unwrap_or(body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, check_fault, lines};
    use serde_json::json;

    #[track_caller]
    fn headers(config: serde_json::Value, sent: &[(&str, &str)], expected: &[&str]) {
        let script = Script::new(&PLUGIN, config);
        let mut exchange = script.get("/", &[]);
        for (name, value) in sent {
            exchange.response.fields.add(name, value);
        }
        script.plugin().header_filter(&mut exchange);
        assert_eq!(lines(&exchange.response.fields), expected);
        assert_eq!(exchange.response_body, ResponseBody::AsItComes);
    }

    #[test]
    fn header_lines_are_changed() {
        let config = json!({
            "remove": {"headers": ["X-A", "Set-Cookie:/^a=/", "X-V:1"]},
            "rename": {"headers": ["X-B:X-BB"]},
            "replace": {"headers": ["X-C:new", "X-None:no", "Content-Type:application/vnd.x+json"]},
            "add": {"headers": ["X-C:not", "X-N:n", "X-Empty:"]},
            "append": {"headers": ["X-C:more", "Set-Cookie:z=1"]},
        });
        let sent = [
            ("Content-Type", "application/json"),
            ("X-A", "1"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("X-V", "1, 2"),
            ("X-B", "b"),
            ("X-B", "b2"),
            ("X-C", "c"),
        ];
        let expected = [
            "Content-Type: application/vnd.x+json",
            "X-C: new",
            "X-BB: b",
            "X-BB: b2",
            "X-N: n",
            "X-C: more",
            "Set-Cookie: z=1",
        ];
        headers(config, &sent, &expected);
        let removed = json!({"remove": {"headers": ["a"]}, "add": {"headers": ["a:1"]}});
        headers(removed, &[("a", "0")], &[]);
    }

    /// The body that a client gets of one that comes in pieces.
    fn body(config: &serde_json::Value, kind: &str, pieces: &[&str]) -> (ResponseBody, String) {
        let script = Script::new(&PLUGIN, config.clone());
        let plugin = script.plugin();
        let mut exchange = script.get("/", &[]);
        exchange.response.fields.add("Content-Type", kind);
        plugin.header_filter(&mut exchange);
        let mut out = String::new();
        for (at, piece) in pieces.iter().enumerate() {
            let mut piece = Piece::copy_of(piece.as_bytes());
            plugin.body_filter(&mut exchange, &mut piece, at + 1 == pieces.len());
            out += std::str::from_utf8(&piece).unwrap();
        }
        (exchange.response_body, out)
    }

    const UPSTREAM: &str = r#"{"a":1,"b":{"c":[{"d":1}],"e":"x"},"f":[1,2],"g":null,"h":true}"#;

    #[track_caller]
    fn check(config: serde_json::Value, sent: &str, expected: &str) {
        let (told, found) = body(&config, "application/json", &[sent]);
        assert_eq!((told, found.as_str()), (ResponseBody::OtherLength, expected));
        let halves = sent.split_at(sent.len() / 2);
        let found =
            body(&config, "application/problem+json; charset=utf-8", &[halves.0, halves.1, ""]).1;
        assert_eq!(found, expected, "in pieces");
    }

    #[test]
    fn members_are_changed() {
        let config = json!({
            "remove": {"json": ["a"]}, "rename": {"json": ["h:hh"]},
            "replace": {"json": ["f:new", "zz:no"]},
            "add": {"json": ["f:not", "n:1", "o:{}"], "json_types": ["string", "number", "string"]},
            "append": {"json": ["f:9", "q:1"], "json_types": ["number", "boolean"]},
        });
        let expected = "{\"b\":{\"c\":[{\"d\":1}],\"e\":\"x\"},\"f\":[\"new\",9],\"g\":null,\
            \"hh\":true,\"n\":1,\"o\":\"{}\",\"q\":[false]}";
        check(config, UPSTREAM, expected);
    }

    #[test]
    fn values_have_types() {
        let config = json!({
            "add": {
                "json": ["b1:true", "n1:1.5", "s1:1", "n2:abc", "b2:maybe", "s2:a:b"],
                "json_types": ["boolean", "number", "string", "number", "boolean"],
            },
            "replace": {"json": ["a:7"], "json_types": ["string"]},
        });
        let expected = r#"{"a":"7","b1":true,"n1":1.5,"s1":"1","b2":false,"s2":"a:b"}"#;
        check(config, r#"{"a":1}"#, expected);
    }

    #[test]
    fn a_dot_is_part_of_a_name_and_what_lies_deeper_keeps_its_text() {
        let config = json!({
            "remove": {"json": ["b.e", "b.c[*].d"]}, "add": {"json": ["b.z:1", "new.k:v"]},
            "replace": {"json": ["b.c:flat"]},
        });
        let sent = r#"{"b": {"c": [1.0, 12345678901234567890], "u": "\u00e9\/"}}"#;
        let expected =
            r#"{"b":{"c": [1.0, 12345678901234567890], "u": "\u00e9\/"},"b.z":"1","new.k":"v"}"#;
        check(config, sent, expected);
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        let config = json!({"add": {"json": ["x:1"]}});
        for sent in ["{bad", "", "[1]", "null", "1"] {
            check(config.clone(), sent, sent);
        }
        let plain = (ResponseBody::AsItComes, "{}".to_owned());
        assert_eq!(body(&config, "text/plain", &["{}"]), plain);
        assert_eq!(body(&json!({"add": {"headers": ["x:1"]}}), "application/json", &["{}"]), plain);
    }

    #[test]
    fn a_body_that_is_too_large_streams_on() {
        let many = "x".repeat(BODY_BYTES_MAX / 2);
        let pieces = ["{\"a\":\"", &many, &many, "y", "z", "\"}"];
        let found = body(&json!({"add": {"json": ["x:1"]}}), "application/json", &pieces).1;
        assert!(found == pieces.concat());
    }

    #[test]
    fn what_cannot_be_done_is_a_fault() {
        check_fault(&PLUGIN, json!({"add": {"json": ["a"]}}), "invalid value: a");
        let words = "'b c' is not a valid header";
        check_fault(&PLUGIN, json!({"rename": {"headers": ["a:b c"]}}), words);
        check_fault(&PLUGIN, json!({"add": {"json_types": ["object"]}}), "expected one of");
    }
}
