//! What tests of several crates share. Owns the [`world`]: the gateway's engine and the lab's logic on one virtual clock, and the [`soak`]: months
//! of it. Refuses to know real sockets and real time.

pub mod pair;
pub mod soak;
pub mod world;
