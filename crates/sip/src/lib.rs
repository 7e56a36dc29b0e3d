//! SIP as values: bytes are framed, messages indexed without copying, URIs and headers typed, transactions
//! and dialogs advanced by `now`, all without a socket, clock, thread or environment.
//!
//! The `wire` layer owns framing and a lossless header list; `rsip` supplies vocabulary and the typed grammar
//! of simple headers on values the wire layer has cut. Nothing here knows what a call, a gateway or a policy is.

mod agenda;
mod builder;
pub mod dialog;
pub mod endpoint;
pub mod header;
pub mod locate;
mod method;
mod status;
pub mod transaction;
mod transport;
pub mod uri;
pub mod wire;

pub use agenda::{Agenda, AgendaHandle};
pub use builder::{BuildError, Builder, response_to};
pub use dialog::{CSeqError, Dialog, DialogError, DialogState, RequestDraft};
pub use endpoint::{
    ClientFailure, ClientKey, Endpoint, EndpointConfig, Event, Flow, OutgoingRequest, Output, Party,
    SendError, ServerFailure, ServerKey, TableCounts,
};
pub use header::{
    CSeq, Diversion, DiversionEntry, HeaderError, MsDiagnostics, NameAddr, Params, RAck, Refresher, Replaces,
    SessionExpires, Via, Warning, simple,
};
pub use method::Method;
pub use status::StatusCode;
pub use transaction::{TimerConfig, TimerReason};
pub use transport::{FlowKey, Transport};
pub use uri::{Host, Scheme, Uri, UriBuilder, UriError};
pub use wire::{
    Frame, FrameError, FrameFault, Framer, Header, HeaderId, Limits, Message, ParseError, reject_bytes,
};
