//! The program, from outside: real sockets, a real upstream, one process for each gateway.
//!
//! Every test starts its own gateway on free loopback ports with a fresh prefix, on epoll and, where
//! the kernel allows it, on io_uring.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "black_box/calls.rs"]
mod calls;
#[path = "black_box/collector.rs"]
mod collector;
#[path = "black_box/dns.rs"]
mod dns;
#[path = "black_box/echo.rs"]
mod echo;
#[path = "black_box/gateway.rs"]
mod gateway;
#[path = "black_box/http.rs"]
mod http;
#[path = "black_box/peers.rs"]
mod peers;
#[path = "black_box/sinks.rs"]
mod sinks;

#[path = "black_box/arrival.rs"]
mod arrival;
#[path = "black_box/balancing.rs"]
mod balancing;
#[path = "black_box/cache.rs"]
mod cache;
#[path = "black_box/certificates.rs"]
mod certificates;
#[path = "black_box/declarative.rs"]
mod declarative;
#[path = "black_box/durability.rs"]
mod durability;
#[path = "black_box/events.rs"]
mod events;
#[path = "black_box/expressions.rs"]
mod expressions;
#[path = "black_box/large.rs"]
mod large;
#[path = "black_box/leaving.rs"]
mod leaving;
#[path = "black_box/limits.rs"]
mod limits;
#[path = "black_box/logs.rs"]
mod logs;
#[path = "black_box/moesif.rs"]
mod moesif;
#[path = "black_box/moesif_pairs.rs"]
mod moesif_pairs;
#[path = "black_box/naming.rs"]
mod naming;
#[path = "black_box/not_built.rs"]
mod not_built;
#[path = "black_box/overload.rs"]
mod overload;
#[path = "black_box/pretending.rs"]
mod pretending;
#[path = "black_box/proxying.rs"]
mod proxying;
#[path = "black_box/routing.rs"]
mod routing;
#[path = "black_box/seeing.rs"]
mod seeing;
#[path = "black_box/several_auth.rs"]
mod several_auth;
#[path = "black_box/shared_limits.rs"]
mod shared_limits;
#[path = "black_box/trailers.rs"]
mod trailers;
#[path = "black_box/transforming.rs"]
mod transforming;
#[path = "black_box/troubled_sinks.rs"]
mod troubled_sinks;
#[path = "black_box/tutorial.rs"]
mod tutorial;
#[path = "black_box/unusual.rs"]
mod unusual;
#[path = "black_box/vanished.rs"]
mod vanished;
