//! HTTP as values: a codec without I/O, one code for both roles.

pub mod body;
pub mod h2;
pub mod head;
pub mod write;
