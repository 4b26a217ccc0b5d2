//! The road, and the program `tollgate`.

pub mod balance;
pub mod fault;
pub mod forwarded;
pub mod reply;
pub mod route;
