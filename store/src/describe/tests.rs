//! Schemas beside those that Kong 3.9.1 printed.

use super::{entity_document, plugin_document};
use crate::entities::{CONSUMERS, PLUGINS, ROUTES, SERVICES};
use crate::schema::samples::{KEY_AUTH, KEYAUTH, RATE_LIMITING};
use serde_json::{Map, Value};

/// Takes out Kong's notes (see [`super::document`]) and what is the same in either order.
///
/// `len_min: 1` is printed for a string once it has been checked, `required` for an element; both
/// depend on what a running Kong had checked before it was asked.
fn leveled(value: &Value, place: &str) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| leveled(item, "")).collect();
            if place == "fields" || place == "shorthand_fields" {
                items.sort_by_key(Value::to_string);
            }
            items.into()
        }
        Value::Object(pairs) => {
            let is_note = |name: &str, value: &Value| {
                name == "len_min" && *value == 1
                    || name == "required" && ["elements", "keys", "values"].contains(&place)
            };
            let kept = pairs.iter().filter(|(name, value)| !is_note(name, value));
            let mut kept: Vec<_> =
                kept.map(|(name, value)| (name.clone(), leveled(value, name))).collect();
            kept.sort_by(|one, two| one.0.cmp(&two.0));
            Map::from_iter(kept).into()
        }
        plain => plain.clone(),
    }
}

#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
fn check(ours: Value, kongs: &str) {
    let kongs: Value = serde_json::from_str(kongs).unwrap();
    let (ours, kongs) = (leveled(&ours, ""), leveled(&kongs, ""));
    assert_eq!(ours["entity_checks"], kongs["entity_checks"]);
    let (ours, kongs) = (ours["fields"].as_array().unwrap(), kongs["fields"].as_array().unwrap());
    for (ours, kongs) in ours.iter().zip(kongs) {
        assert_eq!(ours, kongs, "\n{ours}\n{kongs}");
    }
    assert_eq!(ours.len(), kongs.len());
}

#[test]
fn schemas_are_printed_as_kongs() {
    check(entity_document(&SERVICES), include_str!("facts/services.json"));
    check(entity_document(&ROUTES), include_str!("facts/routes.json"));
    check(entity_document(&CONSUMERS), include_str!("facts/consumers.json"));
    check(entity_document(&PLUGINS), include_str!("facts/plugins.json"));
    check(entity_document(&KEYAUTH), include_str!("facts/keyauth_credentials.json"));
    check(plugin_document(&KEY_AUTH), include_str!("facts/key-auth.json"));
    check(plugin_document(&RATE_LIMITING), include_str!("facts/rate-limiting.json"));
}
