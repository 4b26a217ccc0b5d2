//! `/schemas`: what may be configured, and whether an object would be accepted.
//!
//! Source: Kong `kong/api/routes/kong.lua`.

use super::Reply;
use super::body::Sent;
use super::rows::Answered;
use crate::actor::Working;
use crate::schema::{Catalogue, Entity};
use crate::{describe, entities};

/// `GET /schemas/{name}`
pub(super) fn entity(catalogue: &Catalogue, name: &str) -> Answered {
    Ok(Reply::json(200, &describe::entity_document(known(catalogue, name)?)))
}

/// An entity, also one that Kong has rows of and this gateway has not.
fn known(catalogue: &Catalogue, name: &str) -> Result<&'static Entity, Reply> {
    let described = || entities::DESCRIBED.iter().copied().find(|entity| entity.name == name);
    catalogue.entity(name).or_else(described).ok_or_else(|| no_entity(name))
}

/// `GET /schemas/plugins/{name}`
pub(super) fn plugin(catalogue: &Catalogue, name: &str) -> Answered {
    match catalogue.plugin(name) {
        Some(plugin) => Ok(Reply::json(200, &describe::plugin_document(plugin))),
        None => Err(no_plugin(name)),
    }
}

/// `GET /schemas/vaults/{name}`
pub(super) fn vault(name: &str) -> Answered {
    match describe::variant_document(&entities::VAULTS, name) {
        Some(document) => Ok(Reply::json(200, &document)),
        None => Err(Reply::message(404, &format!("No vault named '{name}'"))),
    }
}

/// `GET /plugins/schema/{name}`
pub(super) fn plugin_config(catalogue: &Catalogue, name: &str) -> Answered {
    match catalogue.plugin(name) {
        Some(plugin) => Ok(Reply::json(200, &describe::plugin_config_document(plugin))),
        None => Err(no_plugin(name)),
    }
}

/// `POST /schemas/{name}/validate`
pub(super) fn validate(store: &mut Working<'_>, name: &str, mut sent: Sent) -> Answered {
    let catalogue = store.catalogue();
    let entity = known(catalogue, name)?;
    // Kong checks the texts of a form as they are.
    sent.typed = true;
    let input = sent.take(catalogue, entity, None);
    store.validate(entity, input)?;
    Ok(Reply::message(200, "schema validation successful"))
}

fn no_entity(name: &str) -> Reply {
    Reply::message(404, &format!("No entity named '{name}'"))
}

fn no_plugin(name: &str) -> Reply {
    Reply::message(404, &format!("No plugin named '{name}'"))
}
