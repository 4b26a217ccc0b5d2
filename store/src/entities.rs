//! The core entities, one data file each.

mod consumers;
mod plugins;
mod routes;
mod services;

pub use consumers::CONSUMERS;
pub use plugins::PLUGINS;
pub use routes::ROUTES;
pub use services::SERVICES;

use crate::schema::Entity;

/// Every core entity, parents before children.
pub static ALL: &[&Entity] = &[&SERVICES, &ROUTES, &CONSUMERS, &PLUGINS];
