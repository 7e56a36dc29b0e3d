//! What tests of several crates share. Owns the [`world`]: the gateway's engine and the lab's logic on one virtual clock, the [`soak`]: months
//! of it, and the [`targets`] of fuzzing. Refuses to know real sockets and real time.

pub mod pair;
pub mod soak;
pub mod targets;
pub mod world;
