//! The two endpoints: `…/oauth2/authorize` and `…/oauth2/token`.
//!
//! Kong looks at everything and keeps the last fault that it finds; so does this, in its order.

use std::sync::Arc;

use aws_lc_rs::digest;
use serde_json::{Map, Value as Json};
use store::actor::{Key, Working};
use store::check::Fault;
use store::value::{Row, Value};
use uuid::Uuid;

use super::answer::{self, Ended, Wrong, wrong};
use super::parameters::Parameters;
use super::rows::{CODES, CREDENTIALS, TOKENS};
use super::{Pkce, Settings, secret};
use crate::pdk::{Answer, Exchange, Outcome, Refused, Rows, Scheme, credentials};

/// How long a code waits to be exchanged.
const CODE_TTL_S: i64 = 300;

/// Shortest and longest verifier of a code (RFC 7636).
const VERIFIER_BYTES: std::ops::RangeInclusive<usize> = 43..=128;

const INVALID_CLIENT: &str = "Invalid client authentication";
const FOREIGN_REDIRECT: &str = "Invalid redirect_uri that does not match with any redirect_uri \
    created with the application";

/// What a token or a code is made of.
#[derive(Clone)]
struct Grant {
    service: Option<Uuid>,
    credential: Uuid,
    authenticated_userid: Option<String>,
    scope: Option<String>,
}

impl Grant {
    fn row(&self) -> Value {
        let pointer = |id: Uuid| Value::object([("id", Value::text(id.to_string()))]);
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::text);
        Value::object([
            ("service", self.service.map_or(Value::Null, pointer)),
            ("credential", pointer(self.credential)),
            ("authenticated_userid", text(&self.authenticated_userid)),
            ("scope", text(&self.scope)),
        ])
    }
}

/// What a new token takes the place of.
#[derive(Clone, Copy)]
enum Spent {
    Nothing,
    Code(Uuid),
    Token(Uuid),
}

impl Settings {
    /// Whether the client speaks TLS, or a proxy that is trusted says that it did so to it.
    fn is_secure(&self, exchange: &Exchange) -> Result<(), Wrong> {
        const DENIED: &str = "access_denied";
        let unsafe_scheme = wrong(DENIED, "You must use HTTPS");
        if exchange.client.scheme == Scheme::Https {
            return Ok(());
        }
        if !self.accept_http_if_already_terminated || !exchange.client.trusted {
            return Err(unsafe_scheme);
        }
        let mut told = exchange.request.fields.all("x-forwarded-proto");
        let (first, second) = (told.next(), told.next());
        match first {
            Some(proto) if second.is_some() || proto.contains(&b',') => {
                Err(wrong(DENIED, "Only one X-Forwarded-Proto header allowed"))
            }
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => Ok(()),
            _ => Err(unsafe_scheme),
        }
    }

    /// The scopes that were asked for, if all of them are known.
    fn scope(&self, parameters: &Parameters) -> Result<Option<String>, Wrong> {
        const INVALID: &str = "invalid_scope";
        match parameters.get("scope") {
            None if self.mandatory_scope => Err(wrong(INVALID, "You must specify a scope")),
            Some(_) if self.scopes.is_none() => Ok(None),
            None => Ok(None),
            Some(scope) => {
                let text = scope.as_str().ok_or(wrong(INVALID, "scope must be a string"))?;
                let strange = text.split_ascii_whitespace().find(|scope| !self.knows(scope));
                if let Some(strange) = strange {
                    return Err(wrong(INVALID, format!("\"{strange}\" is an invalid scope")));
                }
                let scopes: Vec<_> = text.split_ascii_whitespace().collect();
                Ok((!scopes.is_empty()).then(|| scopes.join(" ")))
            }
        }
    }

    fn knows(&self, scope: &str) -> bool {
        self.scopes.iter().flatten().any(|known| known == scope)
    }

    fn has_provision_key(&self, parameters: &Parameters) -> Result<(), Wrong> {
        let given = parameters.text("provision_key").unwrap_or_default();
        if credentials::same(given.as_bytes(), self.provision_key.as_bytes()) {
            return Ok(());
        }
        Err(wrong("invalid_provision_key", "Invalid provision_key"))
    }

    /// The service that tokens are for; none where they are for all.
    fn service(&self, exchange: &Exchange) -> Option<Uuid> {
        exchange.service_id().filter(|_| !self.global_credentials)
    }

    fn needs_pkce(&self, client: &Row) -> bool {
        match client.text("client_type") {
            Some("public") => self.pkce != Pkce::None,
            _ => self.pkce == Pkce::Strict,
        }
    }

    /// `…/oauth2/authorize`.
    pub(super) async fn authorize(&self, exchange: &Exchange) -> Outcome {
        let parameters = Parameters::of(exchange);
        let state = parameters.get("state");
        let early = self
            .is_secure(exchange)
            .and_then(|()| self.has_provision_key(&parameters))
            .and_then(|()| user(&parameters).map(drop));
        if let Err(wrong) = early {
            return answered(answer::authorization(&Err(wrong), state, None, false));
        }
        let (checked, redirect_uri) = self.check_authorization(exchange, &parameters);
        let is_implicit = parameters.text("response_type") == Some("token");
        let ended = match checked {
            Err(wrong) => Ok(Err(wrong)),
            Ok((grant, _)) if is_implicit => {
                self.new_token(exchange, grant, Spent::Nothing, false).await.map(Ok)
            }
            Ok((grant, challenge)) => self.new_code(exchange, grant, challenge).await.map(Ok),
        };
        match ended {
            Ok(ended) => {
                let in_fragment = is_implicit && ended.is_ok();
                let redirect_uri = redirect_uri.as_deref();
                answered(answer::authorization(&ended, state, redirect_uri, in_fragment))
            }
            Err(why) => failed(&why),
        }
    }

    /// All that can be wrong with a request for authorization, and where its answer goes.
    #[allow(clippy::type_complexity, reason = "named nowhere else")]
    fn check_authorization(
        &self,
        exchange: &Exchange,
        parameters: &Parameters,
    ) -> (Result<(Grant, Option<String>), Wrong>, Option<String>) {
        let mut found = match parameters.text("response_type") {
            Some("code") if self.enable_authorization_code => Ok(()),
            Some("token") if self.enable_implicit_grant => Ok(()),
            _ => Err(wrong("unsupported_response_type", "Invalid response_type")),
        };
        let scope = self.scope(parameters);
        if let Err(wrong) = &scope {
            found = Err(wrong.clone());
        }
        let client = client(exchange, parameters.text("client_id"));
        let uris = client.as_deref().and_then(redirect_uris);
        let mut redirect_uri = None;
        match &uris {
            None => found = Err(wrong("invalid_client", INVALID_CLIENT)),
            Some(uris) => {
                let first = uris.first().cloned();
                redirect_uri = match parameters.get("redirect_uri") {
                    None => first.clone(),
                    Some(asked) => asked.as_str().map(str::to_owned),
                };
                if !redirect_uri.as_ref().is_some_and(|uri| uris.contains(uri)) {
                    found = Err(wrong("invalid_request", FOREIGN_REDIRECT));
                    redirect_uri = first;
                }
            }
        }
        let challenge = challenge(parameters);
        match (&challenge, &client) {
            (Err(wrong), _) => found = Err(wrong.clone()),
            (Ok(None), Some(client)) if self.needs_pkce(client) => {
                let kind = client.text("client_type").unwrap_or("confidential");
                let words = format!("code_challenge is required for {kind} clients");
                found = Err(wrong("invalid_request", words));
            }
            _ => {}
        }
        let grant = found.and_then(|()| {
            let client = client.ok_or(wrong("invalid_client", INVALID_CLIENT))?;
            let grant = Grant {
                service: self.service(exchange),
                credential: client.id(),
                authenticated_userid: parameters.text("authenticated_userid").map(Into::into),
                scope: scope?,
            };
            Ok((grant, challenge?))
        });
        (grant, redirect_uri)
    }

    /// `…/oauth2/token`.
    pub(super) async fn issue(&self, exchange: &Exchange) -> Outcome {
        let parameters = Parameters::of(exchange);
        let state = parameters.get("state");
        if let Err(wrong) = self.is_secure(exchange) {
            return answered(answer::token(&Err(wrong), state, false));
        }
        let grant_type = parameters.text("grant_type").unwrap_or_default();
        let mut found = match grant_type {
            "authorization_code" | "refresh_token" => Ok(()),
            "client_credentials" if self.enable_client_credentials => Ok(()),
            "password" if self.enable_password_grant => Ok(()),
            _ => Err(wrong("unsupported_grant_type", "Invalid grant_type")),
        };
        let named = self.named(exchange, &parameters);
        let client = client(exchange, named.client_id.as_deref());
        let uris = client.as_deref().and_then(redirect_uris);
        let mut by_header = false;
        if grant_type != "client_credentials" {
            match &uris {
                None => {
                    found = Err(wrong("invalid_client", INVALID_CLIENT));
                    by_header = named.by_header;
                }
                Some(uris) => {
                    let asked = parameters.get("redirect_uri").map(|asked| asked.as_str());
                    let asked = asked.unwrap_or_else(|| uris.first().map(String::as_str));
                    if !asked.is_some_and(|asked| uris.iter().any(|uri| uri == asked)) {
                        found = Err(wrong("invalid_request", FOREIGN_REDIRECT));
                    }
                }
            }
        }
        if let Some(client) = &client
            && let Err(wrong) = proven(exchange, client, named.client_secret.as_deref()).await
        {
            by_header |= named.by_header && wrong.error == "invalid_client";
            found = Err(wrong);
        }
        let ended = match found {
            Err(wrong) => Ok(Err(wrong)),
            Ok(()) => self.grant(exchange, grant_type, &parameters, client.as_deref()).await,
        };
        match ended {
            Ok(ended) => answered(answer::token(&ended, state, by_header)),
            Err(why) => failed(&why),
        }
    }

    async fn grant(
        &self,
        exchange: &Exchange,
        grant_type: &str,
        parameters: &Parameters,
        client: Option<&Row>,
    ) -> Result<Ended, Refused> {
        let checked = match (grant_type, client) {
            (_, None) => Err(wrong("invalid_client", INVALID_CLIENT)),
            ("authorization_code", Some(client)) => self.by_code(exchange, parameters, client),
            ("refresh_token", Some(client)) => self.by_refresh(exchange, parameters, client),
            (_, Some(client)) => self
                .by_user(exchange, grant_type, parameters, client)
                .map(|grant| (grant, Spent::Nothing)),
        };
        let (grant, spent) = match checked {
            Ok(checked) => checked,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let refreshes = grant_type != "client_credentials";
        match (self.new_token(exchange, grant, spent, refreshes).await, spent) {
            (Ok(token), _) => Ok(Ok(token)),
            // Somebody else was faster: a code or a refresh token works once.
            (Err(Refused::Rows(_)), Spent::Code(_)) => {
                Ok(Err(wrong("invalid_request", "Invalid code")))
            }
            (Err(Refused::Rows(_)), Spent::Token(_)) => {
                Ok(Err(wrong("invalid_request", "Invalid refresh_token")))
            }
            (Err(why), _) => Err(why),
        }
    }

    fn by_user(
        &self,
        exchange: &Exchange,
        grant_type: &str,
        parameters: &Parameters,
        client: &Row,
    ) -> Result<Grant, Wrong> {
        let mut authenticated_userid = parameters.text("authenticated_userid").map(str::to_owned);
        if grant_type == "password" {
            self.has_provision_key(parameters)?;
            authenticated_userid = Some(user(parameters)?.to_owned());
        } else if parameters.get("authenticated_userid").is_some() {
            self.has_provision_key(parameters)?;
        }
        let scope = self.scope(parameters)?;
        let service = self.service(exchange);
        Ok(Grant { service, credential: client.id(), authenticated_userid, scope })
    }

    fn by_code(
        &self,
        exchange: &Exchange,
        parameters: &Parameters,
        client: &Row,
    ) -> Result<(Grant, Spent), Wrong> {
        let invalid = || wrong("invalid_request", "Invalid code");
        let row =
            parameters.text("code").and_then(|code| alive(exchange, CODES.name, "code", code));
        let row = row.filter(|row| self.is_for(exchange, row)).ok_or_else(invalid)?;
        if row.foreign("credential") != Some(client.id()) {
            return Err(invalid());
        }
        if row.text("challenge_method").is_some() || self.needs_pkce(client) {
            verify(parameters, &row)?;
        }
        let plugin = row.foreign("plugin");
        if self.global_credentials && plugin.is_some_and(|plugin| plugin != self.row_id) {
            return Err(invalid());
        }
        Ok((of_row(&row, client, self.service(exchange)), Spent::Code(row.id())))
    }

    fn by_refresh(
        &self,
        exchange: &Exchange,
        parameters: &Parameters,
        client: &Row,
    ) -> Result<(Grant, Spent), Wrong> {
        let sent = parameters.text("refresh_token");
        let row = sent.and_then(|sent| alive(exchange, TOKENS.name, "refresh_token", sent));
        let row = row.filter(|row| self.is_for(exchange, row));
        let row = row.ok_or_else(|| wrong("invalid_request", "Invalid refresh_token"))?;
        if row.foreign("credential") != Some(client.id()) {
            return Err(wrong("invalid_client", INVALID_CLIENT));
        }
        let mut scopes = row.text("scope").unwrap_or_default().split_ascii_whitespace();
        if !scopes.all(|scope| self.knows(scope)) {
            return Err(wrong("invalid_scope", "Scope mismatch"));
        }
        Ok((of_row(&row, client, self.service(exchange)), Spent::Token(row.id())))
    }

    /// Whether a code or a token is for the service of this request.
    fn is_for(&self, exchange: &Exchange, row: &Row) -> bool {
        let service = self.service(exchange);
        service.is_none() || row.foreign("service") == service
    }

    async fn new_code(
        &self,
        exchange: &Exchange,
        grant: Grant,
        challenge: Option<String>,
    ) -> Result<Map<String, Json>, Refused> {
        let plugin = self.row_id;
        let rows = exchange.kit.office.write(move |working| {
            let mut row = grant.row();
            row.put("plugin", Value::object([("id", Value::text(plugin.to_string()))]));
            if let Some(challenge) = &challenge {
                row.put("challenge", Value::text(challenge.as_str()));
                row.put("challenge_method", Value::text("S256"));
            }
            row.put("ttl", Value::Integer(CODE_TTL_S));
            Ok(vec![working.insert(&CODES, row)?])
        });
        let rows = rows.await?;
        let code = rows.first().and_then(|row| row.text("code")).unwrap_or_default();
        Ok([("code".to_owned(), code.into())].into_iter().collect())
    }

    /// Makes a token, and takes away what it is made from.
    async fn new_token(
        &self,
        exchange: &Exchange,
        grant: Grant,
        spent: Spent,
        refreshes: bool,
    ) -> Result<Map<String, Json>, Refused> {
        let plan = TokenPlan {
            grant,
            spent,
            expires_in_s: self.token_expiration_s,
            ttl_s: self.refresh_token_ttl_s.filter(|_| self.token_expiration_s > 0),
            refreshes: refreshes && self.token_expiration_s > 0,
            reuses: self.reuse_refresh_token,
        };
        let rows = exchange.kit.office.write(move |working| plan.write(working)).await?;
        let text = |name| rows.first().and_then(|row| row.text(name));
        let mut token = Map::new();
        if self.token_expiration_s > 0 {
            token.insert("expires_in".to_owned(), self.token_expiration_s.into());
        }
        token.insert("token_type".to_owned(), "bearer".into());
        token.insert("access_token".to_owned(), text("access_token").unwrap_or_default().into());
        if let Some(refresh) = text("refresh_token") {
            token.insert("refresh_token".to_owned(), refresh.into());
        }
        Ok(token)
    }

    /// Who the client says it is: by arguments, or by `Basic …`.
    fn named(&self, exchange: &Exchange, parameters: &Parameters) -> Named {
        let text = |name| parameters.text(name).map(str::to_owned);
        let (client_id, client_secret) = (text("client_id"), text("client_secret"));
        if client_id.is_some() && client_secret.is_some() {
            return Named { client_id, client_secret, by_header: false };
        }
        let Some(line) = self.line(exchange) else {
            return Named { client_id, client_secret: None, by_header: false };
        };
        let pair = credentials::after_scheme(line, "basic", 0).and_then(credentials::base64);
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
        let (client_id, client_secret) =
            pair.split_once(':').map_or((&*pair, None), |(id, secret)| (id, Some(secret)));
        Named {
            client_id: (!client_id.is_empty()).then(|| client_id.to_owned()),
            client_secret: client_secret.map(str::to_owned),
            by_header: true,
        }
    }
}

/// Who a client says it is.
struct Named {
    client_id: Option<String>,
    client_secret: Option<String>,
    by_header: bool,
}

/// A token that is to be written, and what goes with it.
struct TokenPlan {
    grant: Grant,
    spent: Spent,
    expires_in_s: i64,
    ttl_s: Option<i64>,
    refreshes: bool,
    reuses: bool,
}

impl TokenPlan {
    fn write(&self, working: &mut Working<'_>) -> Result<Rows, Fault> {
        let ttl = self.ttl_s.map_or(Value::Null, Value::Integer);
        if let (Spent::Token(id), true) = (self.spent, self.reuses) {
            let patch = Value::object([
                ("access_token", Value::text(working.new_secret())),
                ("expires_in", Value::Integer(self.expires_in_s)),
                ("created_at", Value::Integer(working.now_s())),
                ("ttl", ttl),
            ]);
            return Ok(vec![working.update(&TOKENS, &Key::Id(id), patch)?]);
        }
        let mut row = self.grant.row();
        row.put("expires_in", Value::Integer(self.expires_in_s));
        row.put("ttl", ttl);
        if self.refreshes {
            row.put("refresh_token", Value::text(working.new_secret()));
        }
        let (entity, id) = match self.spent {
            Spent::Nothing => return Ok(vec![working.insert(&TOKENS, row)?]),
            Spent::Code(id) => (&CODES, id),
            Spent::Token(id) => (&TOKENS, id),
        };
        if !working.delete(entity, &Key::Id(id))? {
            return Err(Fault::not_found(serde_json::json!({ "id": id.to_string() })));
        }
        Ok(vec![working.insert(&TOKENS, row)?])
    }
}

fn of_row(row: &Row, client: &Row, service: Option<Uuid>) -> Grant {
    Grant {
        service,
        credential: client.id(),
        authenticated_userid: row.text("authenticated_userid").map(Into::into),
        scope: row.text("scope").map(Into::into),
    }
}

/// The application of a client id.
fn client(exchange: &Exchange, client_id: Option<&str>) -> Option<Arc<Row>> {
    exchange.tables().by(CREDENTIALS.name, "client_id", client_id?).cloned()
}

fn redirect_uris(client: &Row) -> Option<Vec<String>> {
    let uris = client.get("redirect_uris");
    (!uris.is_null()).then(|| uris.texts().map(str::to_owned).collect())
}

/// A row that has not ended.
pub(super) fn alive(
    exchange: &Exchange,
    entity: &str,
    field: &str,
    value: &str,
) -> Option<Arc<Row>> {
    let now_s = (exchange.times.started_wall_us / 1_000_000).cast_signed();
    let row = exchange.tables().by(entity, field, value)?;
    row.is_alive(now_s).then(|| Arc::clone(row))
}

fn user(parameters: &Parameters) -> Result<&str, Wrong> {
    let given = parameters.text("authenticated_userid").filter(|user| !user.trim().is_empty());
    let missing = "Missing authenticated_userid parameter";
    given.ok_or_else(|| wrong("invalid_authenticated_userid", missing))
}

/// Whether a client is who it says it is. Hashes are verified in the office.
async fn proven(exchange: &Exchange, client: &Arc<Row>, given: Option<&str>) -> Result<(), Wrong> {
    if client.text("client_type") == Some("public") {
        let is_empty = given.is_none_or(|given| given.trim().is_empty());
        let words = "client_secret is disallowed for public clients";
        return if is_empty { Ok(()) } else { Err(wrong("invalid_request", words)) };
    }
    let invalid = || wrong("invalid_client", INVALID_CLIENT);
    let (given, stored) = given.zip(client.text("client_secret")).ok_or_else(invalid)?;
    let same = if client.flag("hash_secret").unwrap_or(false) {
        let (given, stored) = (given.to_owned(), stored.to_owned());
        let work = move || secret::verify(given.as_bytes(), &stored);
        exchange.kit.office.work(work).await
    } else {
        credentials::same(given.as_bytes(), stored.as_bytes())
    };
    if same { Ok(()) } else { Err(invalid()) }
}

/// The challenge that a code is to be exchanged with, in its one form.
fn challenge(parameters: &Parameters) -> Result<Option<String>, Wrong> {
    const INVALID: &str = "invalid_request";
    let method = parameters.get("code_challenge_method");
    let Some(sent) = parameters.get("code_challenge") else {
        let words = "code_challenge is required when code_method is present";
        return if method.is_none() { Ok(None) } else { Err(wrong(INVALID, words)) };
    };
    if method.is_some_and(|method| !matches!(method.as_str(), Some("S256" | "s256"))) {
        return Err(wrong(INVALID, "code_challenge_method is not supported, must be S256"));
    }
    let text = sent.as_str().unwrap_or_default();
    let plain = text.replace('-', "+").replace('_', "/");
    let decoded = credentials::base64(plain.as_bytes());
    Ok(Some(decoded.map_or_else(|| text.to_owned(), |bytes| credentials::to_base64url(&bytes))))
}

/// Whether who exchanges a code is who asked for it (RFC 7636).
fn verify(parameters: &Parameters, code: &Row) -> Result<(), Wrong> {
    const INVALID: &str = "invalid_request";
    let verifier = match parameters.get("code_verifier") {
        None => {
            let words = "code_verifier is required for PKCE authorization requests";
            return Err(wrong(INVALID, words));
        }
        Some(verifier) => {
            verifier.as_str().ok_or_else(|| wrong(INVALID, "code_verifier is not a string"))?
        }
    };
    if !VERIFIER_BYTES.contains(&verifier.len()) {
        return Err(wrong(INVALID, "code_verifier must be between 43 and 128 characters"));
    }
    let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
    let made = credentials::to_base64url(digest.as_ref());
    let asked = code.text("challenge").unwrap_or_default();
    if credentials::same(made.as_bytes(), asked.as_bytes()) {
        return Ok(());
    }
    Err(wrong("invalid_grant", "Invalid code"))
}

fn answered(answer: Answer) -> Outcome {
    Outcome::Answer(Box::new(answer))
}

fn failed(why: &Refused) -> Outcome {
    log::error!("oauth2: a token or a code could not be kept: {why}");
    answered(Answer::error(500, "An unexpected error occurred"))
}
