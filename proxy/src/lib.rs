//! The road, and the program `tollgate`.
