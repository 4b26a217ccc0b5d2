//! The core entities, one data file each.

mod ca_certificates;
mod certificates;
mod consumers;
mod described;
mod filter_chains;
mod key_sets;
mod keys;
mod plugins;
mod routes;
mod services;
mod snis;
mod targets;
mod upstreams;
mod vaults;
mod workspaces;

pub use ca_certificates::CA_CERTIFICATES;
pub use certificates::CERTIFICATES;
pub use consumers::CONSUMERS;
pub use described::DESCRIBED;
pub use filter_chains::FILTER_CHAINS;
pub use key_sets::KEY_SETS;
pub use keys::KEYS;
pub use plugins::PLUGINS;
pub use routes::{ROUTES, ROUTES_BY_EXPRESSION};
pub use services::SERVICES;
pub use snis::SNIS;
pub use targets::{TARGET_PORT, TARGETS, spell_out};
pub use upstreams::UPSTREAMS;
pub use vaults::VAULTS;
pub use workspaces::{WORKSPACE, WORKSPACES};

use crate::schema::Entity;

/// Every core entity, parents before children.
pub static ALL: &[&Entity] = &[
    &WORKSPACES,
    &CERTIFICATES,
    &SNIS,
    &CA_CERTIFICATES,
    &VAULTS,
    &KEY_SETS,
    &KEYS,
    &UPSTREAMS,
    &TARGETS,
    &SERVICES,
    &ROUTES,
    &CONSUMERS,
    &PLUGINS,
    &FILTER_CHAINS,
];
