//! A load program that can drive any gateway with the same scenario and compare them in one run.
//!
//! ```text
//!   engine ── clients (closed loop, or a fixed rate) ──► a gateway ──► engine's own upstream
//!                                                          │
//!   admin ── services, routes, plugins ───────────────────►│──► collector (in place of Moesif)
//!   cpu ── what the gateway's threads used                 servers start and stop it
//!   compare ── several gateways in interleaved rounds      prove ── crashes, limits, live changes
//!   postgres, forwarder ── a database that freezes, dies, fills up, moves
//! ```
//! Clients and upstream share one thread and one epoll, so that on two cores the gateway has one
//! for itself. This crate never links a crate of the gateway: a fault in our codec must not judge
//! itself.

pub mod admin;
pub mod body;
pub mod clients;
pub mod collector;
pub mod compare;
pub mod cpu;
pub mod engine;
pub mod forwarder;
pub mod histogram;
pub mod parser;
pub mod postgres;
pub mod prove;
pub mod scene;
pub mod servers;
pub mod stats;
pub mod upstream;

/// What ends a scenario early, in words for a person.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;
