//! The configuration of session. Descriptions are Kong's: `/schemas` prints them.
//!
//! Kong makes one default secret for each process; here each row gets its own.

use store::schema::{
    Expand, Field, PluginSchema, Preset, Shorthand, boolean, number, set, text, typical,
};
use store::value::Value;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "session",
    priority: 1900,
    protocols: typical::PROTOCOLS,
    no_consumer: true,
    config: CONFIG,
    shorthands: SHORTHANDS,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    text("secret", "The secret that is used in keyed HMAC generation.")
        .optional()
        .auto()
        .referenceable()
        .encrypted(),
    text(
        "storage",
        "Determines where the session data is stored. `kong`: Stores encrypted session data into \
         Kong's current database strategy; the cookie will not contain any session data. \
         `cookie`: Stores encrypted session data within the cookie itself.",
    )
    .or(Preset::Text("cookie"))
    .one_of(&["cookie", "kong"]),
    text(
        "audience",
        "The session audience, which is the intended target application. For example \
         `\"my-application\"`.",
    )
    .or(Preset::Text("default")),
    number("idling_timeout", "The session cookie idle time, in seconds.").or(Preset::Integer(900)),
    number(
        "rolling_timeout",
        "The session cookie rolling timeout, in seconds. Specifies how long the session can be \
         used until it needs to be renewed.",
    )
    .or(Preset::Integer(3600)),
    number(
        "absolute_timeout",
        "The session cookie absolute timeout, in seconds. Specifies how long the session can be \
         used until it is no longer valid.",
    )
    .or(Preset::Integer(86_400)),
    number(
        "stale_ttl",
        "The duration, in seconds, after which an old cookie is discarded, starting from the \
         moment when the session becomes outdated and is replaced by a new one.",
    )
    .or(Preset::Integer(10)),
    text("cookie_name", "The name of the cookie.").or(Preset::Text("session")),
    text("cookie_path", "The resource in the host where the cookie is available.")
        .or(Preset::Text("/")),
    text("cookie_domain", "The domain with which the cookie is intended to be exchanged."),
    text(
        "cookie_same_site",
        "Determines whether and how a cookie may be sent with cross-site requests.",
    )
    .or(Preset::Text("Strict"))
    .one_of(&["Strict", "Lax", "None", "Default"]),
    boolean(
        "cookie_http_only",
        "Applies the `HttpOnly` tag so that the cookie is sent only to a server.",
    )
    .or(Preset::Flag(true)),
    boolean(
        "cookie_secure",
        "Applies the Secure directive so that the cookie may be sent to the server only with an \
         encrypted request over the HTTPS protocol.",
    )
    .or(Preset::Flag(true)),
    boolean("remember", "Enables or disables persistent sessions.").or(Preset::Flag(false)),
    text(
        "remember_cookie_name",
        "Persistent session cookie name. Use with the `remember` configuration parameter.",
    )
    .or(Preset::Text("remember")),
    number(
        "remember_rolling_timeout",
        "The persistent session rolling timeout window, in seconds.",
    )
    .or(Preset::Integer(604_800)),
    number(
        "remember_absolute_timeout",
        "The persistent session absolute timeout limit, in seconds.",
    )
    .or(Preset::Integer(2_592_000)),
    set(
        "response_headers",
        "List of information to include, as headers, in the response to the downstream.",
        &text("", "").one_of(&[
            "id",
            "audience",
            "subject",
            "timeout",
            "idling-timeout",
            "rolling-timeout",
            "absolute-timeout",
        ]),
    ),
    set(
        "request_headers",
        "List of information to include, as headers, in the response to the downstream.",
        &text("", "").one_of(&[
            "id",
            "audience",
            "subject",
            "timeout",
            "idling-timeout",
            "rolling-timeout",
            "absolute-timeout",
        ]),
    ),
    boolean("read_body_for_logout", "").or(Preset::Flag(false)),
    set(
        "logout_methods",
        "A set of HTTP methods that the plugin will respond to.",
        &text("", "").one_of(&["GET", "POST", "DELETE"]),
    )
    .or(Preset::List(&[Preset::Text("POST"), Preset::Text("DELETE")])),
    text("logout_query_arg", "The query argument passed to logout requests.")
        .or(Preset::Text("session_logout")),
    text(
        "logout_post_arg",
        "The POST argument passed to logout requests. Do not change this property.",
    )
    .or(Preset::Text("session_logout")),
];

const SHORTHANDS: &[Shorthand] = &[
    Shorthand { field: number("cookie_lifetime", ""), expand: Expand::With(lifetime) },
    Shorthand { field: number("cookie_idletime", ""), expand: Expand::With(idletime) },
    Shorthand { field: number("cookie_renew", ""), expand: Expand::With(renew) },
    Shorthand { field: number("cookie_discard", ""), expand: Expand::With(discard) },
    Shorthand { field: text("cookie_samesite", ""), expand: Expand::With(samesite) },
    Shorthand { field: boolean("cookie_httponly", ""), expand: Expand::With(httponly) },
    Shorthand { field: boolean("cookie_persistent", ""), expand: Expand::With(persistent) },
];

fn lifetime(value: &Value) -> Vec<(&'static str, Value)> {
    vec![("rolling_timeout", value.clone())]
}

fn idletime(value: &Value) -> Vec<(&'static str, Value)> {
    let value = if value.is_null() { Value::Integer(0) } else { value.clone() };
    vec![("idling_timeout", value)]
}

/// The option does not exist any longer.
fn renew(_value: &Value) -> Vec<(&'static str, Value)> {
    Vec::new()
}

fn discard(value: &Value) -> Vec<(&'static str, Value)> {
    vec![("stale_ttl", value.clone())]
}

fn samesite(value: &Value) -> Vec<(&'static str, Value)> {
    let value = if value.as_text() == Some("off") { Value::text("Lax") } else { value.clone() };
    vec![("cookie_same_site", value)]
}

fn httponly(value: &Value) -> Vec<(&'static str, Value)> {
    vec![("cookie_http_only", value.clone())]
}

fn persistent(value: &Value) -> Vec<(&'static str, Value)> {
    vec![("remember", value.clone())]
}
