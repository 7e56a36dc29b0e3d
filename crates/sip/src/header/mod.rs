//! Typed forms of header values that the wire layer has cut and unfolded: addresses, Via, sequence numbers and the
//! structured headers of redirection, transfer and diagnosis. It knows values, not messages or calls.

pub(crate) mod cseq;
mod diversion;
mod ms_diagnostics;
mod name_addr;
mod params;
mod rack;
mod replaces;
mod session_expires;
pub mod simple;
mod via;
mod warning;

pub use cseq::CSeq;
pub use diversion::{Diversion, DiversionEntry};
pub use ms_diagnostics::MsDiagnostics;
pub use name_addr::NameAddr;
pub(crate) use name_addr::{check_list, scan_single};
pub use params::Params;
pub use rack::RAck;
pub use replaces::Replaces;
pub use session_expires::{Refresher, SessionExpires};
pub use via::Via;
pub(crate) use via::check_via;
pub use warning::Warning;

use crate::UriError;

/// Why a header value has no typed form.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the message says it
pub enum HeaderError {
    #[error("empty value")]
    Empty,
    #[error("quote not closed")]
    QuoteOpen,
    #[error("angle bracket not closed")]
    BracketOpen,
    #[error("malformed parameter")]
    ParamMalformed,
    #[error("unexpected bytes behind a value")]
    Trailing,
    #[error("malformed value")]
    Malformed,
    #[error("number missing, malformed or too large")]
    Number,
    #[error(transparent)]
    Uri(#[from] UriError),
}
