//! Moesif: from a record to its event.

pub mod settings;
