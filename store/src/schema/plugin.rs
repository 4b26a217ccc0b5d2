//! What the store knows of a plugin: the fields of its configuration.

use super::{Field, Judge, Rule, Shape, Shorthand, record, typical};

/// The configuration of one plugin, as data.
///
/// Write it as `PluginSchema { name: "key-auth", …, ..PluginSchema::EMPTY }`.
#[derive(Clone, Copy, Debug)]
pub struct PluginSchema {
    /// Kong's name of it.
    pub name: &'static str,
    /// Higher runs earlier.
    pub priority: i32,
    /// Kong's version of it.
    pub version: &'static str,
    /// Its `protocols` field: [`typical::PROTOCOLS_HTTP`], [`typical::PROTOCOLS`], or its own.
    pub protocols: Field,
    /// Cannot be set on a consumer.
    pub no_consumer: bool,
    /// Cannot be set on a route.
    pub no_route: bool,
    /// Cannot be set on a service.
    pub no_service: bool,
    /// The fields of `config`.
    pub config: &'static [Field],
    /// Rules inside `config` (names without `config.`).
    pub config_rules: &'static [Rule],
    /// Shorthands inside `config`.
    pub shorthands: &'static [Shorthand],
    /// A check of the whole `config`; its error is the fault of `config`.
    pub config_check: Option<Judge>,
    /// Rules of the whole row (names with `config.`).
    pub rules: &'static [Rule],
}

impl PluginSchema {
    /// A plugin for HTTP protocols without configuration.
    pub const EMPTY: Self = Self {
        name: "",
        priority: 0,
        version: "3.9.1",
        protocols: typical::PROTOCOLS_HTTP,
        no_consumer: false,
        no_route: false,
        no_service: false,
        config: &[],
        config_rules: &[],
        shorthands: &[],
        config_check: None,
        rules: &[],
    };

    /// The inside of `config`.
    pub const fn shape(&self) -> Shape {
        Shape { fields: self.config, rules: self.config_rules, shorthands: self.shorthands }
    }

    /// The `config` field.
    pub const fn config_field(&self) -> Field {
        let field = record("config", "", self.config)
            .rules(self.config_rules)
            .shorthands(self.shorthands)
            .required();
        match self.config_check {
            Some(check) => field.custom(check),
            None => field,
        }
    }

    /// The fields that replace those of entity `plugins`, by name.
    pub fn field(&self, name: &str) -> Option<Field> {
        match name {
            "config" => Some(self.config_field()),
            "protocols" => Some(self.protocols.named("protocols")),
            "consumer" if self.no_consumer => Some(typical::NO_CONSUMER),
            "route" if self.no_route => Some(typical::NO_ROUTE),
            "service" if self.no_service => Some(typical::NO_SERVICE),
            _ => None,
        }
    }
}
