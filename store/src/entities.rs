//! The core entities, one data file each.

use crate::schema::Entity;

/// Every core entity, parents before children.
pub static ALL: &[&Entity] = &[];
