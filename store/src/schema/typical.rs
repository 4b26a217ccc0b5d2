//! Fields that many entities and plugins share (Kong: `typedefs.lua`).
//!
//! Descriptions are Kong's: `/schemas` prints them.

use super::{Field, Preset, foreign, integer, number, set, text};

/// Every protocol.
pub const ALL_PROTOCOLS: &[&str] =
    &["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"];
/// The protocols of the HTTP road.
pub const HTTP_PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https"];
const HTTP_PRESET: Preset = Preset::List(&[
    Preset::Text("grpc"),
    Preset::Text("grpcs"),
    Preset::Text("http"),
    Preset::Text("https"),
]);

/// The primary key.
pub const ID: Field =
    text("id", "A string representing a UUID (universally unique identifier).").uuid().auto();
/// When the row was made.
pub const CREATED_AT: Field =
    integer("created_at", "An integer representing an automatic Unix timestamp in seconds.")
        .timestamp()
        .auto();
/// When the row was last written.
pub const UPDATED_AT: Field = CREATED_AT.named("updated_at");
/// When the row was made, with milliseconds.
pub const CREATED_AT_MS: Field =
    number("created_at", "A number representing an automatic Unix timestamp in milliseconds.")
        .timestamp()
        .auto();
/// When the row was last written, with milliseconds.
pub const UPDATED_AT_MS: Field = CREATED_AT_MS.named("updated_at");

/// One protocol.
pub const PROTOCOL: Field =
    text("protocol", "A string representing a protocol, such as HTTP or HTTPS.")
        .one_of(ALL_PROTOCOLS);
/// The protocols of a plugin that also knows streams.
pub const PROTOCOLS: Field =
    set("protocols", "A set of strings representing protocols.", &PROTOCOL)
        .or(HTTP_PRESET)
        .required();
/// The protocols of a plugin for HTTP alone.
pub const PROTOCOLS_HTTP: Field =
    set("protocols", "A set of strings representing HTTP protocols.", {
        const ELEMENT: Field = text("", "").one_of(HTTP_PROTOCOLS);
        &ELEMENT
    })
    .or(HTTP_PRESET)
    .required();

/// A plugin that cannot be set on a consumer.
pub const NO_CONSUMER: Field = foreign(
    "consumer",
    "consumers",
    "Custom type for representing a foreign key with a null value allowed.",
)
.null();
/// A plugin that cannot be set on a route.
pub const NO_ROUTE: Field =
    foreign("route", "routes", "A reference to the 'routes' table with a null value allowed.")
        .null();
/// A plugin that cannot be set on a service.
pub const NO_SERVICE: Field = foreign(
    "service",
    "services",
    "A reference to the 'services' table with a null value allowed.",
)
.null();
