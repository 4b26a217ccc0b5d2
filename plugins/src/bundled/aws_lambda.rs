//! aws-lambda: lets an AWS Lambda function answer. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/aws-lambda/schema.lua`.

mod schema;

use crate::pdk::Spec;

/// The plugin.
pub static PLUGIN: Spec = Spec::not_built(schema::SCHEMA);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::check_fault;
    use serde_json::json;

    #[test]
    fn what_kong_refuses_is_refused() {
        let check = |config, expected| check_fault(&PLUGIN, config, expected);
        check(json!({"function_name": "f", "aws_region": "eu"}), "");
        check(
            json!({"aws_key": "k"}),
            "all or none of these fields must be set: 'config.aws_key', 'config.aws_secret'",
        );
        check(json!({"proxy_url": "https://a.example"}), "proxy_url scheme must be http");
        check(json!({"proxy_url": "http://a.example"}), "");
        check(json!({"port": 65536}), "value should be between 0 and 65535");
    }
}
