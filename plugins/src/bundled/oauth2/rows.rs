//! What oauth2 keeps: applications, codes that wait to be exchanged, tokens.

use store::check::uri;
use store::schema::{
    Entity, Field, Preset, Random, Transform, array, boolean, foreign, integer, text, typical,
};
use store::value::Value;

use super::secret;

const REDIRECT_URI: Field = text("", "").custom(redirect_uri);

/// A consumer's applications.
pub(super) static CREDENTIALS: Entity = Entity {
    name: "oauth2_credentials",
    admin_name: Some("oauth2"),
    endpoint_key: Some("client_id"),
    cache_key: &["client_id"],
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("consumer", "consumers", "").required().cascade(),
        text("name", "").required(),
        text("client_id", "").optional().unique().auto(),
        text("client_secret", "").optional().auto().encrypted(),
        boolean("hash_secret", "").required().or(Preset::Flag(false)),
        array("redirect_uris", "", &REDIRECT_URI).optional(),
        typical::TAGS,
        text("client_type", "")
            .required()
            .or(Preset::Text("confidential"))
            .one_of(&["confidential", "public"]),
    ],
    transforms: &[Transform {
        input: &["hash_secret"],
        needs: &["client_secret"],
        apply: hash_secret,
    }],
    ..Entity::EMPTY
};

/// Codes that wait to be exchanged for a token.
pub(super) static CODES: Entity = Entity {
    name: "oauth2_authorization_codes",
    ttl: true,
    admin: false,
    exported: false,
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("service", "services", "").or(Preset::Null).cascade(),
        foreign("credential", "oauth2_credentials", "").required().cascade(),
        text("code", "").optional().unique().auto(),
        text("authenticated_userid", "").optional(),
        text("scope", ""),
        text("challenge", "").optional(),
        text("challenge_method", "").optional().one_of(&["S256"]),
        foreign("plugin", "plugins", "").or(Preset::Null).cascade(),
    ],
    ..Entity::EMPTY
};

/// Tokens.
pub(super) static TOKENS: Entity = Entity {
    name: "oauth2_tokens",
    endpoint_key: Some("access_token"),
    cache_key: &["access_token"],
    ttl: true,
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("service", "services", "").or(Preset::Null).cascade(),
        foreign("credential", "oauth2_credentials", "").required().cascade(),
        text("token_type", "").required().or(Preset::Text("bearer")).one_of(&["bearer"]),
        integer("expires_in", "").required(),
        text("access_token", "").optional().unique().auto(),
        text("refresh_token", "").optional().unique(),
        text("authenticated_userid", "").optional(),
        text("scope", ""),
    ],
    ..Entity::EMPTY
};

fn redirect_uri(value: &Value) -> Result<(), String> {
    let text = value.as_text().unwrap_or_default();
    let parts = uri::split(text);
    if parts.host.is_none() || parts.scheme.is_none() {
        return Err(format!("cannot parse '{text}'"));
    }
    if text.contains('#') {
        return Err(format!("fragment not allowed in '{text}'"));
    }
    Ok(())
}

fn hash_secret(row: &mut Value, random: &mut Random<'_>) -> Result<(), String> {
    if row.get("hash_secret").as_flag() != Some(true) {
        return Ok(());
    }
    let given = row.get("client_secret").as_text().ok_or("there is no secret")?;
    let hashed = secret::hashed(given.as_bytes(), random);
    row.put("client_secret", Value::text(hashed));
    Ok(())
}
