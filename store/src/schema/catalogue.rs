//! Everything that can be configured on this node.

use super::{Entity, PluginSchema};

/// The entities and plugins of this node.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Core entities and those that plugins own, parents before children.
    pub entities: Vec<&'static Entity>,
    /// Every plugin that is built in.
    pub plugins: Vec<&'static PluginSchema>,
    /// Names from the setting `plugins`, `bundled` already spelt out.
    pub enabled: Vec<String>,
}

impl Catalogue {
    /// The core entities and `plugins`, all of them enabled.
    ///
    /// `owned` are the entities that plugins bring along.
    pub fn new(plugins: Vec<&'static PluginSchema>, owned: &[&'static Entity]) -> Self {
        let mut entities = crate::entities::ALL.to_vec();
        entities.extend_from_slice(owned);
        let enabled = plugins.iter().map(|plugin| plugin.name.to_owned()).collect();
        Self { entities, plugins, enabled }
    }

    /// The same with routes that can be expressions (`router_flavor = expressions`).
    #[must_use]
    pub fn with_expressions(mut self) -> Self {
        for entity in &mut self.entities {
            if entity.name == crate::entities::ROUTES.name {
                *entity = &crate::entities::ROUTES_BY_EXPRESSION;
            }
        }
        self
    }

    /// The entity of that name.
    pub fn entity(&self, name: &str) -> Option<&'static Entity> {
        self.entities.iter().copied().find(|entity| entity.name == name)
    }

    /// The plugin of that name, if it is enabled.
    pub fn plugin(&self, name: &str) -> Option<&'static PluginSchema> {
        if !self.enabled.iter().any(|enabled| enabled == name) {
            return None;
        }
        self.installed(name)
    }

    /// The plugin of that name, enabled or not.
    pub fn installed(&self, name: &str) -> Option<&'static PluginSchema> {
        self.plugins.iter().copied().find(|plugin| plugin.name == name)
    }

    /// The entities that point to `parent`, with the name of the pointing field.
    pub fn children(&self, parent: &str) -> Vec<(&'static Entity, &'static super::Field)> {
        let mut found = Vec::new();
        for entity in &self.entities {
            for field in entity.fields {
                if matches!(field.kind, super::Kind::Foreign(name, _) if name == parent) {
                    found.push((*entity, field));
                }
            }
        }
        found
    }
}
