//! A Plugin: what happens to requests, and to which.
//!
//! The fields of `config` are the plugin's own ([`crate::schema::PluginSchema`]).
//!
//! Source: Kong `kong/db/schema/entities/plugins.lua`, `kong/db/dao/plugins.lua`.

use crate::check::{Fault, Faults};
use crate::schema::typical::{CREATED_AT, ID, PROTOCOLS, TAGS, UPDATED_AT, utf8_name};
use crate::schema::{Entity, Preset, Variants, boolean, foreign, record, text};
use crate::snapshot::Tables;
use crate::value::{Row, Value};

/// The entity.
pub static PLUGINS: Entity = Entity {
    name: "plugins",
    endpoint_key: Some("instance_name"),
    cache_key: &["name", "route", "service", "consumer"],
    fields: &[
        ID,
        text("name", "The name of the Plugin that's going to be added.").required(),
        utf8_name("instance_name"),
        CREATED_AT,
        UPDATED_AT,
        foreign(
            "route",
            "routes",
            "If set, the plugin will only activate when receiving requests via the specified \
             route.",
        )
        .or(Preset::Null)
        .cascade(),
        foreign(
            "service",
            "services",
            "If set, the plugin will only activate when receiving requests via one of the routes \
             belonging to the specified service. ",
        )
        .or(Preset::Null)
        .cascade(),
        foreign(
            "consumer",
            "consumers",
            "If set, the plugin will activate only for requests where the specified has been \
             authenticated.",
        )
        .or(Preset::Null)
        .cascade(),
        record("config", "The configuration properties for the Plugin.", &[]).is_abstract(),
        PROTOCOLS,
        boolean("enabled", "Whether the plugin is applied.").or(Preset::Flag(true)).required(),
        TAGS,
    ],
    variants: Variants::Plugins,
    guard: Some(protocols_meet),
    ..Entity::EMPTY
};

/// A plugin must share a protocol with its route, or with a route of its service.
///
/// Kong looks at the protocols that were sent (defaults do not count), before it checks anything
/// else: a faulty row may get this answer alone.
fn protocols_meet(tables: &Tables, input: &mut Value, before: Option<&Row>) -> Result<(), Fault> {
    let touched = ["protocols", "route", "service"];
    if before.is_some() && touched.iter().all(|name| input.lookup(name).is_none()) {
        return Ok(());
    }
    let given = |name: &str| match (input.lookup(name), before) {
        (Some(value), _) => value.clone(),
        (None, Some(row)) => row.get(name).clone(),
        (None, None) => Value::Null,
    };
    let Value::List(own) = given("protocols") else { return Ok(()) };
    let shares = |row: &Row| row.list("protocols").iter().any(|known| own.contains(known));
    if let Some(route) = given("route").as_id() {
        return match tables.get("routes", route) {
            Some(route) if !shares(route) => {
                Err(Faults::of("protocols", "must match the associated route's protocols").into())
            }
            _ => Ok(()),
        };
    }
    if let Some(service) = given("service").as_id() {
        let mut routes = tables.children("routes", "service", service, None).peekable();
        if routes.peek().is_some() && !routes.any(|route| shares(route)) {
            let words =
                "must match the protocols of at least one route pointing to this Plugin's service";
            return Err(Faults::of("protocols", words).into());
        }
    }
    Ok(())
}
