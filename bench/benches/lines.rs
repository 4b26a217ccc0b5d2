//! The pure steps around routing: paths, and header lines on the way there and back.
//!
//! Budget: 1 µs for all of them together.

use criterion::{Criterion, criterion_group, criterion_main};
use proxy::fault::Side;
use proxy::forwarded::response::{Latencies, Leaving, Shown, leave};
use proxy::forwarded::trust::Client;
use proxy::forwarded::{Arrived, BodyLine, Forwarded, Onward, write_lines};
use proxy::route::normalise;
use proxy::route::upstream::{self, Joined};
use runtime::http::head::{Fields, Response, Version};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

fn fields() -> Fields {
    let mut fields = Fields::new();
    for (name, value) in [
        ("Host", "gateway.example.com"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "application/json, text/plain, */*"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("apikey", "0123456789abcdef0123456789abcdef"),
        ("Cookie", "session=0123456789abcdef0123456789abcdef"),
    ] {
        assert!(fields.add(name, value));
    }
    fields
}

fn paths(criterion: &mut Criterion) {
    let mut scratch = Vec::with_capacity(256);
    let mut normal = |name: &str, path: &str| {
        criterion.bench_function(&format!("normalise: {name}"), |bencher| {
            bencher.iter(|| black_box(normalise(black_box(path.as_bytes()), &mut scratch).is_ok()));
        });
    };
    normal("as it is", "/api/v1/customers/4711/orders/2026-11-21/items");
    normal("rewritten", "/api/v1/customers/./4711//orders/%7Ename/items");
    let mut out = Vec::with_capacity(256);
    criterion.bench_function("upstream path", |bencher| {
        let joined = Joined {
            base: Some(b"/base"),
            path: b"/api/v1/customers/4711/orders/2026-11-21/items",
            strip: true,
            matched_len: Some(7),
            query: Some(b"page=1&size=20"),
            v1: false,
        };
        bencher.iter(|| {
            out.clear();
            black_box(upstream::write(black_box(&joined), &mut out).is_ok());
        });
    });
}

fn headers(criterion: &mut Criterion) {
    let fields = fields();
    let mut out = Vec::with_capacity(2_048);
    criterion.bench_function("lines for the upstream", |bencher| {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let arrived = Arrived {
            fields: &fields,
            target_host: None,
            version: Version::H11,
            client: Client { peer: ip, ip, port: 1, trusted: false },
            tls: false,
            port: 8_000,
            path: b"/api/v1/customers/4711",
        };
        bencher.iter(|| {
            out.clear();
            let forwarded = Forwarded::new(black_box(&arrived), Some(b"/api"));
            let onward = Onward {
                arrived: &arrived,
                forwarded: &forwarded,
                host: b"10.0.0.7:8080",
                product: "tollgate/0.1.0",
                id: Some("1b3f87647b39245c8dc65d196f0c762e"),
                body: BodyLine::None,
            };
            write_lines(&onward, &mut out);
        });
    });
    let leaving = Leaving {
        shown: Shown::default(),
        side: Side::Upstream,
        latencies: Latencies { upstream_ms: 12, proxy_ms: 1, response_ms: 0 },
        product: "tollgate/0.1.0",
        upstream_version: Version::H11,
        id: "1b3f87647b39245c8dc65d196f0c762e",
    };
    let mut response = Response::default();
    criterion.bench_function("lines for the client", |bencher| {
        bencher.iter(|| {
            response.clear();
            for (name, value) in [("Content-Type", "text/plain"), ("Date", "x"), ("ETag", "y")] {
                response.fields.add(name, value);
            }
            leave(&mut response, black_box(&leaving));
        });
    });
}

criterion_group!(all, paths, headers);
criterion_main!(all);
