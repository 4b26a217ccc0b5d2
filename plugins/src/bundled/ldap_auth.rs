//! ldap-auth: lets in who an LDAP server knows. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/ldap-auth/schema.lua`.

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
        check(json!({"ldap_host": "h", "base_dn": "dc=a", "attribute": "cn"}), "");
        check(
            json!({"ldap_host": "h", "base_dn": "dc=a", "attribute": "cn", "ldaps": true, "start_tls": true}),
            "'ldaps' and 'start_tls' cannot be enabled simultaneously",
        );
        check(
            json!({"ldap_host": "h:1", "base_dn": "dc=a", "attribute": "cn"}),
            "must not have a port",
        );
        check(json!({}), "required field missing");
    }
}
