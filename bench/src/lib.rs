//! Micro-benchmarks of the parts: `benches/<part>.rs`, one file a part, each with the budget it is
//! measured against. This crate never holds code of its own; the style tests are in `tidy/`.
