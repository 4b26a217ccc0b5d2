//! The configuration of grpc-gateway. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, text, typical};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "grpc-gateway",
    priority: 998,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[text("proto", "Describes the gRPC types and methods.").optional()];
