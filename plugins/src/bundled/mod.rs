//! Every bundled plugin. Written by `bench/tidy/tests/bundled_list.rs`, never by hand.

pub mod key_auth;
pub mod moesif;
pub mod rate_limiting;
pub mod request_termination;

use crate::pdk::Spec;

/// Every bundled plugin, by file name.
#[rustfmt::skip]
pub static ALL: &[&Spec] = &[
    &key_auth::PLUGIN,
    &moesif::PLUGIN,
    &rate_limiting::PLUGIN,
    &request_termination::PLUGIN,
];
