//! The style of the house as tests.
//!
//! ```text
//!   tree      which files there are, and which crate imports which
//!   source    one file: its text, its code without comments and strings, its test lines
//!   rules     what a file must look like, one pure function a rule
//! ```
//! A scanner, not a parser: it knows comments, strings and braces, which is enough for every rule
//! and keeps the tests under a second. This crate never depends on another crate of ours, so that
//! it still runs when they do not compile.

pub mod road;
pub mod rules;
pub mod shape;
pub mod source;
pub mod tree;
