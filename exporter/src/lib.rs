//! What leaves: events on their way from the cores' rings to their destinations.
//!
//! One thread drains the rings and makes finished, masked events; a bounded pool of sender threads
//! delivers them. This crate never runs on the road and never reads configuration by itself.

pub mod batch;
pub mod drain;
pub mod event;
pub mod journal;
pub mod losses;
pub mod moesif;
pub mod queue;
pub mod retry;
pub mod sink;
