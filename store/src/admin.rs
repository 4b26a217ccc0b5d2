//! The Admin API without a socket: a `Call` goes in, a `Reply` comes out.
//!
//! ```text
//! transport ──Call──► path → place → method → body (JSON, form) → entity verb ──Reply──►
//! ```
//! The paths are made from the entities' own tables, so a new entity needs no line here.
//! Nothing in these files opens a socket, reads a clock or blocks on anything but the store.
//!
//! Source: Kong `kong/api/{init,endpoints,api_helpers,arguments}.lua` and what 3.9.1 answered.

mod body;
mod call;
mod form;
mod multipart;
mod page;
mod path;
mod reply;

pub use call::{Call, Method};
pub use reply::Reply;

/// Largest request body, in bytes; the transport stops reading there and answers
/// [`Reply::body_too_large`]. Kong: `nginx_admin_client_max_body_size=10m`.
pub const ADMIN_BODY_BYTES_MAX: usize = 10 << 20;

/// Most arguments that one query or one form may have, as in Kong.
pub const ADMIN_ARGUMENTS_MAX: usize = 1000;

/// Deepest nesting that the names of form arguments may ask for (`a.b[c].d` is 4).
pub const ADMIN_ARGUMENT_DEPTH_MAX: usize = 32;
