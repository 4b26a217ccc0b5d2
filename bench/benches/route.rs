//! Finding a route among 10, 1,000 and 10,000.
//!
//! Budget (DESIGN, section 7): at most 1 µs among 10,000.

#![allow(clippy::unwrap_used, reason = "a benchmark stops where it is wrong")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use proxy::route::{
    Flavor, Lookup, PathText, Protocols, RouteCache, RouteChange, RouteSpec, Router, normalise,
};
use runtime::http::head::Fields;
use uuid::Uuid;

const COUNTS: [usize; 3] = [10, 1_000, 10_000];
/// Different requests, so that neither cache nor branch predictor learns one by heart.
const REQUESTS: usize = 1_024;

/// What the routes tell apart requests by.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// A prefix each: `/service-7/v1`.
    Prefix,
    /// A host and one of ten prefixes: `tenant-7.example` `/area-7`.
    Host,
    /// A regular expression each, below a prefix of its own: `~/service-7/\d+`.
    Regex,
    /// A prefix each below the same first segments: `/api/v1/resource-7/`.
    Below,
    /// A host with a wildcard each: `*.tenant-7.example`.
    Wildcard,
    /// As `Prefix`, and a path with `%2F` in it, which is looked up in two readings.
    Wary,
}

fn spec(shape: Shape, number: usize) -> RouteSpec {
    let (hosts, path) = match shape {
        Shape::Below => (Vec::new(), format!("/api/v1/resource-{number}/")),
        Shape::Wildcard => (vec![format!("*.tenant-{number}.example")], "/".to_owned()),
        Shape::Prefix | Shape::Wary => (Vec::new(), format!("/service-{number}/v1")),
        Shape::Host => {
            (vec![format!("tenant-{}.example", number / 10)], format!("/area-{}", number % 10))
        }
        Shape::Regex => (Vec::new(), format!("~/service-{number}/\\d+")),
    };
    RouteSpec {
        id: Uuid::from_u128(number as u128 + 1),
        name: None,
        service: None,
        protocols: Protocols::HTTP.and(Protocols::HTTPS),
        methods: Vec::new(),
        hosts,
        paths: vec![PathText::new(&path)],
        headers: Vec::new(),
        snis: Vec::new(),
        sources: Vec::new(),
        destinations: Vec::new(),
        regex_priority: 0,
        strip_path: true,
        preserve_host: false,
        https_redirect_status_code: 426,
        request_buffering: true,
        response_buffering: true,
        created_at: 0,
        expression: None,
        priority: 0,
        path_v1: false,
        flavor: Flavor::Compatible,
    }
}

/// Host and path of request `number` among `count` routes.
fn request(shape: Shape, count: usize, number: usize) -> (String, String) {
    let route = number * 7_919 % count;
    match shape {
        Shape::Prefix => ("api.example".into(), format!("/service-{route}/v1/items/{number}")),
        Shape::Host => {
            (format!("tenant-{}.example", route / 10), format!("/area-{}/items", route % 10))
        }
        Shape::Regex => ("api.example".into(), format!("/service-{route}/{number}")),
        Shape::Below => ("api.example".into(), format!("/api/v1/resource-{route}/{number}")),
        Shape::Wildcard => (format!("www.tenant-{route}.example"), "/items".into()),
        Shape::Wary => ("api.example".into(), format!("/service-{route}/v1/items%2F{number}")),
    }
}

fn find(criterion: &mut Criterion) {
    for shape in
        [Shape::Prefix, Shape::Host, Shape::Regex, Shape::Below, Shape::Wildcard, Shape::Wary]
    {
        let mut group = criterion.benchmark_group(format!("route/{shape:?}"));
        for count in COUNTS {
            let (router, faults) = Router::new((0..count).map(|number| spec(shape, number)));
            assert!(faults.is_empty(), "{faults:?}");
            let requests: Vec<_> = (0..REQUESTS).map(|n| request(shape, count, n)).collect();
            let (mut cache, mut scratch) = (RouteCache::default(), Vec::new());
            let mut fields = Fields::new();
            assert!(fields.add("Accept", "*/*"));
            let mut number = 0;
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    number = (number + 1) % REQUESTS;
                    let (host, path) = &requests[number];
                    let lookup = Lookup {
                        query: b"",
                        method: "GET",
                        host: host.as_bytes(),
                        path: normalise(path.as_bytes(), &mut scratch).unwrap(),
                        headers: &fields,
                        sni: None,
                        tls: false,
                        client: ([127, 0, 0, 1], 1_000).into(),
                        local: ([127, 0, 0, 1], 8_000).into(),
                    };
                    assert!(router.decide(black_box(&lookup), &mut cache).unwrap().is_some());
                });
            });
        }
    }
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route/write one");
    for count in COUNTS {
        let (router, _) = Router::new((0..count).map(|number| spec(Shape::Prefix, number)));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| router.with([RouteChange::Put(Box::new(spec(Shape::Prefix, 5)))]));
        });
    }
}

criterion_group!(benches, find, change);
criterion_main!(benches);
