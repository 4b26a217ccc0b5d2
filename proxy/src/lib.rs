//! The road, and the program `tollgate`.

pub mod route;
