//! HTTP as values: a codec without I/O, one code for both roles.
//!
//! ```text
//! received bytes ─► head::parse_request / parse_response ─► Request / Response (Fields reused)
//!                                                             │
//!                          body::request_framing / response_framing
//!                                                             │
//! received bytes ─► body::Decoder::step ─► ranges of the same slice (no copy)
//!
//! write::{request_head, response_head, line, fields, chunk_head} ─► one Vec<u8> to send
//! ```
//! Strictness: what two readers could frame or name differently is refused here, even where nginx
//! lets it pass. What nginx answers for a refusal is kept: see [`head::HeadFault::status`].

pub mod body;
pub mod h2;
pub mod head;
pub mod trailers;
pub mod write;
