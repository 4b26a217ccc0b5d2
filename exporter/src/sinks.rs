//! The destinations, one file each.

pub mod moesif;
