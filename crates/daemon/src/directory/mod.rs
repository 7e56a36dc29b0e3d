//! The same objects as Exchange and Lync keep them in their directory: read from what `Get-…` cmdlets print, written as cmdlets,
//! compared with a configuration, or read live from the directory itself. One table of kinds and fields serves all; it refuses to
//! know what a value does in a call.

mod collect;
mod collector;
mod drift;
mod export;
mod import;
mod ldap;
mod powershell;
mod read;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use collect::{Imported, Trouble, collect};
pub use collector::collector;
pub use drift::{Drift, drift};
pub use export::export;
pub use import::{Frame, to_toml};
pub use ldap::{
    Attributes, Bind, Directory, Failure, READ_MAX, Sealing, TABLES, TABLES_READ, read as read_directory,
};
pub use read::read;
pub use table::{Side, keys_of};
pub use view::{Addition, Beside, View};
