//! RFC behaviour by RFC and section. Owns the torture messages as parsed messages and what is asked of the engine from outside; most
//! requirements are proved beside the code that obeys them, and README.md of this folder says where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod index;
mod rfc3261;
mod rfc4475;
mod rfc5118;
