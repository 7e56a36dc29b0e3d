//! The lab: everyone the gateway calls or is called by, in one process. Owns the lab authority ([`pki`]), the Exchange UM side ([`um`]), the
//! caller side ([`frontend`]) and their sockets ([`shell`]). Refuses to know the gateway: it never uses the `b2bua` crate, so it cannot
//! share its mistakes.

pub mod audio;
pub mod frontend;
pub mod load;
pub mod machine;
pub mod media;
pub mod negotiate;
pub mod pki;
pub mod shell;
pub mod um;

pub use shell::{LabUm, LabUmConfig};
