//! The router against what Kong did, and against hostile paths.

use super::spec::tests::spec;
use super::*;
use runtime::http::head;

/// Asks `router` for `GET path` with some words such as `host=a.com x-v=1 method=PUT sni=a`.
fn decide(router: &Router, path: &str, words: &str) -> Result<Option<(u128, String)>, PathFault> {
    let mut headers = Fields::new();
    let (mut method, mut host, mut sni, mut tls) = ("GET", "", None, false);
    let mut client = "127.0.0.1:1000";
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "method" => method = value,
            "host" => host = value,
            "client" => client = value,
            "tls" => tls = value == "on",
            "sni" => (sni, tls) = (Some(value), true),
            _ => assert!(headers.add(key, value)),
        }
    }
    let mut scratch = Vec::new();
    let path = normalise(path.as_bytes(), &mut scratch)?;
    let lookup = Lookup {
        query: b"",
        method,
        host: host.as_bytes(),
        path,
        headers: &headers,
        sni,
        tls,
        client: client.parse().unwrap(),
        local: "127.0.0.1:8000".parse().unwrap(),
    };
    let found = router.decide(&lookup, &mut RouteCache::default())?;
    Ok(found.map(|found| {
        let taken = found.taken(path.path).map(|taken| String::from_utf8_lossy(taken).into_owned());
        (found.route.spec.id.as_u128(), taken.unwrap_or_default())
    }))
}

/// A router of one route per line; their ids are 1, 2, 3, ….
fn router(routes: &[&str]) -> Router {
    let specs = routes.iter().zip(1_u128..).map(|(text, id)| {
        let mut spec = spec(text);
        spec.id = Uuid::from_u128(id);
        spec
    });
    let (router, faults) = Router::new(specs);
    assert_eq!(faults, []);
    router
}

/// `expected` is the number of the route and what it took of the path; 0 is no route.
#[track_caller]
fn check(routes: &[&str], path: &str, words: &str, expected: (u128, &str)) {
    let found = decide(&router(routes), path, words);
    let expected = (expected.0 > 0).then(|| (expected.0, expected.1.to_owned()));
    assert_eq!(found, Ok(expected), "routes {routes:?}, path {path}, {words}");
}

#[test]
fn a_prefix_is_bytes_not_segments() {
    let routes = &["paths=/r"];
    check(routes, "/r", "", (1, "/r"));
    check(routes, "/r/", "", (1, "/r"));
    check(routes, "/rx/y", "", (1, "/r"));
    check(routes, "/R", "", (0, ""));
    check(routes, "/", "", (0, ""));
    check(&["paths=/sl/"], "/sl", "", (0, ""));
    check(&["paths=/sl/"], "/sl/x", "", (1, "/sl/"));
}

#[test]
fn the_longest_prefix_wins() {
    let routes = &["paths=/r", "paths=/r/deep", "paths=/"];
    check(routes, "/r/dee", "", (1, "/r"));
    check(routes, "/r/deep", "", (2, "/r/deep"));
    check(routes, "/r/deeper/x", "", (2, "/r/deep"));
    check(routes, "/other", "", (3, "/"));
    let several = &["paths=/one,/one/two,/three"];
    check(several, "/one/two/x", "", (1, "/one/two"));
    check(several, "/one/x", "", (1, "/one"));
    check(several, "/three", "", (1, "/three"));
}

#[test]
fn a_regex_beats_a_prefix_and_regex_priority_decides() {
    let routes = &["paths=/n/1", r"paths=~/n/\d", "paths=~/n/[12] regex_priority=5"];
    check(routes, "/n/1", "", (3, "/n/1"));
    check(routes, "/n/3", "", (2, "/n/3"));
    check(routes, "/n/12", "", (3, "/n/1"));
    check(routes, "/n/x", "", (0, ""));
}

#[test]
fn a_regex_is_anchored_at_its_start() {
    let routes = &[r"paths=~/v\d+/users$"];
    check(routes, "/v12/users", "", (1, "/v12/users"));
    check(routes, "/x/v12/users", "", (0, ""));
    check(routes, "/v12/users/1", "", (0, ""));
    check(&[r"paths=~/u/(?<id>\d+)/p"], "/u/42/p", "", (1, "/u/42/p"));
    check(&["paths=~/a|/b"], "/x/b", "", (1, "/b"));
}

#[test]
fn hosts_exactly_then_by_wildcard() {
    let routes = &["hosts=api.example.com", "hosts=*.example.com", "hosts=api.*"];
    for (host, expected) in [
        ("api.example.com", 1),
        ("api.example.com:1234", 1),
        // As recorded from Kong.
        ("API.Example.COM", 0),
        ("a.example.com", 2),
        ("a.b.example.com", 2),
        ("api.org", 3),
        ("example.com", 0),
        ("other.org", 0),
        (".example.com", 2),
    ] {
        check(routes, "/x", &format!("host={host}"), (expected, ""));
    }
    check(&["hosts=*.com,b.*"], "/", "host=b.org", (1, ""));
}

#[test]
fn a_port_of_a_host_is_the_one_the_client_named() {
    let routes = &["hosts=a.com:81", "hosts=*.b.com:8000"];
    check(routes, "/", "host=a.com:81", (1, ""));
    check(routes, "/", "host=a.com", (0, ""));
    check(routes, "/", "host=x.b.com", (2, ""));
    check(routes, "/", "host=x.b.com:8001", (0, ""));
    check(&["destinations=:81"], "/", "host=a.com:81", (1, ""));
    check(&["destinations=127.0.0.0/8:8000"], "/", "host=a.com", (1, ""));
}

#[test]
fn methods_are_matched_exactly() {
    let routes = &["paths=/x methods=GET", "paths=/x methods=POST,PURGE"];
    check(routes, "/x", "", (1, "/x"));
    check(routes, "/x", "method=PURGE", (2, "/x"));
    check(routes, "/x", "method=HEAD", (0, ""));
    check(routes, "/x", "method=get", (0, ""));
}

#[test]
fn all_header_names_with_any_of_their_values() {
    let routes = &["paths=/x headers=x-version:1|2", "paths=/x headers=x-version:1,x-env:test"];
    check(routes, "/x", "X-Version=2", (1, "/x"));
    check(routes, "/x", "x-version=1 X-ENV=TEST", (2, "/x"));
    check(routes, "/x", "x-version=0 x-version=2", (1, "/x"));
    check(routes, "/x", "x-version=3", (0, ""));
    check(routes, "/x", "", (0, ""));
    let regex = &["paths=/x headers=x-v:~*^v[0-9]+$"];
    check(regex, "/x", "x-v=V12", (1, "/x"));
    check(regex, "/x", "x-v=12", (0, ""));
}

#[test]
fn more_conditions_beat_a_longer_path() {
    let routes = &["paths=/x/y/z", "paths=/x hosts=h.example"];
    check(routes, "/x/y/z", "host=h.example", (2, "/x"));
    check(routes, "/x/y/z", "host=o.example", (1, "/x/y/z"));
    check(&["paths=/m methods=GET", "paths=/mo"], "/mo", "", (1, "/m"));
}

#[test]
fn server_names_count_only_over_tls() {
    let routes = &["paths=/x snis=a.example protocols=https", "paths=/x protocols=https"];
    check(routes, "/x", "sni=a.example", (1, "/x"));
    check(routes, "/x", "sni=A.Example", (1, "/x"));
    check(routes, "/x", "sni=b.example", (2, "/x"));
    check(routes, "/x", "tls=on", (2, "/x"));
    check(routes, "/x", "", (1, "/x"));
}

#[test]
fn protocols_do_not_take_part_in_matching() {
    check(&["paths=/a protocols=https"], "/a", "", (1, "/a"));
    check(&["paths=/a protocols=http"], "/a", "tls=on", (1, "/a"));
}

#[test]
fn sources_are_addresses_networks_and_ports() {
    let routes = &["sources=10.0.0.0/8", "sources=1.2.3.4:80", "sources=:7"];
    check(routes, "/", "client=10.9.8.7:1", (1, ""));
    check(routes, "/", "client=1.2.3.4:80", (2, ""));
    check(routes, "/", "client=1.2.3.4:81", (0, ""));
    check(routes, "/", "client=9.9.9.9:7", (3, ""));
    check(routes, "/", "client=[::ffff:10.9.8.7]:1", (1, ""));
}

/// As [`check`], in the traditional flavour.
#[track_caller]
fn check_traditional(routes: &[&str], path: &str, words: &str, expected: (u128, &str)) {
    let specs = routes.iter().zip(1_u128..).map(|(text, id)| RouteSpec {
        id: Uuid::from_u128(id),
        flavor: Flavor::Traditional,
        ..spec(text)
    });
    let (router, faults) = Router::new(specs);
    assert_eq!(faults, []);
    let found = decide(&router, path, words);
    let expected = (expected.0 > 0).then(|| (expected.0, expected.1.to_owned()));
    assert_eq!(found, Ok(expected), "routes {routes:?}, path {path}, {words}");
}

#[test]
fn the_traditional_flavour_asks_for_ports_as_they_are_named() {
    let routes = &["hosts=a.com:81", "hosts=a.com", "hosts=b.*:80", "hosts=b.*", "hosts=*.c.com"];
    for (host, expected) in [
        ("a.com", 2),
        ("a.com:81", 1),
        ("a.com:82", 2),
        ("A.com:82", 0),
        ("b.org", 3),
        ("b.org:80", 3),
        ("b.org:81", 4),
        ("x.c.com:9", 5),
        (".c.com", 0),
        ("c.com", 0),
        ("a.com:x", 0),
        ("b.org:x", 0),
    ] {
        check_traditional(routes, "/", &format!("host={host}"), (expected, ""));
    }
    check_traditional(&["hosts=b.*:80"], "/", "host=b.org tls=on", (0, ""));
    check_traditional(&["hosts=b.*:443"], "/", "host=b.org tls=on", (1, ""));
    let ip = &["hosts=[::1]:81", "hosts=::1", "hosts=[::2]"];
    for (host, expected) in [("[::1]", 2), ("[::1]:81", 1), ("[::1]:82", 2), ("[::2]", 3)] {
        check_traditional(ip, "/", &format!("host={host}"), (expected, ""));
    }
}

#[test]
fn the_traditional_flavour_goes_by_categories() {
    check_traditional(&["paths=/m methods=GET", "paths=/mo"], "/mo", "", (1, "/m"));
    let shadow = &["hosts=a.com", "hosts=a.com snis=a.com", "hosts=b.com snis=b.com"];
    check_traditional(shadow, "/", "host=a.com", (1, ""));
    check_traditional(shadow, "/", "host=a.com sni=a.com", (2, ""));
    check_traditional(shadow, "/", "host=b.com", (3, ""));
    check_traditional(&["paths=/ snis=*.b.com"], "/", "sni=a.b.com", (0, ""));
    let old = &["paths=/a created_at=2", "paths=/a created_at=1", "paths=/a created_at=2"];
    check_traditional(old, "/a", "", (2, "/a"));
    let long = &["paths=/a,/bbbbbbb", "paths=/a/bb"];
    check_traditional(long, "/a/bb/c", "", (2, "/a/bb"));
}

#[test]
fn the_traditional_flavour_reads_patterns_as_bytes_from_the_start() {
    check_traditional(&["paths=~/a|/b"], "/x/b", "", (0, ""));
    check_traditional(&["paths=~/a|/b"], "/b/x", "", (1, "/b"));
    check_traditional(&[r"paths=~/\w$"], "/%c3%a9", "", (0, ""));
    check_traditional(&["paths=~/[é]"], "/%c3%a9", "", (1, "/é"));
    check_traditional(&["paths=/"], "/private%80", "", (1, "/"));
    let single = &["headers=x-v:~*^v[0-9]+$", "headers=x-v:~*^v|other"];
    check_traditional(single, "/", "x-v=V12", (1, ""));
    check_traditional(single, "/", "x-v=~*^V", (2, ""));
    check_traditional(single, "/", "x_v=v12", (0, ""));
    check_traditional(&["headers=x_v:1"], "/", "X-V=1", (1, ""));
}

#[test]
fn what_is_no_text_has_no_route_where_paths_matter() {
    check(&["paths=/"], "/private%80", "", (0, ""));
    check(&["hosts=a.com"], "/private%80", "host=a.com", (1, ""));
    check(&["paths=/"], "/%c3%a9", "", (1, "/"));
}

#[test]
fn groups_of_a_regex_can_be_read() {
    let router = router(&[r"paths=~/u/(?<id>\d+)/(\w+)?"]);
    let mut cache = RouteCache::default();
    let path = Normal { path: b"/u/42/", wary: false };
    let lookup = Lookup {
        query: b"",
        method: "GET",
        host: b"",
        path,
        headers: &Fields::new(),
        sni: None,
        tls: false,
        client: "127.0.0.1:1".parse().unwrap(),
        local: "127.0.0.1:2".parse().unwrap(),
    };
    let found = router.find(&lookup, &mut cache).unwrap();
    let groups: Vec<_> = found.groups(path.path, &cache).collect();
    assert_eq!(groups, [(Some("id"), Some(&b"42"[..])), (None, None)]);
}

#[test]
fn a_broken_route_is_told_and_left_out() {
    let broken = ["id=7 paths=~/a(", "id=9 paths=/a headers=x:~*(", "id=8 paths=/a"];
    let (router, faults) = Router::new(broken.map(spec));
    assert_eq!(faults.iter().map(|fault| fault.id.as_u128()).collect::<Vec<_>>(), [7, 9]);
    assert_eq!(router.len(), 1);
    let (router, _) = router.with([RouteChange::Put(Box::new(spec("id=8 paths=~/a(")))]);
    assert!(router.is_empty());
    assert_eq!(decide(&router, "/a", ""), Ok(None));
}

#[test]
fn changes_take_effect_and_leave_the_former_router_alone() {
    let old = router(&["paths=/a hosts=*.x.com,y.com", "paths=/b"]);
    let (new, _) = old.with([
        RouteChange::Drop(Uuid::from_u128(1)),
        RouteChange::Put(Box::new(spec("id=2 paths=/c"))),
        RouteChange::Put(Box::new(spec("id=3 paths=/d"))),
        RouteChange::Put(Box::new(spec("id=3 paths=/e"))),
        RouteChange::Drop(Uuid::from_u128(99)),
    ]);
    assert_eq!(decide(&old, "/a", "host=q.x.com"), Ok(Some((1, "/a".into()))));
    assert_eq!(decide(&old, "/b", ""), Ok(Some((2, "/b".into()))));
    for (path, expected) in [("/a", 0), ("/b", 0), ("/c", 2), ("/d", 0), ("/e", 3)] {
        let found = decide(&new, path, "host=y.com").unwrap();
        assert_eq!(found.map(|(id, _)| id).unwrap_or_default(), expected, "{path}");
    }
    assert_eq!((old.len(), new.len(), new.wildcards), (2, 2, (0, 0)));
}

/// What a careless upstream makes of a target, after the corpus's own judge (`run_paths.py`).
fn careless_upstream(target: &str) -> String {
    let mut bytes = target.split(['?', '#']).next().unwrap_or_default().as_bytes().to_vec();
    for _ in 0..2 {
        let mut decoded = Vec::new();
        let mut rest = &bytes[..];
        while let Some((&byte, tail)) = rest.split_first() {
            match (byte == b'%').then(|| normal::escape(tail)).flatten() {
                Some((byte, tail)) => (decoded.push(byte), rest = tail).1,
                None => (decoded.push(byte), rest = tail).1,
            }
        }
        bytes = decoded;
    }
    let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
    let mut kept = Vec::new();
    for segment in text.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The paths that an upstream would see, where the open route for `/` is the one found.
fn let_through(router: &Router, target: &str, open: u128) -> Option<String> {
    let head = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let mut request = head::Request::default();
    head::parse_request(head.as_bytes(), &head::Limits::default(), &mut request).ok()??;
    let target = target::split(request.target());
    let mut scratch = Vec::new();
    let path = normalise(target.path, &mut scratch).ok()?;
    let text = std::str::from_utf8(target.path).ok()?;
    let (id, taken) = decide(router, text, "host=a.test").ok()??;
    let mut out = Vec::new();
    for strip in [true, false] {
        let joined = upstream::Joined {
            base: None,
            path: path.path,
            strip,
            matched_len: Some(taken.len()),
            query: target.query,
            v1: false,
        };
        if upstream::write(&joined, &mut out).is_ok() {
            out.push(b'\n');
        }
    }
    (id == open).then(|| String::from_utf8(out).unwrap())
}

/// Whether a hostile target reaches `/private`, for an upstream that resolves paths like this.
fn check_hostile(router: &Router, resolve: fn(&str) -> String) {
    for target in HOSTILE_TARGETS.lines() {
        for path in let_through(router, target, 1).unwrap_or_default().lines() {
            let resolved = resolve(path);
            let reached = resolved == "/private" || resolved.starts_with("/private/");
            assert!(!reached, "{target} reaches {resolved} as {path}");
        }
    }
}

#[test]
fn no_target_reaches_a_closed_path_in_disguise() {
    check_hostile(&router(&["paths=/", "paths=/private"]), careless_upstream);
}

/// An upstream that besides takes no notice of case, of bytes that are no text, and of what Windows
/// drops from the end of a name.
fn most_careless_upstream(target: &str) -> String {
    let resolved = careless_upstream(target).to_ascii_lowercase();
    let names = resolved.split('/').map(|name| {
        let end = name.find(|letter: char| letter.is_control() || letter > '~');
        name[..end.unwrap_or(name.len())].trim_end_matches(['.', ' '])
    });
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    format!("/{}", names.join("/"))
}

#[test]
fn strict_paths_reach_no_closed_path_at_all() {
    let routes = &["paths=/", "paths=/private"];
    check_hostile(&router(routes).with_strict_paths(true), most_careless_upstream);
    // Nor one that only the upstream knows of: what passes is read as it was sent.
    let router = router(&routes[..1]).with_strict_paths(true);
    for target in HOSTILE_TARGETS.lines() {
        for path in let_through(&router, target, 1).unwrap_or_default().lines() {
            let sent = path.split('?').next().unwrap_or_default().to_ascii_lowercase();
            let read = most_careless_upstream(path);
            assert_eq!(read.trim_end_matches('/'), sent.trim_end_matches('/'), "{target}");
        }
    }
}

#[test]
fn strict_paths_are_about_readings_not_about_routes() {
    use PathFault::SecondReading;
    let router = router(&["paths=/", "paths=/private", "paths=/Users", "paths=/users"]);
    let router = router.with_strict_paths(true);
    let (strict, _) = router.with([RouteChange::Put(Box::new(spec("id=9 paths=/late")))]);
    for (path, expected) in [
        ("/a%2Fb", Err(SecondReading)),
        ("/a;v=1", Err(SecondReading)),
        ("/Private/x", Err(SecondReading)),
        ("/LATE", Err(SecondReading)),
        ("/late", Ok(9)),
        ("/Users/1", Ok(3)),
        ("/users/1", Ok(4)),
        ("/Public", Ok(1)),
        ("/你好/100%25", Ok(1)),
    ] {
        let found = decide(&strict, path, "").map(|found| found.map_or(0, |(id, _)| id));
        assert_eq!(found, expected, "{path}");
    }
}

/// `corpora/paths.jsonl`, and more of the kind.
const HOSTILE_TARGETS: &str = r"/private
/private/x
/PRIVATE
/Private/x
//private
/./private
/x/./../private
/x/%2e%2e/private
/x%2f..%2fprivate
/%70rivate
/%50rivate
/privat%65
/private%2f
/private%2Fx
/private;
/private;a=b/x
/;/private
/x;/../private
/.;/private
/private%00
/private%09
/private.
/private/.
/private/../private
/private?
/private%3f
/private%3fx
\private
/x\..\private
/x/..\private
/%5cprivate
/x/..%5cprivate
/%252fprivate
/x/%252e%252e/private
/%u002fprivate
/%c0%afprivate
/x/%c0%ae%c0%ae/private
/private%0a
/%2e/private
/%2e%2e/private
/..%2f..%2fprivate
///private
/x//../private
/x/..//private
/private%2e%2e
/pr%69vate
/private/%2e%2e/public
http://a.test/private
http://a.test//private
http://a.test/x/../private
HTTP://A.TEST/private
http://a.test%2fprivate
/private%80
/%ef%bc%8fprivate
/private/x.css
/;x=y/private/z
/%3b/private
/%253b/private
/\private
/%5C%2Fprivate
/x;y/..;z/private
/x/..%3b/private
/x/..%253b/private
/%25252fprivate
/x/．．/private
/.%2fprivate
/%2f%2e%2fprivate
/x/%5c..%5cprivate
/private%252f
/%70%72ivate%2f..%2fprivate";

#[test]
fn ordinary_paths_with_escapes_pass() {
    let routes = &["paths=/", "paths=/files", r"paths=~/projects/[^/]+/issues$", "paths=/private"];
    for (path, expected) in [
        ("/files/%2Fetc%2Fhosts", 2),
        ("/files/http%3A%2F%2Fa.com%2Fx", 2),
        ("/projects/group%2Fproject/issues", 3),
        ("/a%2Fb/c", 1),
        ("/a;jsessionid=1", 1),
        ("/;jsessionid=1", 1),
        ("/C:%5Cdir", 1),
        ("/100%25", 1),
        ("/a%2Fprivate", 1),
        ("/你好", 1),
    ] {
        let found = decide(&router(routes), path, "").map(|found| found.map(|(id, _)| id));
        assert_eq!(found, Ok(Some(expected)), "{path}");
    }
}

#[test]
fn a_disguised_way_to_a_guarded_route_is_refused() {
    let routes = &["paths=/", "paths=/a/private"];
    for path in ["/a%2Fprivate", "/a;b/private", "/a\\private", "/a/%2Fprivate", "/a%252fprivate/x"]
    {
        assert_eq!(decide(&router(routes), path, ""), Err(PathFault::Ambiguous), "{path}");
    }
}
