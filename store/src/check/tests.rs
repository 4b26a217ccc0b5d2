//! Objects checked against what Kong answered.
//!
//! `tests/kong.json` holds inputs and answers of Kong 3.9.1 (recorded and golden) and of its schema
//! code alone (vectors), for the entities that are here. Pointers by name, which need rows, are
//! pointers by id in it.

use super::{Facts, Faults, Mode, complete, merge, transform, validate};
use crate::fault::Fault;
use crate::schema::{Catalogue, samples};
use crate::value::{Row, Value};
use serde_json::{Value as Json, json};

fn facts(random: &mut dyn FnMut(&mut [u8])) -> Facts<'_> {
    Facts { now_s: 1_700_000_000, now_ms: 1_700_000_000_123, random }
}

/// A POST without the database: the row, or the fault's answer.
fn post(catalogue: &Catalogue, entity: &str, given: &Json) -> Result<Json, Json> {
    let entity = catalogue.entity(entity).unwrap();
    let given = Value::from(given.clone());
    let mut random = |bytes: &mut [u8]| bytes.fill(7);
    let mut facts = facts(&mut random);
    let checked = || -> Result<Row, Fault> {
        let mut object =
            complete(catalogue, entity, given.clone(), Mode::Insert, None, &mut facts)?;
        validate(catalogue, entity, &object, Mode::Insert, &given, None)?;
        transform(entity, &mut object, &given, &mut facts)?;
        Ok(Row::pack(entity, catalogue, object, 1))
    };
    match { checked }() {
        Ok(row) => Ok(row.to_json(0).into()),
        Err(fault) => Err(fault.to_json()),
    }
}

/// A PATCH of a row made by a POST.
#[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
fn patch(entity: &str, row: Json, patch: Json) -> Result<Json, Json> {
    let catalogue = samples::catalogue();
    let row = Value::from(post(&catalogue, entity, &row).unwrap());
    let entity = catalogue.entity(entity).unwrap();
    let row = Row::pack(entity, &catalogue, row, 1);
    let (before, given) = (row.unpack(), Value::from(patch));
    let mut random = |_: &mut [u8]| {};
    let mut facts = facts(&mut random);
    let checked = || -> Result<Row, Faults> {
        let patch =
            complete(&catalogue, entity, given.clone(), Mode::Update, Some(&before), &mut facts)?;
        let object = merge(&catalogue, entity, patch, &before, &mut facts)?;
        validate(&catalogue, entity, &object, Mode::Update, &given, Some(&before))?;
        Ok(Row::pack(entity, &catalogue, object, 2))
    };
    match { checked }() {
        Ok(row) => Ok(row.to_json(0).into()),
        Err(faults) => Err(Fault::from(faults).to_json()),
    }
}

/// Takes out what differs from call to call.
fn without_auto(mut row: Json) -> Json {
    for name in ["id", "created_at", "updated_at"] {
        row[name] = Json::Null;
    }
    row
}

/// Numbers as Kong prints them: `1.0` is `1`.
fn plain(json: &Json) -> Json {
    Value::from(json.clone()).to_json()
}

#[test]
fn kongs_answers_are_ours() {
    let cases: Vec<Json> = serde_json::from_str(include_str!("tests/kong.json")).unwrap();
    assert!(cases.len() > 100, "the file is there");
    let catalogue = samples::catalogue();
    let mut wrong = Vec::new();
    for case in &cases {
        let (entity, given) = (case["entity"].as_str().unwrap(), &case["given"]);
        let refused = case["answer"].get("code").is_some();
        let (ours, kongs) = match post(&catalogue, entity, given) {
            Ok(row) if !refused => (without_auto(row), without_auto(plain(&case["answer"]))),
            Ok(row) => (row, case["answer"].clone()),
            Err(fault) => (fault, plain(&case["answer"])),
        };
        if ours != kongs {
            wrong.push(format!("{entity} {given}\n  ours  {ours}\n  Kong's {kongs}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
fn check(found: Result<Json, Json>, path: &str, expected: Json) {
    let shown = match &found {
        Ok(row) => row,
        Err(fault) => &fault["message"],
    };
    let place = if path.is_empty() { shown } else { shown.pointer(path).unwrap_or(&Json::Null) };
    assert_eq!(*place, expected, "{found:?}");
}

#[test]
fn a_patch_changes_what_it_names() {
    let row = || json!({"name": "rate-limiting", "config": {"minute": 7, "hour": 10}});
    let patched = |patch_of: Json| patch("plugins", row(), patch_of);
    check(patched(json!({"config": {"hour": 20}})), "/config/hour", json!(20));
    check(patched(json!({"config": {"hour": 20}})), "/config/minute", json!(7));
    check(patched(json!({"config": {"hour": null}})), "/config/hour", Json::Null);
    check(patched(json!({"enabled": false})), "/config/minute", json!(7));
    check(patched(json!({"config": {"redis": {"port": 1}}})), "/config/redis/timeout", json!(2000));
    check(patched(json!({"config": {"redis_host": "r"}})), "/config/redis/host", json!("r"));
    check(patched(json!({"config": {"redis_host": "r"}})), "/config/redis_host", json!("r"));
    let words = "schema violation (config: The limit for hour(5.0) cannot be lower than the limit \
                 for minute(7.0))";
    check(patched(json!({"config": {"hour": 5}})), "", json!(words));
    let service = || json!({"host": "a", "path": "/p", "tags": ["a", "b"]});
    check(patch("services", service(), json!({"tags": ["c"]})), "/tags", json!(["c"]));
    check(patch("services", service(), json!({"path": null})), "/path", Json::Null);
    check(patch("services", service(), json!({"url": "https://b.example/q"})), "/port", json!(443));
    check(
        patch("services", service(), json!({"host": null})),
        "",
        json!("schema violation (host: required field missing)"),
    );
    check(
        patch("services", service(), json!({"protocol": "tcp"})),
        "",
        json!(
            "2 schema violations (failed conditional validation given value of field 'protocol'; \
             path: value must be null)"
        ),
    );
    check(
        patch("consumers", json!({"username": "a"}), json!({"username": null})),
        "",
        json!(
            "schema violation (when updating, at least one of these fields must be non-empty: \
             'custom_id', 'username')"
        ),
    );
    let route = || json!({"paths": ["/a"], "headers": {"x": ["1"], "y": ["2"]}});
    check(
        patch("routes", route(), json!({"headers": {"z": ["3"]}})),
        "/headers",
        json!({"z": ["3"]}),
    );
}

#[test]
fn old_names_of_fields_stand_for_the_new() {
    let catalogue = samples::catalogue();
    let made = |config: Json| {
        post(&catalogue, "plugins", &json!({"name": "rate-limiting", "config": config}))
    };
    let both = json!({"minute": 1, "redis_host": "a", "redis": {"host": "b"}});
    let words = "schema violation (redis_host: both deprecated and new field are used but their \
                 values mismatch: redis_host = a vs redis.host = b)";
    check(made(both), "", json!(words));
    let same = json!({"minute": 1, "redis_host": "a", "redis": {"host": "a"}});
    check(made(same), "/config/redis/host", json!("a"));
    let beside = json!({"minute": 1, "redis_port": 9, "redis": {"host": "b"}});
    check(made(beside.clone()), "/config/redis/host", json!("b"));
    check(made(beside.clone()), "/config/redis/port", json!(9));
    check(made(beside), "/config/redis_port", json!(9));
    let wrong = json!({"minute": 1, "redis_port": "x"});
    check(made(wrong), "", json!("schema violation (redis_port: expected an integer)"));
}

#[test]
fn absent_fields_are_made_up() {
    let catalogue = samples::catalogue();
    let given = json!({"consumer": {"id": "00000000-0000-4000-8000-000000000001"}});
    let key = post(&catalogue, "keyauth_credentials", &given).unwrap();
    assert_eq!(key["key"].as_str().unwrap().len(), 32);
    assert_eq!(key["id"], "07070707-0707-4707-8707-070707070707");
    assert_eq!(key["created_at"], 1_700_000_000);
    let given = json!({"host": "a", "created_at": 5, "updated_at": 5});
    let service = post(&catalogue, "services", &given).unwrap();
    assert_eq!(service["created_at"], 5);
    assert_eq!(service["updated_at"], 1_700_000_000);
}

#[test]
fn numbers_are_what_lua_takes_them_for() {
    let catalogue = samples::catalogue();
    let retries = |text: &str| {
        let given =
            serde_json::from_str(&format!("{{\"host\":\"a\",\"retries\":{text}}}")).unwrap();
        post(&catalogue, "services", &given)
    };
    check(retries("3.0"), "/retries", json!(3));
    check(retries("1e2"), "/retries", json!(100));
    let words = json!("schema violation (retries: expected an integer)");
    for wrong in ["3.5", "1e400", "\"3\"", "true", "[]", "{}"] {
        check(retries(wrong), "", words.clone());
    }
    let minute = |text: &str| {
        let given = format!("{{\"name\":\"rate-limiting\",\"config\":{{\"minute\":{text}}}}}");
        post(&catalogue, "plugins", &serde_json::from_str(&given).unwrap())
    };
    check(minute("0.5"), "/config/minute", json!(0.5));
    check(minute("1e400"), "", json!("schema violation (config.minute: expected a number)"));
}

#[test]
fn doubles_are_dropped_from_sets_alone() {
    let catalogue = samples::catalogue();
    let given = json!({"paths": ["/a", "/a"], "methods": ["GET", "PUT", "GET"]});
    let route = post(&catalogue, "routes", &given).unwrap();
    assert_eq!(route["paths"], json!(["/a", "/a"]));
    assert_eq!(route["methods"], json!(["GET", "PUT"]));
}

#[test]
fn a_secret_is_letters_and_digits() {
    let mut state = 1_u64;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
    };
    let mut facts = facts(&mut random);
    let (one, two) = (facts.secret(), facts.secret());
    assert_ne!(one, two);
    assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{one}");
    assert_eq!(facts.uuid().get_version_num(), 4);
}
