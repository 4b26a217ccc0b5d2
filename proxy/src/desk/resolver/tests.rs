//! Tests of the settings of names.

use super::*;
use store::conf::Settings;

fn settings(pairs: &[(&str, &str)]) -> NameSettings {
    let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (settings, _) = Settings::load(None, env).unwrap();
    NameSettings::of(&settings)
}

#[test]
fn settings_have_defaults() {
    let names = settings(&[]);
    assert_eq!((names.order.as_slice(), names.last_first), (&[Kind::Srv, Kind::A][..], true));
    assert_eq!((names.hosts_file.as_str(), names.servers.len()), ("/etc/hosts", 0));
    let expected =
        Spans { valid_s: None, stale_s: 3_600, not_found_s: 30, error_s: 1, names_max: 10_000 };
    assert_eq!(names.spans, expected);
}

#[test]
fn settings_of_both_clients_are_read() {
    let names = settings(&[
        ("KONG_DNS_RESOLVER", "10.0.0.1, 10.0.0.2:5353, [::1]:54"),
        ("KONG_DNS_ORDER", "A,AAAA,CNAME"),
        ("KONG_DNS_VALID_TTL", "7"),
        ("KONG_DNS_STALE_TTL", "8"),
        ("KONG_DNS_NOT_FOUND_TTL", "9"),
        ("KONG_DNS_ERROR_TTL", "2"),
        ("KONG_DNS_CACHE_SIZE", "50"),
        ("KONG_DNS_HOSTSFILE", "/hosts"),
    ]);
    let servers: Vec<_> = names.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.1:53", "10.0.0.2:5353", "[::1]:54"]);
    assert_eq!((names.order.as_slice(), names.last_first), (&[Kind::A, Kind::Aaaa][..], false));
    let expected =
        Spans { valid_s: Some(7), stale_s: 8, not_found_s: 9, error_s: 2, names_max: 50 };
    assert_eq!((names.spans, names.hosts_file.as_str()), (expected, "/hosts"));
    let names = settings(&[
        ("KONG_NEW_DNS_CLIENT", "on"),
        ("KONG_RESOLVER_ADDRESS", "10.0.0.3"),
        ("KONG_RESOLVER_FAMILY", "SRV"),
        ("KONG_RESOLVER_ERROR_TTL", "4"),
        ("KONG_DNS_NOT_FOUND_TTL", "9"),
    ]);
    assert_eq!(names.servers[0].to_string(), "10.0.0.3:53");
    assert_eq!((names.order.as_slice(), names.last_first), (&[Kind::Srv][..], true));
    assert_eq!((names.spans.not_found_s, names.spans.error_s), (4, 4));
}
