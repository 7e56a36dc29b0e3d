//! What passes between the endpoint and its neighbours: configuration, flows, keys, requests going out, outputs
//! and events. Plain data; it decides nothing.

use crate::transaction::TimerConfig;
use crate::{FlowKey, Limits, Message, Method, ParseError, Transport};
use bytes::Bytes;
use std::net::SocketAddr;

/// How many transactions of each side a default endpoint holds.
pub const TRANSACTIONS_MAX: usize = 65_536;

/// What an endpoint is told once.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Transaction timers.
    pub timers: TimerConfig,
    /// Message limits.
    pub limits: Limits,
    /// Host of the sent-by in our Via (IPv6 in brackets).
    pub via_host: Bytes,
    /// Follows the magic cookie in every branch; token characters.
    pub branch_prefix: Bytes,
    /// The most client and the most server transactions held at once.
    pub transactions_max: usize,
    /// Value of Server in responses the endpoint makes itself.
    pub server_header: Option<Bytes>,
    /// Value of User-Agent in requests that do not bring one.
    pub user_agent: Option<Bytes>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            timers: TimerConfig::default(),
            limits: Limits::default(),
            via_host: Bytes::from_static(b"127.0.0.1"),
            branch_prefix: Bytes::new(),
            transactions_max: TRANSACTIONS_MAX,
            server_header: None,
            user_agent: None,
        }
    }
}

/// A way to a peer: a connection, or a UDP socket with one remote address.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Flow {
    /// The shell's name for it.
    pub key: FlowKey,
    /// What it runs on.
    pub transport: Transport,
    /// The far end, as the socket sees it.
    pub remote: SocketAddr,
    /// Port of the sent-by in our Via.
    pub via_port: u16,
    /// Who is at the far end: what one party began, no other can touch.
    pub party: Party,
}

/// A number for everybody who is told apart, given by whoever knows them; the same on all flows of one party.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Party(pub u64);

/// Handle of a client transaction.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct ClientKey(pub(crate) u32, pub(crate) u32);

/// Handle of a server transaction.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct ServerKey(pub(crate) u32, pub(crate) u32);

/// A request as its user writes it; the endpoint adds Via, User-Agent and Content-Length.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutgoingRequest {
    /// Method.
    pub method: Method,
    /// Request-URI.
    pub uri: Bytes,
    /// All header lines except Via and Content-*, each ended by CRLF.
    pub headers: Bytes,
    /// Content-Type of the body.
    pub content_type: Option<Bytes>,
    /// Body.
    pub body: Bytes,
}

/// What the endpoint wants done or known.
#[derive(Clone, Debug)]
pub enum Output {
    /// Put these bytes on this flow.
    Send {
        /// Where.
        flow: FlowKey,
        /// A complete message.
        bytes: Bytes,
    },
    /// For the transaction user.
    Event(Event),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new server transaction; never ACK, CANCEL or BENOTIFY. Each key ends with one `ServerGone`.
    Request {
        /// Answer it with this.
        key: ServerKey,
        /// Where it came from.
        flow: Flow,
        /// The request.
        message: Message,
    },
    /// BENOTIFY: is never answered.
    OneWay {
        /// Where it came from.
        flow: Flow,
        /// The request.
        message: Message,
    },
    /// ACK to a 2xx.
    Ack {
        /// Where it came from.
        flow: Flow,
        /// The request.
        message: Message,
        /// The INVITE it settles; `None`: unknown to us (late, or stray).
        invite: Option<ServerKey>,
    },
    /// A CANCEL, already answered 200: answer the INVITE 487.
    Cancel {
        /// The INVITE it is about.
        invite: ServerKey,
        /// The CANCEL.
        message: Message,
    },
    /// A response, retransmissions filtered. Further 2xx of forks come under the same key for 64*T1.
    Response {
        /// The request's key.
        key: ClientKey,
        /// Where it came from.
        flow: Flow,
        /// The response.
        message: Message,
    },
    /// No final response will come; the key is dead.
    ClientFailed {
        /// The request's key.
        key: ClientKey,
        /// Why.
        why: ClientFailure,
    },
    /// 64*T1 after the 2xx there was no ACK.
    AckMissing {
        /// The INVITE.
        key: ServerKey,
    },
    /// The response could not be brought to an end.
    ServerFailed {
        /// The request's key.
        key: ServerKey,
        /// Why.
        why: ServerFailure,
    },
    /// The server transaction has left the table; its key is dead.
    ServerGone {
        /// The request's key.
        key: ServerKey,
    },
    /// A response that belongs to no transaction of ours.
    Stray {
        /// Where it came from.
        flow: Flow,
        /// The response.
        message: Message,
    },
    /// Bytes that are no SIP message.
    Malformed {
        /// Where they came from.
        flow: Flow,
        /// What is wrong.
        error: ParseError,
        /// Whether a refusal was sent.
        answered: bool,
    },
}

/// Why a client transaction ended without a final response.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ClientFailure {
    /// Timer B or F, or a cancelled INVITE that nobody ended.
    Timeout,
    /// The flow is gone.
    TransportFailed,
}

/// Why a server transaction ended early.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ServerFailure {
    /// Timer H: no ACK to a non-2xx response.
    AckTimeout,
    /// The flow went away before the final response.
    TransportFailed,
}

/// Why something was not sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SendError {
    /// The table holds its maximum.
    #[error("transaction table is full")]
    TableFull,
    /// The key is dead.
    #[error("no such transaction")]
    TransactionUnknown,
    /// The transaction has its final response already.
    #[error("transaction does not take this response now")]
    WrongState,
    /// ACK and CANCEL have their own calls.
    #[error("ACK and CANCEL are not sent as transactions of the user")]
    MethodNotAllowed,
    /// URI, Content-Type or header block would break the message.
    #[error("request is not well-formed")]
    RequestMalformed,
    /// A request that must carry dialog identity does not parse.
    #[error("request does not parse: {0}")]
    RequestUnparsable(ParseError),
    /// Not a response with a status line.
    #[error("response has no status line")]
    StatusLineMissing,
}

/// How full the tables are.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct TableCounts {
    /// Client transactions.
    pub client: usize,
    /// Server transactions.
    pub server: usize,
    /// Of both, the INVITEs that are only kept because a 2xx passed (RFC 6026).
    pub accepted: usize,
    /// Running timers.
    pub timers: usize,
}
