//! oauth2: hands out tokens to applications of consumers, and lets in who holds one.
//!
//! ```text
//!   …/oauth2/authorize ─► code or token (grants.rs) ─► office ─► rows
//!   …/oauth2/token     ─► token                            ─► rows
//!   anything else      ─► the token in a header, the query or the body ─► consumer
//! ```
//! Source: Kong `kong/plugins/oauth2/{schema,daos,access,secret}.lua`; recorded in
//! `recorded/plugins/oauth2.jsonl` and the suite `plugins-auth`. Not as in Kong: a code and a
//! refresh token work once, however many ask at the same time; a token that stands alone in the
//! header is hidden too; secrets may have colons in `Basic …`.

mod answer;
mod grants;
mod parameters;
mod rows;
mod schema;
mod secret;

use std::sync::Arc;

use store::check::uri;
use store::value::Row;
use uuid::Uuid;

use crate::pdk::{
    Answer, BodyState, Config, Credential, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step,
    identity, lines, query,
};
use answer::wrong;
use parameters::Parameters;

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access],
    entities: &[&rows::CREDENTIALS, &rows::CODES, &rows::TOKENS],
    endpoints: &[],
    prepare,
};

/// A body above this is not searched for arguments.
const BODY_BYTES_MAX: usize = 1024 * 1024;

const SCOPE: &str = "X-Authenticated-Scope";
const USER_ID: &str = "X-Authenticated-UserId";
const ACCESS_TOKEN: &str = "access_token";

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let realm = config.text("realm").map(|realm| format!(" realm=\"{realm}\""));
    let ttl_s = config.number("refresh_token_ttl").unwrap_or(0.0) as i64;
    let settings = Arc::new(Settings {
        row_id: config.row().id(),
        scopes: (!config.get("scopes").is_null()).then(|| config.texts("scopes")),
        mandatory_scope: config.flag("mandatory_scope"),
        provision_key: config.text("provision_key").unwrap_or_default().to_owned(),
        token_expiration_s: config.number("token_expiration").unwrap_or(0.0) as i64,
        enable_authorization_code: config.flag("enable_authorization_code"),
        enable_implicit_grant: config.flag("enable_implicit_grant"),
        enable_client_credentials: config.flag("enable_client_credentials"),
        enable_password_grant: config.flag("enable_password_grant"),
        hide_credentials: config.flag("hide_credentials"),
        accept_http_if_already_terminated: config.flag("accept_http_if_already_terminated"),
        anonymous: config.text("anonymous").filter(|name| !name.is_empty()).map(Into::into),
        global_credentials: config.flag("global_credentials"),
        auth_header_name: config.text("auth_header_name").unwrap_or("authorization").to_owned(),
        refresh_token_ttl_s: (ttl_s > 0).then_some(ttl_s),
        reuse_refresh_token: config.flag("reuse_refresh_token"),
        pkce: match config.text("pkce") {
            Some("strict") => Pkce::Strict,
            Some("none") => Pkce::None,
            _ => Pkce::Lax,
        },
        challenge: format!("Bearer{}", realm.unwrap_or_default()),
    });
    Ok(Prepared::new(move || Box::new(OAuth2(Arc::clone(&settings)))))
}

/// Who must prove that a code is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pkce {
    /// Nobody.
    None,
    /// Clients without a secret.
    Lax,
    /// All.
    Strict,
}

struct Settings {
    row_id: Uuid,
    scopes: Option<Vec<String>>,
    mandatory_scope: bool,
    provision_key: String,
    token_expiration_s: i64,
    enable_authorization_code: bool,
    enable_implicit_grant: bool,
    enable_client_credentials: bool,
    enable_password_grant: bool,
    hide_credentials: bool,
    accept_http_if_already_terminated: bool,
    anonymous: Option<String>,
    global_credentials: bool,
    auth_header_name: String,
    refresh_token_ttl_s: Option<i64>,
    reuse_refresh_token: bool,
    pkce: Pkce,
    challenge: String,
}

struct OAuth2(Arc<Settings>);

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Token,
    Authorize,
    Resource,
}

impl Plugin for OAuth2 {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let settings = &*self.0;
        let place = place(exchange);
        if place != Place::Resource && exchange.request.method() != "POST" {
            return settings.wrong_method(exchange, place);
        }
        if settings.wants_body(exchange, place) {
            return Step::Body { bytes_max: BODY_BYTES_MAX };
        }
        match place {
            Place::Token => Step::Wait(Box::pin(settings.issue(exchange))),
            Place::Authorize => Step::Wait(Box::pin(settings.authorize(exchange))),
            Place::Resource => settings.resource(exchange),
        }
    }
}

/// What the path asks for; a slash at its end does not count.
fn place(exchange: &Exchange) -> Place {
    let raw = std::str::from_utf8(exchange.raw_path()).unwrap_or_default();
    let path = uri::normalize(raw);
    let path = path.strip_suffix('/').unwrap_or(&path);
    if path.ends_with("/oauth2/token") {
        Place::Token
    } else if path.ends_with("/oauth2/authorize") {
        Place::Authorize
    } else {
        Place::Resource
    }
}

impl Settings {
    fn wants_body(&self, exchange: &Exchange, place: Place) -> bool {
        exchange.request_body_state == BodyState::Unread
            && parameters::may_have_body(exchange)
            && (place != Place::Resource
                || !identity::is_settled(exchange, self.anonymous.as_deref())
                    && self.line(exchange).is_none())
    }

    fn wrong_method(&self, exchange: &Exchange, place: Place) -> Step<'static> {
        let method = exchange.request.method();
        let name = if place == Place::Token { "token" } else { "authorization" };
        let words = format!("The HTTP method {method} is invalid for the {name} endpoint");
        let wrong = wrong("invalid_method", words);
        Step::answer(wrong.challenge(405, self.challenge_of(&wrong)))
    }

    fn challenge_of(&self, wrong: &answer::Wrong) -> String {
        format!(
            "{} error=\"{}\" error_description=\"{}\"",
            self.challenge, wrong.error, wrong.description
        )
    }

    /// Lets in who holds a token.
    fn resource(&self, exchange: &mut Exchange) -> Step<'static> {
        let named = self.anonymous.as_deref();
        let is_settled = identity::is_settled(exchange, named);
        let refusal = if is_settled { None } else { self.judge(exchange).err() };
        match refusal {
            None if is_settled => {
                tell(exchange, None);
                Step::NEXT
            }
            None => Step::NEXT,
            Some(Refusal::Global(answer)) => Step::answer(*answer),
            Some(Refusal::Token(answer)) => {
                tell(exchange, None);
                identity::otherwise(exchange, named, || *answer)
            }
        }
    }

    fn judge(&self, exchange: &mut Exchange) -> Result<(), Refusal> {
        let Some(sent) = self.token(exchange).filter(|token| !token.is_empty()) else {
            let missing = wrong("invalid_request", "The access token is missing");
            let answer = missing.challenge(401, self.challenge.clone());
            return Err(Refusal::Token(Box::new(answer)));
        };
        let invalid = || wrong("invalid_token", "The access token is invalid or has expired");
        let refused = || {
            let invalid = invalid();
            let answer = invalid.challenge(401, self.challenge_of(&invalid));
            Refusal::Token(Box::new(answer))
        };
        let row = grants::alive(exchange, rows::TOKENS.name, ACCESS_TOKEN, &sent);
        let row = row.ok_or_else(refused)?;
        let service = row.foreign("service");
        if service.is_none() && !self.global_credentials {
            let words = "The access token is global, but the current plugin is configured without \
                         'global_credentials'";
            let answer =
                wrong("invalid_token", words).challenge(401, self.challenge_of(&invalid()));
            return Err(Refusal::Global(Box::new(answer)));
        }
        let is_here = service.is_none() || service == exchange.service_id();
        if !is_here || has_expired(exchange, &row) {
            return Err(refused());
        }
        accept(exchange, &row).ok_or_else(refused)
    }

    /// The line that a token or a client's name and secret come in.
    fn line<'a>(&self, exchange: &'a Exchange) -> Option<&'a [u8]> {
        let fields = &exchange.request.fields;
        fields.get(&*lines::spelled(fields, &self.auth_header_name))
    }

    /// The token of a request; takes it out of what goes upstream where that is asked for.
    fn token(&self, exchange: &mut Exchange) -> Option<String> {
        if let Some(line) = self.line(exchange) {
            let line = String::from_utf8_lossy(line);
            let mut words = line.split_ascii_whitespace();
            let token = match [words.next(), words.next(), words.next()] {
                [Some(kind), Some(token), None]
                    if ["token", "bearer"].iter().any(|k| kind.eq_ignore_ascii_case(k)) =>
                {
                    token.to_owned()
                }
                _ => line.into_owned(),
            };
            if self.hide_credentials {
                let name = lines::spelled(&exchange.request.fields, &self.auth_header_name);
                exchange.request.fields.remove(&name);
            }
            return Some(token);
        }
        let token = Parameters::of(exchange).text(ACCESS_TOKEN).map(str::to_owned)?;
        if self.hide_credentials {
            hide(exchange);
        }
        Some(token)
    }
}

/// Why a request is not let in.
enum Refusal {
    /// The anonymous consumer may pass.
    Token(Box<Answer>),
    /// Nobody may pass: token and plugin do not fit together.
    Global(Box<Answer>),
}

/// Takes the token out of query and body.
fn hide(exchange: &mut Exchange) {
    if let Some(rest) = query::without(&exchange.onward.query, ACCESS_TOKEN) {
        exchange.onward.has_query = !rest.is_empty();
        exchange.onward.query = rest;
    }
    let fields = &exchange.request.fields;
    let rest = exchange
        .whole_body()
        .and_then(|body| crate::pdk::parameters::without(fields, &body, ACCESS_TOKEN));
    if let Some(rest) = rest {
        exchange.replace_body(rest);
    }
}

/// A token that never expires has `expires_in: 0`.
fn has_expired(exchange: &Exchange, row: &Row) -> bool {
    let expires_in_s = row.integer("expires_in").unwrap_or(0) as f64;
    let age_s =
        exchange.times.started_wall_us as f64 / 1e6 - row.integer("created_at").unwrap_or(0) as f64;
    expires_in_s > 0.0 && age_s > expires_in_s
}

fn accept(exchange: &mut Exchange, token: &Row) -> Option<()> {
    let tables = exchange.tables();
    let application = tables.get(rows::CREDENTIALS.name, token.foreign("credential")?)?.clone();
    let consumer = tables.get("consumers", application.foreign("consumer")?)?.clone();
    let credential = Credential::of(&application);
    let shown = application.text("client_id");
    identity::identify_as(exchange, Some(consumer), Some(credential), shown);
    tell(exchange, Some(token));
    Some(())
}

/// Tells the upstream what the token is for; nobody else may say so.
fn tell(exchange: &mut Exchange, token: Option<&Row>) {
    for (name, field) in [(SCOPE, "scope"), (USER_ID, "authenticated_userid")] {
        match token.and_then(|row| row.text(field)) {
            Some(value) => drop(exchange.request.fields.set(name, value)),
            None => drop(exchange.request.fields.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests;
