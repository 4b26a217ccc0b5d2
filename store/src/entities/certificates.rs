//! A Certificate and its key, shown to clients by SNI or to upstreams.
//!
//! Source: Kong `kong/db/schema/entities/certificates.lua`, `kong/db/dao/certificates.lua`.

use crate::check::pem;
use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT, wildcard_host};
use crate::schema::{Entity, Field, NamedChildren, Rule, array, text};

const fn certificate(name: &'static str) -> Field {
    text(name, "A string representing a certificate.").referenceable().custom(pem::certificate)
}

const fn key(name: &'static str) -> Field {
    text(name, "A string representing a key.").referenceable().encrypted().custom(pem::private_key)
}

const SNI: Field = wildcard_host("");

const fn check(fields: &'static [&'static str], check: crate::schema::Judge) -> Rule {
    Rule::Custom { fields, run_with_missing_fields: false, run_with_invalid_fields: false, check }
}

/// The entity.
pub static CERTIFICATES: Entity = Entity {
    name: "certificates",
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        certificate("cert").required(),
        key("key").required(),
        certificate("cert_alt").optional(),
        key("key_alt").optional(),
        TAGS,
        array("snis", "", &SNI).optional().transient(),
    ],
    rules: &[
        Rule::MutuallyRequired(&["cert_alt", "key_alt"]),
        check(&["cert", "key"], pem::pair),
        check(&["cert_alt", "key_alt"], pem::pair_alt),
        check(&["cert", "cert_alt"], pem::kinds_differ),
    ],
    named_children: Some(NamedChildren {
        list: "snis",
        entity: "snis",
        name: "name",
        pointer: "certificate",
        unknown: "SNI not found",
    }),
    ..Entity::EMPTY
};
