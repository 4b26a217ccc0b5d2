//! The configuration of azure-functions. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, boolean, number, text, typical};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "azure-functions",
    priority: 749,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    number(
        "timeout",
        "Timeout in milliseconds before closing a connection to the Azure Functions server.",
    )
    .or(Preset::Integer(600_000)),
    number(
        "keepalive",
        "Time in milliseconds during which an idle connection to the Azure Functions server lives \
         before being closed.",
    )
    .or(Preset::Integer(60_000)),
    boolean("https", "Use of HTTPS to connect with the Azure Functions server.")
        .or(Preset::Flag(true)),
    boolean("https_verify", "Set to `true` to authenticate the Azure Functions server.")
        .or(Preset::Flag(false)),
    text(
        "apikey",
        "The apikey to access the Azure resources. If provided, it is injected as the \
         `x-functions-key` header.",
    )
    .referenceable()
    .encrypted(),
    text(
        "clientid",
        "The `clientid` to access the Azure resources. If provided, it is injected as the \
         `x-functions-clientid` header.",
    )
    .referenceable()
    .encrypted(),
    text("appname", "The Azure app name.").required(),
    text("hostdomain", "The domain where the function resides.")
        .required()
        .or(Preset::Text("azurewebsites.net")),
    text("routeprefix", "Route prefix to use.").or(Preset::Text("api")),
    text("functionname", "Name of the Azure function to invoke.").required(),
];
