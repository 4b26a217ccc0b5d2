//! Documents and what becomes of them.

use super::*;
use crate::schema::samples;
use proptest::prelude::*;

#[track_caller]
fn loaded(document: Json) -> Result<Vec<Json>, Refusal> {
    loaded_with(document, false)
}

#[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
fn loaded_with(document: Json, flatten: bool) -> Result<Vec<Json>, Refusal> {
    let catalogue = samples::catalogue();
    let mut number = 0_u8;
    let mut random = |bytes: &mut [u8]| {
        number = number.wrapping_add(1);
        bytes.fill(number);
    };
    let mut facts = Facts { now_s: 7, now_ms: 7_000, random: &mut random };
    let Json::Object(document) = document else { unreachable!("an object") };
    let loaded = load(&catalogue, document, 1, flatten, Node::Off, &mut facts)?;
    let shown = |row: &Row| json!({ row.entity().name: row.to_json(7) });
    Ok(loaded.rows(&catalogue).iter().map(shown).collect())
}

/// Compares the `fields` of a refusal.
#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
fn refused(mut document: Json, expected: Json) {
    if document.get("_format_version").is_none() {
        document["_format_version"] = json!("3.0");
    }
    let refusal = loaded(document.clone()).expect_err("refused");
    assert_eq!(Json::Object(refusal.fields), expected, "{document}");
}

const MISSING: &str = "required field missing";

#[test]
fn nested_entities_point_to_their_parents() {
    let rows = loaded(json!({
        "_format_version": "3.0",
        "_comment": "c",
        "consumers": [{"username": "bob", "keyauth_credentials": [{"key": "k", "_ignore": [1]}]}],
        "services": [{
            "name": "example",
            "url": "http://a.example:81/p",
            "routes": [{"name": "r1", "paths": ["/r"], "plugins": [{"name": "key-auth"}]}],
        }],
        "routes": [{"name": "r2", "paths": ["/s"], "service": "example"}],
        "plugins": [{"name": "rate-limiting", "config": {"minute": 1}, "route": "r2"}],
    }))
    .expect("loads");
    let ids: Vec<_> = rows
        .iter()
        .map(|row| {
            let (entity, row) = row.as_object().unwrap().iter().next().unwrap();
            (entity.clone(), row["id"].as_str().unwrap().to_owned(), row.clone())
        })
        .collect();
    let entities: Vec<_> = ids.iter().map(|(entity, ..)| entity.as_str()).collect();
    let at =
        |entity: &str, nth: usize| ids.iter().filter(|(name, ..)| name == entity).nth(nth).unwrap();
    assert_eq!(entities.len(), 7, "{entities:?}");
    let (_, service, row) = at("services", 0);
    assert_eq!(service, "89dd9e9d-3f98-5e11-ab72-c90b6c2d30a2");
    assert_eq!(
        (&row["host"], &row["port"], &row["path"]),
        (&json!("a.example"), &json!(81), &json!("/p"))
    );
    let (_, route, row) = at("routes", 0);
    assert_eq!(route, "4726a05a-d550-537e-9fc3-a07c7a1188c7");
    assert_eq!(row["service"]["id"], **service);
    assert_eq!(at("routes", 1).2["service"]["id"], **service);
    assert_eq!(at("plugins", 0).2["route"]["id"], **route);
    assert_eq!(at("plugins", 1).2["route"]["id"], *at("routes", 1).1);
    assert_eq!(at("keyauth_credentials", 0).2["consumer"]["id"], *at("consumers", 0).1);
    assert_eq!(at("consumers", 0).2["created_at"], 7);
}

/// Source: recorded and golden answers of the suite `dbless`; `contract/declarative.md`.
#[test]
fn faults_are_kongs() {
    let name = "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, \
                _, and ~";
    refused(
        json!({"services": [{"name": "a b"}]}),
        json!({"services": [{"host": MISSING, "name": name}]}),
    );
    refused(
        json!({"services": [{"host": "a"}, {"name": "s"}]}),
        json!({"services": [null, {"host": MISSING}]}),
    );
    refused(json!({"nonsense": []}), json!({"nonsense": "unknown field"}));
    refused(
        json!({"_format_version": "9.9"}),
        json!({"_format_version": "expected one of: 1.1, 2.1, 3.0"}),
    );
    refused(json!({"_format_version": 3.0}), json!({"_format_version": "expected a string"}));
    refused(
        json!({"_transform": 1, "_comment": 1, "_ignore": 1}),
        json!({
            "_transform": "expected a boolean",
            "_comment": "expected a string",
            "_ignore": "expected an array",
        }),
    );
    assert!(loaded(json!({"_format_version": "3.0", "services": {}})).is_ok());
    refused(json!({"services": {"a": 1}}), json!({"services": "expected an array"}));
    refused(json!({"services": [1]}), json!({"services": ["expected a record"]}));
    refused(
        json!({"services": [{"host": "h", "routes": [{"paths": ["x"]}, {"nope": 1}]}]}),
        json!({"services": [{"routes": [
            {"paths": ["should start with: / (fixed path) or ~/ (regex path)"]},
            {"nope": "unknown field", "@entity":
                ["must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"]},
        ]}]}),
    );
    refused(
        json!({"plugins": [{"name": "nope"}]}),
        json!({"plugins": [{"name":
        "plugin 'nope' not enabled; add it to the 'plugins' configuration property"}]}),
    );
    let refusal = loaded(json!({"services": []})).expect_err("refused");
    assert_eq!(Json::Object(refusal.fields), json!({"_format_version": MISSING}));
}

#[test]
fn references_must_lead_somewhere() {
    let words =
        |name: &str| format!("invalid reference 'service: {name}' (no such entry in 'services')");
    refused(
        json!({"routes": [{"name": "r", "paths": ["/"], "service": "x"}]}),
        json!({"routes": {"r": [words("x")]}}),
    );
    let id = "11111111-1111-4111-8111-111111111111";
    refused(
        json!({"routes": [{"id": id, "paths": ["/"], "service": "x"}]}),
        json!({"routes": {id: [words("x")]}}),
    );
    refused(
        json!({"routes": [{"name": "r", "paths": ["/"], "service": {"id": id}}]}),
        json!({"routes": {"r": [words(&format!("{{\"id\":\"{id}\"}}"))]}}),
    );
    refused(
        json!({"routes": [{"name": "r", "paths": ["/"], "service": 1}]}),
        json!({"routes": [{"service": {"id": "missing primary key"}}]}),
    );
    let rows = loaded(json!({"_format_version": "3.0",
        "services": [{"id": id, "host": "h"}],
        "routes": [{"name": "r", "paths": ["/"], "service": {"id": id}}]}));
    assert_eq!(rows.expect("loads").len(), 2, "a pointer by id passes the second look");
}

#[test]
fn what_must_be_unique_is_declared_once() {
    let words = |entity: &str, key: &str, value: &str| {
        format!(
            "uniqueness violation: '{entity}' entity with {key} set to '{value}' already declared"
        )
    };
    refused(
        json!({"services": [{"name": "x", "host": "a"}, {"name": "x", "host": "b"}]}),
        json!({"services": [null, words("services", "name", "x")]}),
    );
    let id = "11111111-1111-4111-8111-111111111111";
    refused(
        json!({"services": [{"id": id, "host": "a"}, {"id": id, "host": "b"}]}),
        json!({"services": [null, words("services", "primary key", id)]}),
    );
    refused(
        json!({"consumers": [{"username": "a", "custom_id": "c"}, {"username": "b", "custom_id": "c"}]}),
        json!({"consumers": {"b": words("consumers", "custom_id", "c")}}),
    );
    refused(
        json!({"plugins": [{"name": "cors"}, {"name": "cors"}]}),
        json!({"plugins": [null, words("plugins", "primary key", "48ee727e-8b90-5faa-bda1-a3c6bc3c9daa")]}),
    );
}

#[test]
fn faults_can_be_told_entity_by_entity() {
    let document = json!({"_format_version": "3.0", "x": [], "services": [
        {"name": "a b", "host": "h", "tags": ["t"]},
        {"id": "11111111-1111-4111-8111-111111111111", "host": "h",
         "routes": [{"name": "r", "paths": ["x"]}]},
    ]});
    let refusal = loaded_with(document, true).expect_err("refused");
    let body = refusal.to_json();
    assert_eq!(body["fields"], json!({"x": "unknown field"}));
    let path = "should start with: / (fixed path) or ~/ (regex path)";
    assert_eq!(
        body["flattened_errors"],
        json!([
            {
                "entity_name": "r",
                "entity_type": "route",
                "entity": {"name": "r", "paths": ["x"],
                    "service": {"id": "11111111-1111-4111-8111-111111111111"}},
                "errors": [{"type": "field", "field": "paths.1", "message": path}],
            },
            {
                "entity_name": "a b",
                "entity_tags": ["t"],
                "entity_type": "service",
                "entity": {"name": "a b", "host": "h", "tags": ["t"]},
                "errors": [{"type": "field", "field": "name", "message":
                    "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., \
                     -, _, and ~"}],
            },
        ])
    );
}

#[test]
fn a_text_is_json_or_yaml() {
    let check = |text: &str, file: Option<&str>, expected: Result<Json, &str>| {
        let found = read(text, file).map(Json::Object).map_err(|refusal| refusal.to_text());
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    };
    check("{\"a\": 1}", None, Ok(json!({"a": 1})));
    check("a: 1", None, Ok(json!({"a": 1})));
    check("a: 1", Some("x.yml"), Ok(json!({"a": 1})));
    check("a: 1", Some("x.txt"), Err("unknown file type: x.txt. (Accepted types: json, yaml)"));
    check("a", None, Err("failed parsing declarative configuration: expected an object"));
    check("", None, Err("failed parsing declarative configuration: expected an object"));
    let fault = read("a: [", None).expect_err("no YAML").to_json();
    assert_eq!(fault["code"], 14);
    assert!(fault["fields"]["error"].as_str().unwrap().starts_with("failed parsing"));
}

/// Any words, in the places where a document has its own.
fn any_document() -> impl Strategy<Value = Json> {
    let name = prop_oneof![
        Just("services"),
        Just("routes"),
        Just("plugins"),
        Just("consumers"),
        Just("name"),
        Just("keyauth_credentials"),
        Just("service"),
        Just("route"),
        Just("consumer"),
        Just("id"),
        Just("host"),
        Just("paths"),
        Just("username"),
        Just("key"),
        Just("config"),
        Just("tags"),
        Just("_comment"),
        Just("_transform"),
        Just("ttl"),
        Just("url"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(1)),
        Just(json!(-0.5)),
        Just(json!("s")),
        Just(json!("key-auth")),
        Just(json!("/p")),
        Just(json!("")),
        Just(json!([])),
        Just(json!({})),
        Just(json!("11111111-1111-4111-8111-111111111111")),
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::vec((name.clone(), inner), 0..5).prop_map(|pairs| {
                Map::from_iter(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)))
                    .into()
            }),
        ]
    })
}

#[test]
fn targets_are_written_out_as_kong_reads_them() {
    let targets = [("1.1.1.1", "1.1.1.1:8000"), ("a.com", "a.com:8000"), ("B.com:90", "B.com:90")];
    for (typed, read) in targets {
        let upstreams = json!([{"name": "u", "targets": [{"target": typed}]}]);
        let rows = loaded(json!({"_format_version": "3.0", "upstreams": upstreams}));
        let rows = rows.expect("loads");
        assert_eq!(rows[1]["targets"]["target"], read, "{typed}");
    }
}

proptest! {
    #[test]
    fn any_document_is_loaded_or_refused(document in any_document(), flatten: bool) {
        let mut whole = json!({"_format_version": "3.0"});
        if let Json::Object(pairs) = document {
            whole.as_object_mut().unwrap().extend(pairs);
        }
        if let Err(refusal) = loaded_with(whole, flatten) {
            prop_assert!(refusal.to_json()["message"].is_string());
            prop_assert!(!refusal.fields.is_empty() || refusal.flattened.is_some());
            let _text = refusal.to_text();
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-a-c0-2:,\\[\\]{}&*!|>'\"%@`#?~<. \n\t]{0,64}") {
        let _read = read(&text, None);
    }
}

#[test]
fn what_is_exported_loads_again() {
    let catalogue = samples::catalogue();
    let mut tables = crate::snapshot::Tables::new(&catalogue);
    let mut random = |bytes: &mut [u8]| bytes.fill(1);
    let mut facts = Facts { now_s: 7, now_ms: 7_000, random: &mut random };
    let text = "_format_version: '3.0'\nservices:\n- name: s\n  host: h\n  routes:\n  - name: r\n    \
                paths: [/a, '~/b: #']\n    plugins:\n    - name: rate-limiting\n      config: {minute: 1.5}\n";
    let loaded = parse(&catalogue, text, None, Node::Off, &mut facts).expect("loads");
    for row in loaded.rows(&catalogue) {
        tables.put(&std::sync::Arc::new(row)).unwrap();
    }
    let exported = export(&catalogue, &tables, 7);
    assert!(exported.starts_with("_format_version: '3.0'\n_transform: false\nservices:\n- "));
    let again = parse(&catalogue, &exported, None, Node::Off, &mut facts).expect("loads again");
    let shown = |loaded: &Loaded| -> Vec<Json> {
        loaded.rows(&catalogue).iter().map(|row| row.to_json(7).into()).collect()
    };
    assert_eq!(shown(&again), shown(&loaded));
}
