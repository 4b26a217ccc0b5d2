//! Header lines by the names that configurations give.

use std::borrow::Cow;

use runtime::http::head::Fields;

/// The name under which a configured one stands in a request: `_` may be written for `-`, as in
/// Kong, where both become a variable of nginx. Allocates for a name with `_` that is not there.
///
/// Source: Kong `kong/pdk/request.lua` (`get_headers`), `kong/tools/http.lua` (`get_header`).
pub fn spelled<'a>(fields: &Fields, name: &'a str) -> Cow<'a, str> {
    if memchr::memchr(b'_', name.as_bytes()).is_none() || fields.contains(name) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_underscore_stands_for_a_hyphen() {
        let mut fields = Fields::new();
        assert!(fields.add("X-Api-Key", "1") && fields.add("x_both", "2"));
        for (name, expected) in [
            ("x-api-key", "x-api-key"),
            ("x_api_key", "x-api-key"),
            ("X_Api-Key", "X-Api-Key"),
            ("x_both", "x_both"),
            ("absent_one", "absent-one"),
            ("x-both", "x-both"),
        ] {
            assert_eq!(spelled(&fields, name), expected);
        }
    }
}
