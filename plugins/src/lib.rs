//! What may happen to an exchange: the plugins, and all that a plugin may see.
//!
//! ```text
//!   office                          core
//!   prepare(config) ──► Prepared ──► instance() ──► access · header_filter · body_filter · log
//!   (its fault is the Admin answer)  (cheap, kept by row and version)   (never blocks)
//! ```
//! A plugin is one file in `bundled/`: a `Spec` (schema, phases, entities of its own) and a struct.
//! This crate never opens a socket, never routes, and never sees a plugin's neighbour: a plugin
//! speaks with the exchange alone.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod bundled;
pub mod pdk;
