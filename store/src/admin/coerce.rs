//! The texts of a form become what the schema says that they are.
//!
//! JSON has types of its own and is taken as it is. What does not fit stays a text, so that the
//! check can say what was expected. Source: Kong `kong/api/arguments.lua`, `infer_value`.

use super::page::lua_number;
use crate::schema::{Catalogue, Entity, Field, Kind, Shape, Variants};
use crate::value::Value;

/// Gives the arguments of a form for `entity` their types. `variant` is the value that decides
/// about the row's variant (a plugin's name) where the form does not have it.
pub(super) fn coerce(
    catalogue: &Catalogue,
    entity: &Entity,
    variant: Option<&str>,
    input: &mut Value,
) {
    if matches!(entity.variants, Variants::Plugins) {
        let name = input.get("name").as_text().or(variant).unwrap_or_default().to_owned();
        if let (Some(plugin), Some(config)) = (catalogue.installed(&name), place(input, "config")) {
            infer(catalogue, &plugin.config_field(), config);
        }
    }
    if let Variants::Of { key, list, .. } = entity.variants {
        let name = input.get(key).as_text().or(variant).unwrap_or_default();
        let chosen = list.iter().find(|variant| variant.keys.contains(&name));
        for field in chosen.map_or(&[][..], |variant| variant.fields) {
            if let Some(value) = place(input, field.name) {
                infer(catalogue, field, value);
            }
        }
    }
    fields(catalogue, &entity.shape(), input);
    if let Some(ttl) = place(input, "ttl").filter(|_| entity.ttl) {
        number(ttl);
    }
}

/// The value under `name`, if the input has it.
fn place<'a>(input: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    input.lookup(name)?;
    Some(input.slot(name))
}

fn fields(catalogue: &Catalogue, shape: &Shape, input: &mut Value) {
    let Value::Map(pairs) = input else { return };
    for (name, value) in pairs {
        let shorthand = shape.shorthands.iter().map(|shorthand| &shorthand.field);
        let known = shape.fields.iter().chain(shorthand).find(|field| field.name == &**name);
        if let Some(field) = known {
            infer(catalogue, field, value);
        }
    }
}

fn infer(catalogue: &Catalogue, field: &Field, value: &mut Value) {
    if value.as_text() == Some("") {
        *value = Value::Null;
        return;
    }
    match field.kind {
        Kind::Integer | Kind::Number => number(value),
        Kind::Flag => match value.as_text() {
            Some("true") => *value = Value::Flag(true),
            Some("false") => *value = Value::Flag(false),
            _ => {}
        },
        Kind::List(element) | Kind::Set(element) => list(catalogue, element, value),
        Kind::Map(_, inner) => {
            if let Value::Map(pairs) = value {
                pairs.iter_mut().for_each(|(_, value)| infer(catalogue, inner, value));
            }
        }
        Kind::Record(shape) => fields(catalogue, &shape, value),
        Kind::Foreign(parent, _) => {
            if let Some(parent) = catalogue.entity(parent) {
                fields(catalogue, &parent.shape(), value);
            }
        }
        Kind::Text | Kind::Json(_) | Kind::Any => {}
    }
}

/// One value alone is a list of one.
fn list(catalogue: &Catalogue, element: &Field, value: &mut Value) {
    if matches!(value, Value::Text(_) | Value::Flag(_)) {
        *value = Value::List(vec![std::mem::take(value)]);
    }
    if let Value::List(items) = value {
        items.iter_mut().for_each(|item| infer(catalogue, element, item));
    }
}

fn number(value: &mut Value) {
    if let Some(number) = value.as_text().and_then(lua_number) {
        *value = Value::from_number(number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::form;
    use super::*;
    use crate::schema::{PluginSchema, Preset, array, boolean, integer, map, number, record, text};
    use serde_json::{Value as Json, json};

    /// Stands in for a plugin with every kind of field.
    static PLUGIN: PluginSchema = PluginSchema {
        name: "every-kind",
        config: &[
            number("minute", ""),
            boolean("fault_tolerant", "").or(Preset::Flag(true)),
            record("redis", "", &[integer("port", "")]),
            array("key_names", "", &text("", "")),
            array("statuses", "", &integer("", "")),
            map("headers", "", &text("", ""), &text("", "")),
            map("limits", "", &text("", ""), &integer("", "")),
        ],
        ..PluginSchema::EMPTY
    };

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(entity: &str, form: &str, expected: Json) {
        let catalogue = Catalogue::new(vec![&PLUGIN], &[]);
        let entity = catalogue.entity(entity).expect("an entity");
        let tree = form::pairs(form.as_bytes()).and_then(form::nest).expect("readable");
        let mut input = Value::from(Json::Object(tree));
        coerce(&catalogue, entity, Some("every-kind"), &mut input);
        assert_eq!(input.to_json(), expected, "{form}");
    }

    /// Source: `contract/vectors.md`, section 2.
    #[test]
    fn routes_are_read_as_kong_reads_them() {
        check("routes", "paths[]=/x", json!({"paths": ["/x"]}));
        check("routes", "paths=/x", json!({"paths": ["/x"]}));
        check("routes", "paths=/x&paths=/y", json!({"paths": ["/x", "/y"]}));
        check("routes", "methods=GET,POST", json!({"methods": ["GET,POST"]}));
        check("routes", "headers.x-foo=a", json!({"headers": {"x-foo": ["a"]}}));
        check("routes", "headers[x.foo][]=a", json!({"headers": {"x.foo": ["a"]}}));
        check("routes", "service.id=abc", json!({"service": {"id": "abc"}}));
        check(
            "routes",
            "regex_priority=5&service.name=abc&strip_path=false",
            json!({"regex_priority": 5, "service": {"name": "abc"}, "strip_path": false}),
        );
        check(
            "routes",
            "sources[1].ip=1.2.3.4&sources[1].port=80",
            json!({"sources": [{"ip": "1.2.3.4", "port": 80}]}),
        );
        check("routes", "service=", json!({"service": null}));
        check("routes", "colour=5", json!({"colour": "5"}));
    }

    #[test]
    fn services_are_read_as_kong_reads_them() {
        check(
            "services",
            "name=&port=8080&retries=abc&tags[]=a&tags[]=b&url=http://x",
            json!({"name": null, "port": 8080, "retries": "abc", "tags": ["a", "b"],
                "url": "http://x"}),
        );
        check(
            "services",
            "enabled=false&tls_verify=maybe",
            json!({"enabled": false, "tls_verify": "maybe"}),
        );
        check("services", "port=1e2&retries=-1", json!({"port": 100, "retries": -1}));
    }

    #[test]
    fn plugins_are_read_with_their_own_fields() {
        check(
            "plugins",
            "name=every-kind&config.fault_tolerant=true&config.minute=5&config.redis.port=6379",
            json!({"name": "every-kind",
                "config": {"fault_tolerant": true, "minute": 5, "redis": {"port": 6379}}}),
        );
        check("plugins", "config.key_names=a", json!({"config": {"key_names": ["a"]}}));
        check("plugins", "config[key_names][1]=a", json!({"config": {"key_names": ["a"]}}));
        check(
            "plugins",
            "config.statuses[]=500&config.statuses[]=x",
            json!({"config": {"statuses": [500, "x"]}}),
        );
        check(
            "plugins",
            "config.headers.x=5&config.limits.x=5",
            json!({"config": {"headers": {"x": "5"}, "limits": {"x": 5}}}),
        );
        check(
            "plugins",
            "name=other&config.minute=5&enabled=true",
            json!({"name": "other", "config": {"minute": "5"}, "enabled": true}),
        );
        check("plugins", "config=", json!({"config": null}));
    }
}
