//! The road, and the program `tollgate`.

pub mod fault;
pub mod reply;
pub mod route;
