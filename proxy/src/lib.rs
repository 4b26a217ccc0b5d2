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
pub mod cli;
pub mod fault;
pub mod forwarded;
pub mod greeting;
pub mod keeper;
pub mod logs;
pub mod node;
pub mod ports;
pub mod prefix;
pub mod process;
pub mod reply;
pub mod route;
