//! Moesif: from a record to its event. Pure functions; the pairs recorded from the original plugin
//! (`exporter/tests/pairs.rs`) are their proof.

pub mod body;
pub mod client_ip;
pub mod event;
pub mod identify;
pub mod inflate;
pub mod json;
pub mod query;
pub mod settings;
