//! The same objects as Exchange and Lync keep them in their directory: read from what `Get-…` cmdlets print, written as cmdlets,
//! compared with a configuration. One table of kinds and fields serves all three; it refuses to know what a value does in a call.

mod collect;
mod collector;
mod drift;
mod export;
mod import;
mod powershell;
mod read;
mod table;
#[cfg(test)]
mod tests;

pub use collect::{Imported, Trouble, collect};
pub use collector::collector;
pub use drift::{Drift, drift};
pub use export::export;
pub use import::{Frame, to_toml};
pub use read::read;
pub use table::Side;
