//! What a peer may not do to others, against the real binary: touch their dialogs, write into what they receive or into what
//! is printed, and have anything sent to somebody who has no part in it.

mod dialogs;
mod injected;
mod reach;
#[cfg(target_os = "linux")]
mod unprivileged;

use crate::stage::{ADMIN, GATEWAYS, SERVERS, Stage};
