//! What is configured: the keeper and only writer of entities.
//!
//! Configuration is data: one table of fields yields validation, defaults, SQL, Admin routes and
//! schema documents. This crate never touches a request; the one socket that it opens leads to the
//! database that Kong's nodes share (`backend/postgres`).

pub mod actor;
pub mod admin;
pub mod backend;
pub mod check;
pub mod conf;
pub mod declarative;
pub mod describe;
pub mod entities;
pub mod fault;
pub mod schema;
pub mod script;
pub mod snapshot;
pub mod value;
