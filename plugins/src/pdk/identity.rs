//! What the authentication plugins share: who the client is, and how the upstream is told.
//!
//! Source: Kong `kong/plugins/key-auth/handler.lua` (and the other auth plugins, which repeat it),
//! `kong/constants.lua` (header names).

use std::sync::Arc;

use runtime::http::head::{Fields, Name};
use store::value::Row;
use uuid::Uuid;

use super::{Answer, Credential, Exchange, Step};

const CONSUMER_ID: Name = Name::new("X-Consumer-ID: ");
const CONSUMER_CUSTOM_ID: Name = Name::new("X-Consumer-Custom-ID: ");
const CONSUMER_USERNAME: Name = Name::new("X-Consumer-Username: ");
const CREDENTIAL: Name = Name::new("X-Credential-Identifier: ");
const ANONYMOUS: Name = Name::new("X-Anonymous-Consumer: ");

/// Makes a consumer known: to the plugins that follow, and to the upstream in headers. What the
/// client sent under these names is overwritten or removed, so that nobody can pretend.
pub fn identify(
    exchange: &mut Exchange,
    consumer: Option<Arc<Row>>,
    credential: Option<Credential>,
) {
    let shown = credential.as_ref().map(|credential| credential.id.as_str());
    tell(&mut exchange.request.fields, consumer.as_deref(), shown, credential.is_none());
    exchange.consumer = consumer;
    exchange.credential = credential;
}

/// The same with another name for the credential than its id: a username, a key.
pub fn identify_as(
    exchange: &mut Exchange,
    consumer: Option<Arc<Row>>,
    credential: Option<Credential>,
    shown: Option<&str>,
) {
    tell(&mut exchange.request.fields, consumer.as_deref(), shown, credential.is_none());
    exchange.consumer = consumer;
    exchange.credential = credential;
}

fn tell(fields: &mut Fields, consumer: Option<&Row>, shown: Option<&str>, is_anonymous: bool) {
    let text = |name: &str| consumer.and_then(|row| row.text(name));
    let mut id = Uuid::encode_buffer();
    let id = consumer.map(|row| &*row.id().hyphenated().encode_lower(&mut id));
    fields.put_each(&[
        (CONSUMER_ID, id),
        (CONSUMER_CUSTOM_ID, text("custom_id")),
        (CONSUMER_USERNAME, text("username")),
        (CREDENTIAL, shown),
        (ANONYMOUS, is_anonymous.then_some("true")),
    ]);
}

/// Whether another plugin has already let the client in, where one of several suffices: that is so
/// for a plugin with `config.anonymous`.
pub fn is_settled(exchange: &Exchange, anonymous: Option<&str>) -> bool {
    anonymous.is_some() && exchange.credential.is_some()
}

/// What a plugin does that has let nobody in: the anonymous consumer passes where there is one,
/// else this is the answer.
pub fn otherwise(
    exchange: &mut Exchange,
    named: Option<&str>,
    refusal: impl FnOnce() -> Answer,
) -> Step<'static> {
    match named {
        Some(named) => anonymous(exchange, named),
        None => Step::answer(refusal()),
    }
}

/// Falls back to the consumer named by `config.anonymous`, an id or a username.
pub fn anonymous(exchange: &mut Exchange, named: &str) -> Step<'static> {
    let tables = exchange.tables();
    let by_id = Uuid::parse_str(named).ok().and_then(|id| tables.get("consumers", id));
    let found = by_id.or_else(|| tables.by("consumers", "username", named)).cloned();
    if found.is_none() {
        log::error!("anonymous consumer {named} is configured but doesn't exist");
        return Step::answer(Answer::error(500, "An unexpected error occurred"));
    }
    identify(exchange, found, None);
    Step::NEXT
}
