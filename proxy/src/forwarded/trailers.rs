//! Lines after a body, on their way through: what a head may not say for others, a trailer may not.

use runtime::http::head::Fields;
use runtime::http::trailers::may_trail;

/// What names of the gateway and its plugins begin with, in small letters.
const OURS: &[&str] = &[
    "kong-",
    "x-accel-",
    "x-anonymous-",
    "x-authenticated-",
    "x-consumer-",
    "x-credential-",
    "x-kong-",
];

/// The lines that may pass; none where nothing is left.
pub fn passing(mut trailers: Fields) -> Option<Fields> {
    trailers.retain(|name, _| may_trail(name) && !is_ours(name));
    (!trailers.is_empty()).then_some(trailers)
}

/// Whether a name is one that only the gateway writes.
fn is_ours(name: &[u8]) -> bool {
    OURS.iter().any(|start| begins_like(name, start))
}

/// Whether a name begins so, in any case. `_` counts as `-`: many programs cannot tell them apart.
pub fn begins_like(name: &[u8], start: &str) -> bool {
    let same =
        |(own, byte): (u8, &u8)| own == byte.to_ascii_lowercase() || (own == b'-' && *byte == b'_');
    name.len() >= start.len() && start.bytes().zip(name).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_becomes_a_consumer_behind_the_body() {
        let mut fields = Fields::new();
        for name in
            ["X-Sum", "X-Consumer-ID", "x_credential_identifier", "X-Kong-Request-Id", "Host"]
        {
            assert!(fields.add(name, "1"));
        }
        let left = passing(fields).unwrap();
        assert_eq!(left.iter().map(|(name, _)| name).collect::<Vec<_>>(), [b"X-Sum"]);
        assert!(passing(Fields::new()).is_none());
    }
}
