//! Answers against those that a running Kong gave.

use super::*;

const ID: &str = "6e2a1b203f28c5395985247ac9858031";

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in lines {
        assert!(fields.add(name, value));
    }
    fields
}

/// The head as lines, and the body.
fn answer(what: What, version: Version, lines: &[(&str, &str)]) -> (Vec<String>, String) {
    let fields = fields(lines);
    let target = b"/h301/x?y=1";
    let asker = Asker { version, fields: &fields, target, host: b"h.example", id: ID };
    let (mut response, mut body) = (Response::default(), b"old".to_vec());
    response.fields.add("Old", "1");
    of_fault(what, &asker, &Templates::default(), &mut response, &mut body);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut head = vec![response.status.to_string()];
    let lines = response.fields.iter();
    head.extend(lines.map(|(name, value)| format!("{}: {}", text(name), text(value))));
    (head, text(&body))
}

#[track_caller]
fn check(what: What, lines: &[(&str, &str)], content_type: &str, body: &str) {
    let (head, found) = answer(what, Version::H11, lines);
    let expected = [what.answer().0.to_string(), format!("Content-Type: {content_type}")];
    assert_eq!(head, expected, "{what:?} {lines:?}");
    assert_eq!(found, body.replace("ID", ID), "{what:?} {lines:?}");
}

#[test]
fn the_body_follows_accept() {
    let json =
        "{\n  \"message\":\"no Route matched with those values\",\n  \"request_id\":\"ID\"\n}";
    let plain = "no Route matched with those values\nrequest_id: ID\n";
    let html = "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    \
        <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    \
        <p>no Route matched with those values.</p>\n    <p>request_id: ID</p>\n  </body>\n</html>\n";
    let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  \
        <message>no Route matched with those values</message>\n  <requestid>ID</requestid>\n\
        </error>\n";
    let json = ("application/json; charset=utf-8", json);
    let plain = ("text/plain; charset=utf-8", plain);
    let html = ("text/html; charset=utf-8", html);
    for (accept, (content_type, body)) in [
        ("*/*", json),
        ("application/json", json),
        ("image/png", json),
        ("text/html;q=0.5, application/json;q=0.9", json),
        ("application/*", json),
        ("nonsense", json),
        ("text/html", html),
        ("TEXT/HTML", html),
        ("text/plain; q=0.1, text/html ;q=0.2", html),
        ("text/html;level=1;q=0.7, */*;q=0.6", html),
        ("text/plain", plain),
        ("text/*", plain),
        ("text/plain, text/html", plain),
        ("text/html;q=0, text/plain;q=0.001", plain),
        ("application/xml", ("application/xml; charset=utf-8", xml)),
    ] {
        check(What::NoRoute, &[("Accept", accept)], content_type, body);
    }
    check(What::NoRoute, &[], json.0, json.1);
    check(What::NoRoute, &[("Content-Type", "text/html")], json.0, json.1);
    check(What::NoRoute, &[("Accept", "a/b;q=0.1"), ("Accept", "text/html")], html.0, html.1);
}

#[test]
fn errors_of_the_server_are_plain_by_default() {
    let plain = "An invalid response was received from the upstream server\nrequest_id: ID\n";
    check(What::Unreachable, &[], "text/plain; charset=utf-8", plain);
    let json =
        "{\n  \"message\":\"The upstream server is timing out\",\n  \"request_id\":\"ID\"\n}";
    let typed = &[("Content-Type", "application/json")];
    check(What::TimedOut, typed, "application/json; charset=utf-8", json);
    let form = &[("Content-Type", "application/x-www-form-urlencoded")];
    check(What::TimedOut, form, "application/json; charset=utf-8", json);
    let plain = "Request header or cookie too large\nrequest_id: ID\n";
    check(What::HeadTooLarge, &[], "text/plain; charset=utf-8", plain);
}

#[test]
fn nginx_answers_some_itself() {
    let page = "<html>\r\n<head><title>501 Not Implemented</title></head>\r\n<body>\r\n\
        <center><h1>501 Not Implemented</h1></center>\r\n</body>\r\n</html>\r\n";
    let accept = &[("Accept", "application/json")];
    check(What::NotImplemented, accept, "text/html; charset=UTF-8", page);
    let page = "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title>\
        </head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>The plain HTTP \
        request was sent to HTTPS port</center>\r\n</body>\r\n</html>\r\n";
    assert_eq!(page.len(), 220);
    check(What::PlainOnTlsPort, &[], "text/html; charset=UTF-8", page);
}

#[test]
fn https_routes_ask_for_it() {
    let (head, body) = answer(What::NeedsHttps, Version::H11, &[]);
    let expected = [
        "426",
        "Content-Type: application/json; charset=utf-8",
        "Upgrade: TLS/1.2, HTTP/1.1",
        "Connection: Upgrade",
    ];
    assert_eq!(head, expected);
    assert!(body.contains("Please use HTTPS protocol"));
    let (head, body) = answer(What::HttpsRedirect(301), Version::H11, &[]);
    assert_eq!(head, ["301", "Content-Type: text/html", "Location: https://h.example/h301/x?y=1"]);
    assert!(body.contains("<h1>301 Moved Permanently</h1>"), "{body}");
    let (head, _) = answer(What::NeedsHttp2, Version::H11, &[]);
    assert_eq!(head.get(2..), Some(&["Upgrade: HTTP/2".into(), "Connection: Upgrade".into()][..]));
}

#[test]
fn grpc_clients_get_header_lines_and_no_body() {
    let lines = &[("Content-Type", "application/grpc+proto"), ("Accept", "text/html")];
    let (head, body) = answer(What::NoRoute, Version::H2, lines);
    let expected = [
        "404",
        "Content-Type: application/grpc",
        "grpc-status: 5",
        "grpc-message: no Route matched with those values",
    ];
    assert_eq!((head, body), (expected.map(str::to_owned).to_vec(), String::new()));
    let (head, _) = answer(What::NeedsGrpcs, Version::H2, lines);
    let expected = [
        "200",
        "Content-Type: application/grpc",
        "grpc-status: 1",
        "grpc-message: gRPC request matched gRPCs route",
    ];
    assert_eq!(head, expected);
    let (_, body) = answer(What::NoRoute, Version::H11, &lines[..1]);
    assert!(body.starts_with('{'), "HTTP/1 is no gRPC");
}

#[test]
fn statuses_of_grpc() {
    for (status, expected) in
        [(200, 0), (204, 0), (400, 3), (401, 16), (418, 3), (429, 8), (502, 13), (504, 4), (301, 2)]
    {
        assert_eq!(grpc_status(status), expected, "{status}");
    }
}

#[test]
fn messages_are_escaped_where_they_stand() {
    let templates = Templates::default();
    let write = |style| {
        let mut body = Vec::new();
        templates.write(style, "a\"<b>\n", "1", &mut body);
        String::from_utf8(body).unwrap()
    };
    assert!(write(Style::Json).contains(r#""message":"a\"<b>\n","#));
    assert!(write(Style::Html).contains("<p>a\"&lt;b&gt;\n.</p>"));
    assert!(write(Style::Plain).starts_with("a\"<b>\n\n"));
}

#[test]
fn templates_can_be_replaced() {
    let mut templates = Templates::default();
    templates.set(Style::Json, "{\"oops\":\"%s\",\"id\":\"%s\"}");
    let mut body = Vec::new();
    templates.write(Style::Json, "m", "7", &mut body);
    templates.set(Style::Plain, "no place");
    templates.write(Style::Plain, "m", "7", &mut body);
    assert_eq!(String::from_utf8(body).unwrap(), "{\"oops\":\"m\",\"id\":\"7\"}no place");
}

#[test]
fn a_plugin_may_make_the_body() {
    let none = Fields::new();
    let mut asker = Asker { version: Version::H2, fields: &none, target: b"/", host: b"", id: ID };
    let mut response = Response::default();
    assert!(exit(429, true, Some("API rate limit exceeded"), &asker, &mut response));
    assert_eq!(response.status, 429);
    assert_eq!(response.reason(), "Too Many Requests");
    let json = Some(&b"application/json; charset=utf-8"[..]);
    assert_eq!(response.fields.get("content-type"), json);
    let grpc = fields(&[("content-type", "application/grpc")]);
    asker.fields = &grpc;
    assert!(!exit(429, true, Some("API rate limit exceeded"), &asker, &mut response));
    assert_eq!(response.fields.get("grpc-status"), Some(&b"8"[..]));
    assert_eq!(response.fields.get("grpc-message"), Some(&b"API rate limit exceeded"[..]));
}
