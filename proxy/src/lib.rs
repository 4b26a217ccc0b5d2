//! The road, and the program `tollgate`.
//!
//! ```text
//!   main ─ cli ─ settings ─► prefix ─► ports (bound) ─► logs ─► store ─► cores ─► serving
//!   client ─► connection ─► road ─► route ─► plugins ─► upstream ─► reply, fault ─► client
//! ```
//! This crate never keeps configuration of its own (`store` does), never decides for a plugin what
//! it does, and names no event loop.

pub mod balance;
pub mod certificates;
pub mod clerk;
pub mod cli;
pub mod client;
pub mod connection;
pub mod core;
pub mod counters;
pub mod declarative;
pub mod desk;
pub mod engine;
pub mod fault;
pub mod forwarded;
pub mod greeting;
pub mod heads;
pub mod inbox;
pub mod keeper;
pub mod logs;
pub mod migrate;
pub mod moving;
pub mod names;
pub mod node;
pub mod office;
pub mod past;
pub mod ping;
pub mod plan;
pub mod pool;
pub mod ports;
pub mod prefix;
pub mod pressure;
pub mod process;
pub mod reply;
pub mod road;
pub mod roadmap;
pub mod route;
pub mod serve;
pub mod settings;
pub mod shards;
pub mod tunnel;
pub mod upstream;
pub mod upstream_tls;
