//! Requests to the upstream against those that an upstream behind Kong received.

use super::*;
use crate::route::spec::tests::spec;

const ID: &str = "1b3f87647b39245c8dc65d196f0c762e";

/// A request with these lines; words of `how` change the connection.
fn sent(lines: &[(&str, &str)], path: &str, stripped: Option<&str>, how: &str) -> String {
    let mut fields = Fields::new();
    for (name, value) in lines {
        assert!(fields.add(name, value));
    }
    arrive(&mut fields, false);
    let has = |word: &str| how.split_whitespace().any(|other| other == word);
    let peer: IpAddr = if has("v6") { "2001:db8::1" } else { "127.0.0.1" }.parse().unwrap();
    let ip = if has("behind") { "9.8.7.6".parse().unwrap() } else { peer };
    let arrived = Arrived {
        fields: &fields,
        target_host: has("absolute").then_some(&b"T.Example:81"[..]),
        version: match () {
            () if has("1.0") => Version::H10,
            () if has("h2") => Version::H2,
            () => Version::H11,
        },
        client: Client { peer, ip, port: 1, trusted: has("trusted") },
        tls: has("tls"),
        port: 28_000,
        path: path.as_bytes(),
    };
    let onward = Onward {
        arrived: &arrived,
        forwarded: &Forwarded::new(&arrived, stripped.map(str::as_bytes)),
        host: b"127.0.0.1:28080",
        product: "kong/3.9.1",
        id: (!has("nameless")).then_some(ID),
        body: match () {
            () if has("length") => BodyLine::Length(5),
            () if has("chunked") => BodyLine::Chunked,
            () => BodyLine::None,
        },
    };
    let mut out = Vec::new();
    write_lines(&onward, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_lines_and_their_order_are_kongs() {
    let lines = &[
        ("Host", "127.0.0.1:28000"),
        ("User-Agent", "curl/7.88.1"),
        ("Accept", "*/*"),
        ("Content-Length", "9"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let expected = "Via: 1.1 kong/3.9.1\r\nHost: 127.0.0.1:28080\r\nConnection: keep-alive\r\n\
        X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: 127.0.0.1\r\n\
        X-Forwarded-Port: 28000\r\nX-Forwarded-Path: /e/c\r\nX-Forwarded-Prefix: /e\r\n\
        X-Real-IP: 127.0.0.1\r\nX-Kong-Request-Id: 1b3f87647b39245c8dc65d196f0c762e\r\n\
        Content-Length: 5\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(sent(lines, "/e/c", Some("/e"), "length"), expected);
}

#[test]
fn a_websocket_goes_on_as_one() {
    let lines = &[
        ("Host", "127.0.0.1:28000"),
        ("Connection", "Upgrade"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Version", "13"),
    ];
    let expected = "Via: 1.1 kong/3.9.1\r\nHost: 127.0.0.1:28080\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nX-Forwarded-For: 127.0.0.1\r\n";
    let found = sent(lines, "/e/h", Some("/e"), "");
    assert!(found.starts_with(expected), "{found}");
    assert!(found.ends_with("\r\nSec-WebSocket-Version: 13\r\n"), "{found}");
    for lines in [
        &[("Connection", "Upgrade"), ("Upgrade", "h2c")][..],
        &[("Upgrade", "websocket")],
        &[("Connection", "keep-alive"), ("Upgrade", "websocket")],
    ] {
        let found = sent(lines, "/", None, "");
        assert!(found.contains("\r\nConnection: keep-alive\r\n"), "{found}");
        assert!(!found.contains("Upgrade"), "{found}");
    }
}

#[test]
fn connection_headers_stop_here() {
    let lines = &[
        ("Connection", "keep-alive, X-Drop, via"),
        ("X-Drop", "1"),
        ("Keep-Alive", "5"),
        ("Proxy-Connection", "x"),
        ("Proxy", "x"),
        ("TE", "gzip, trailers"),
        ("Upgrade", "foo"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
        ("Trailer", "x"),
        ("Proxy-Authorization", "kept"),
        ("X-Stay", "1"),
        ("X-Stay", "2"),
    ];
    let found = sent(lines, "/e/h", None, "chunked nameless");
    let expected = "TE: trailers\r\nVia: 1.1 kong/3.9.1\r\nHost: 127.0.0.1:28080\r\n\
        Connection: keep-alive\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
        X-Forwarded-Host: kong\r\nX-Forwarded-Port: 28000\r\nX-Forwarded-Path: /e/h\r\n\
        X-Real-IP: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\
        Proxy-Authorization: kept\r\nX-Stay: 1\r\nX-Stay: 2\r\n";
    assert_eq!(found, expected);
    assert!(!sent(lines, "/e/h", None, "nameless").contains("Trailer"), "it has no place then");
    assert!(!sent(&[("TE", "gzip")], "/", None, "").contains("TE:"));
    let absolute = sent(&[("Host", "b.test")], "/", None, "absolute");
    assert!(absolute.contains("X-Forwarded-Host: t.example\r\n"), "{absolute}");
}

#[test]
fn a_client_cannot_take_away_what_a_plugin_added() {
    let mut fields = Fields::new();
    for (name, value) in [
        ("Connection", "X-Consumer-ID, Host, content-length"),
        ("Host", "a"),
        ("Content-Length", "5"),
    ] {
        assert!(fields.add(name, value));
    }
    arrive(&mut fields, false);
    assert!(fields.add("X-Consumer-ID", "7"));
    assert_eq!(fields.len(), 4);
}

const SAID: &[(&str, &str)] = &[
    ("Host", "H.Example:99"),
    ("X-Forwarded-For", "1.2.3.4"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "ev.il"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Path", "/q"),
    ("X-Forwarded-Prefix", "/p"),
    ("X-Real-IP", "8.8.8.8"),
    ("X-Kong-Request-Id", "mine"),
    ("X-Request-Id", "mine2"),
];

#[test]
fn strangers_are_not_believed() {
    let found = sent(SAID, "/e/h", Some("/e"), "");
    let expected = "X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
        X-Forwarded-Host: h.example\r\nX-Forwarded-Port: 28000\r\nX-Forwarded-Path: /e/h\r\n\
        X-Forwarded-Prefix: /e\r\nX-Real-IP: 127.0.0.1\r\n\
        X-Kong-Request-Id: 1b3f87647b39245c8dc65d196f0c762e\r\nX-Request-Id: mine2\r\n";
    assert!(found.ends_with(expected), "{found}");
}

#[test]
fn trusted_proxies_are_believed() {
    let found = sent(SAID, "/e/h", Some("/e"), "trusted behind");
    let expected = "X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: ev.il\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Path: /q\r\n\
        X-Forwarded-Prefix: /p\r\nX-Real-IP: 9.8.7.6\r\n";
    assert!(found.contains(expected), "{found}");
    let found = sent(&[], "/", None, "trusted behind");
    assert!(found.contains("X-Forwarded-For: 9.8.7.6\r\n"), "{found}");
}

#[test]
fn versions_and_lists() {
    let found = sent(&[("Via", "1.0 fred"), ("via", "1.1 me")], "/", None, "h2 tls v6");
    assert!(found.starts_with("Via: 1.0 fred, 1.1 me, 2 kong/3.9.1\r\n"), "{found}");
    assert!(found.contains("X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: https\r\n"));
    assert!(sent(&[], "/", None, "1.0").starts_with("Via: 1.0 kong/3.9.1\r\n"));
    let found = sent(&[("X-Forwarded-For", "a"), ("X-Forwarded-For", "b")], "/", None, "");
    assert!(found.contains("X-Forwarded-For: a, b, 127.0.0.1\r\n"), "{found}");
}

#[test]
fn a_prefix_cannot_end_its_line() {
    let found = sent(&[], "/a%0d%0aX:y", Some("/a\r\nX:y é"), "");
    assert!(found.contains("X-Forwarded-Prefix: /a%0D%0AX:y é\r\n"), "{found}");
    assert!(!sent(&[], "/", Some("/"), "").contains("Prefix"));
    assert!(!sent(&[], "/", Some(""), "").contains("Prefix"));
}

#[test]
fn hosts_without_their_port() {
    for (host, expected) in [
        ("h.test:28000", "h.test"),
        ("[::1]:80", "[::1]"),
        ("A.Com.:80", "A.Com"),
        ("a", "a"),
        ("", "kong"),
        (":80", "kong"),
    ] {
        assert_eq!(host_only(host.as_bytes()), expected.as_bytes(), "{host}");
    }
}

#[test]
fn the_port_is_told_where_it_is_not_the_schemes_own() {
    for (name, port, tls, expected) in [
        ("a.com", 80, false, "a.com"),
        ("a.com", 80, true, "a.com:80"),
        ("a.com", 443, true, "a.com"),
        ("a.com", 8080, false, "a.com:8080"),
        ("::1", 80, false, "[::1]"),
        ("[::1]", 81, false, "[::1]:81"),
    ] {
        let mut out = Vec::new();
        write_host(&mut out, name, port, tls);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn protocols_turn_requests_away() {
    let check = |protocols: &str, redirect: u16, h2: bool, kind: &str, tls: bool, expected| {
        let mut route = spec(&format!("paths=/ protocols={protocols}"));
        route.https_redirect_status_code = redirect;
        let mut fields = Fields::new();
        assert!(fields.add("Content-Type", kind));
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let arrived = Arrived {
            fields: &fields,
            target_host: None,
            version: if h2 { Version::H2 } else { Version::H11 },
            client: Client { peer: local, ip: local, port: 1, trusted: false },
            tls,
            port: 1,
            path: b"/",
        };
        let found = Forwarded::new(&arrived, None).refusal(&route, &arrived);
        assert_eq!(found, expected, "{protocols} {redirect} {h2} {kind} {tls}");
    };
    let (json, grpc) = ("application/json", "application/grpc");
    check("http,https", 426, false, json, false, None);
    check("http", 426, false, json, true, None);
    check("https", 426, false, json, true, None);
    check("https", 426, false, json, false, Some(What::NeedsHttps));
    check("https", 308, false, json, false, Some(What::HttpsRedirect(308)));
    check("grpc,grpcs", 426, false, json, false, Some(What::NotGrpc));
    check("grpc,grpcs", 426, false, grpc, false, Some(What::NeedsHttp2));
    check("grpc,grpcs", 426, true, grpc, false, None);
    check("grpcs", 426, true, grpc, false, Some(What::NeedsGrpcs));
    check("grpcs", 426, true, grpc, true, None);
}
