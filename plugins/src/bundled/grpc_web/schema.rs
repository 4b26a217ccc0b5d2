//! The configuration of grpc-web. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, boolean, text, typical};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "grpc-web",
    priority: 3,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    text(
        "proto",
        "If present, describes the gRPC types and methods. Required to support payload \
         transcoding. When absent, the web client must use application/grpw-web+proto content.",
    )
    .optional(),
    boolean(
        "pass_stripped_path",
        "If set to `true` causes the plugin to pass the stripped request path to the upstream \
         gRPC service.",
    )
    .optional(),
    text(
        "allow_origin_header",
        "The value of the `Access-Control-Allow-Origin` header in the response to the gRPC-Web \
         client.",
    )
    .optional()
    .or(Preset::Text("*")),
];
