//! A CA Certificate: whom to trust.
//!
//! Source: Kong `kong/db/schema/entities/ca_certificates.lua`, `kong/db/dao/ca_certificates.lua`.

use crate::check::{Fault, pem};
use crate::fault::Kind;
use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT};
use crate::schema::{Entity, Random, Rule, Transform, text};
use crate::snapshot::Tables;
use crate::value::{Row, Value};

/// The entity.
pub static CA_CERTIFICATES: Entity = Entity {
    name: "ca_certificates",
    workspaced: false,
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        text("cert", "A string representing a certificate.").required().custom(pem::certificate),
        text("cert_digest", "").unique(),
        TAGS,
    ],
    rules: &[Rule::Custom {
        fields: &["cert"],
        run_with_missing_fields: false,
        run_with_invalid_fields: false,
        check: pem::authority,
    }],
    transforms: &[Transform { input: &["cert"], needs: &[], apply: digest }],
    farewell: Some(unused),
    ..Entity::EMPTY
};

fn digest(row: &mut Value, _random: &mut Random<'_>) -> Result<(), String> {
    let digest = pem::digest(row.get("cert"))?;
    row.put("cert_digest", Value::text(digest));
    Ok(())
}

/// A service that trusts it keeps it.
fn unused(tables: &Tables, row: &Row) -> Result<(), Fault> {
    let id = row.id();
    let trusts = |service: &Row| {
        service.list("ca_certificates").iter().any(|trusted| trusted.as_id() == Some(id))
    };
    match tables.all("services").find(|service| trusts(service)) {
        None => Ok(()),
        Some(service) => {
            let words = format!(
                "ca certificate {id} is still referenced by services (id = {})",
                service.id()
            );
            Err(Fault::plain(Kind::ReferencedByOthers, words))
        }
    }
}
