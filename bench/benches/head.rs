//! What a head costs: parsing, framing, the lookups of a plain request, and writing it for the
//! upstream. The budget is 1 µs for 500 bytes and 12 lines.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runtime::http::body::{self, Decoder, Framing};
use runtime::http::head::{self, Known, Limits, Request, Response};
use runtime::http::write;
use std::hint::black_box;

/// A browser's request: 12 lines, about 500 bytes.
const REQUEST: &[u8] = b"GET /api/v1/orders/8127?expand=items HTTP/1.1\r\n\
Host: shop.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n\
Accept: application/json, text/plain, */*\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br\r\n\
Referer: https://shop.example.com/orders\r\n\
Connection: keep-alive\r\n\
Cookie: session=3c9a1f0e7d524f1e8a7b6c5d4e3f2a1b\r\n\
apikey: 1f2e3d4c5b6a79880716253443526170\r\n\
X-Request-Start: t=1732312345678\r\n\
Cache-Control: no-cache\r\n\
Pragma: no-cache\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Content-Type: application/json\r\n\
Content-Length: 1024\r\n\
Date: Sun, 22 Nov 2026 00:00:00 GMT\r\n\
Cache-Control: no-store\r\n\
X-Upstream: orders-7\r\n\r\n";

fn heads(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("head");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    let mut request = Request::default();
    group.bench_function("parse_request", |b| {
        b.iter(|| head::parse_request(black_box(REQUEST), &limits, &mut request));
    });
    group.bench_function("framing_and_keep_alive", |b| {
        b.iter(|| {
            let request = black_box(&request);
            (body::request_framing(request), write::persists(request.version, &request.fields))
        });
    });
    group.bench_function("five_lookups", |b| {
        b.iter(|| {
            let fields = &black_box(&request).fields;
            (
                fields.get_known(Known::Host),
                fields.get("apikey"),
                fields.get("x-forwarded-for"),
                fields.get("accept"),
                fields.get("authorization"),
            )
        });
    });
    let mut out = Vec::with_capacity(4096);
    group.bench_function("write_upstream_head", |b| {
        b.iter(|| {
            out.clear();
            write::request_line(&mut out, request.method(), request.target());
            write::line(&mut out, "Via", b"1.1 tollgate/0.1.0");
            write::line(&mut out, "X-Forwarded-For", b"192.0.2.1");
            write::fields(&mut out, &request.fields);
            out.extend_from_slice(write::HEAD_END);
            out.len()
        });
    });
    group.bench_function("parse_strip_write", |b| {
        b.iter(|| {
            out.clear();
            let _ = head::parse_request(black_box(REQUEST), &limits, &mut request);
            write::remove_hop_by_hop(&mut request.fields);
            write::request_head(&mut out, request.method(), request.target(), &request.fields);
            out.len()
        });
    });
    let mut response = Response::default();
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse_response", |b| {
        b.iter(|| head::parse_response(black_box(RESPONSE), &limits, &mut response));
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut chunked = Vec::new();
    for _ in 0..16 {
        write::chunk_head(&mut chunked, 1000);
        chunked.resize(chunked.len() + 1000, b'a');
        chunked.extend_from_slice(write::CHUNK_END);
    }
    chunked.extend_from_slice(write::LAST_CHUNK);
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(chunked.len() as u64));
    group.bench_function("sixteen_chunks_of_1000", |b| {
        b.iter(|| {
            let (mut decoder, mut at, mut total) = (Decoder::new(Framing::Chunked), 0, 0);
            while let Ok(step) = decoder.step(black_box(&chunked[at..])) {
                at += step.used;
                total += step.piece.len();
                if step.done {
                    break;
                }
            }
            total
        });
    });
    group.finish();
}

criterion_group!(benches, heads, bodies);
criterion_main!(benches);
