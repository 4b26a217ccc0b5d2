//! Moesif: from a record to its event. Pure functions; the pairs recorded from the original plugin
//! (`exporter/tests/pairs.rs`) are their proof.

pub mod body;
pub mod client_ip;
pub mod conditions;
pub mod event;
pub mod headers;
pub mod identify;
pub mod inflate;
pub mod json;
pub mod member;
pub mod multipart;
pub mod pattern;
pub mod query;
pub mod remote;
pub mod rules;
pub mod sampling;
pub mod settings;
