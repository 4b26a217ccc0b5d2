//! Tests of the book of Upstreams.
