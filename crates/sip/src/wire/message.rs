//! One message: its bytes and an index over them. Nothing is copied or re-spelled, so forwarding what was not
//! changed cannot change it; typed forms are made on demand by `header` and `uri`.

use super::parse::{self, Piece};
use super::{HeaderId, Limits, ParseError};
use crate::header::{CSeq, HeaderError, NameAddr, Via};
use crate::{Method, StatusCode, Uri, UriError};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// A parsed message. Cloning shares bytes and index.
#[derive(Clone)]
pub struct Message {
    pub(super) bytes: Bytes,
    pub(super) index: Arc<Index>,
}

/// Where things stand in the bytes.
pub(super) struct Index {
    pub start: Start,
    pub spans: Vec<Span>,
    pub body: Piece,
    pub cseq_number: u32,
    pub cseq_method: Method,
    pub call_id: Piece,
    pub from_tag: Option<Piece>,
    pub to_tag: Option<Piece>,
    /// The topmost Via, as the server that received it keeps it.
    pub stamped_via: Option<Bytes>,
}

pub(super) enum Start {
    Request { uri: Piece },
    Response { status: StatusCode, reason: Piece },
}

/// One header line.
#[derive(Copy, Clone)]
pub(super) struct Span {
    pub id: HeaderId,
    pub name: Piece,
    pub value: Piece,
    pub line_end: u32,
}

/// A header line of a message.
#[derive(Copy, Clone, Debug)]
pub struct Header<'a> {
    /// Which header; `Other` when the name is not known.
    pub id: HeaderId,
    /// The name as spelled.
    pub name: &'a [u8],
    /// The value as on the wire without surrounding white space, folds kept, no final CRLF.
    pub raw: &'a [u8],
    /// The complete line: name, colon, value, white space and final CRLF.
    pub line: &'a [u8],
}

impl<'a> Header<'a> {
    /// The value with each fold replaced by one space.
    pub fn value(&self) -> Cow<'a, [u8]> {
        unfold(self.raw)
    }
}

impl Default for Message {
    /// No message: nothing is in it. It stands where one was.
    fn default() -> Message {
        static NOTHING: OnceLock<Arc<Index>> = OnceLock::new();
        let start = Start::Response { status: StatusCode::TRYING, reason: Piece::default() };
        let index = NOTHING.get_or_init(|| Arc::new(Index::nothing(start))).clone();
        Message { bytes: Bytes::new(), index }
    }
}

impl Index {
    fn nothing(start: Start) -> Index {
        Index {
            start,
            spans: Vec::new(),
            body: Piece::default(),
            cseq_number: 0,
            cseq_method: Method::Options,
            call_id: Piece::default(),
            from_tag: None,
            to_tag: None,
            stamped_via: None,
        }
    }
}

impl Message {
    /// Indexes one framed message or datagram. Bytes behind the announced body of a datagram are dropped
    /// (RFC 3261 §18.3); a body shorter than announced is an error.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Message, ParseError> {
        parse::parse(bytes, limits)
    }

    /// The message as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Start line without its CRLF.
    pub fn start_line(&self) -> &[u8] {
        let end = self.index.spans.first().map_or(0, |span| span.name.start as usize).saturating_sub(2);
        &self.bytes[..end]
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// Whether this is a response.
    pub fn is_response(&self) -> bool {
        !self.is_request()
    }

    /// The method of a request; of a response, the method its CSeq names.
    pub fn method(&self) -> &Method {
        &self.index.cseq_method
    }

    /// The Request-URI as received; empty on responses.
    pub fn request_uri(&self) -> Bytes {
        match self.index.start {
            Start::Request { uri } => self.slice(uri),
            Start::Response { .. } => Bytes::new(),
        }
    }

    /// The Request-URI, typed.
    pub fn uri(&self) -> Result<Uri, UriError> {
        Uri::parse(self.request_uri())
    }

    /// The status of a response.
    pub fn status(&self) -> Option<StatusCode> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// The reason phrase of a response; may be empty, any bytes but CR, LF and NUL.
    pub fn reason(&self) -> Bytes {
        match self.index.start {
            Start::Request { .. } => Bytes::new(),
            Start::Response { reason, .. } => self.slice(reason),
        }
    }

    /// All header lines in wire order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        self.index.spans.iter().map(|span| Header {
            id: span.id,
            name: self.at(span.name),
            raw: self.at(span.value),
            line: &self.bytes[span.name.start as usize..span.line_end as usize],
        })
    }

    /// The first value of a header, trimmed, folds kept.
    pub fn header(&self, id: HeaderId) -> Option<&[u8]> {
        self.values(id).next()
    }

    /// The value of every line of a header, trimmed, folds kept.
    pub fn values(&self, id: HeaderId) -> impl Iterator<Item = &[u8]> {
        self.spans(id).map(|span| self.at(span.value))
    }

    /// The first value of a header, unfolded, as shared bytes.
    pub fn value_bytes(&self, id: HeaderId) -> Option<Bytes> {
        self.values_bytes(id).next()
    }

    /// The value of every line of a header, unfolded, as shared bytes.
    pub fn values_bytes(&self, id: HeaderId) -> impl Iterator<Item = Bytes> {
        self.spans(id).map(|span| self.unfolded(span.value))
    }

    /// The first value of the header spelled so in any case; for names without a `HeaderId`.
    pub fn header_named(&self, name: &str) -> Option<&[u8]> {
        let found =
            self.index.spans.iter().find(|span| self.at(span.name).eq_ignore_ascii_case(name.as_bytes()));
        found.map(|span| self.at(span.value))
    }

    /// The body; empty when there is none.
    pub fn body(&self) -> Bytes {
        self.slice(self.index.body)
    }

    /// Call-ID.
    pub fn call_id(&self) -> &[u8] {
        self.at(self.index.call_id)
    }

    /// Call-ID as shared bytes.
    pub fn call_id_bytes(&self) -> Bytes {
        self.slice(self.index.call_id)
    }

    /// CSeq.
    pub fn cseq(&self) -> CSeq {
        CSeq { number: self.index.cseq_number, method: self.index.cseq_method.clone() }
    }

    /// The tag of From.
    pub fn from_tag(&self) -> Option<&[u8]> {
        self.index.from_tag.map(|piece| self.at(piece))
    }

    /// The tag of To.
    pub fn to_tag(&self) -> Option<&[u8]> {
        self.index.to_tag.map(|piece| self.at(piece))
    }

    /// The topmost Via.
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        Via::parse_first(self.value_bytes(HeaderId::Via).unwrap_or_default())
    }

    /// The topmost Via line as responses carry it, when the server that received the request had to complete it
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(crate) fn stamped_via(&self) -> Option<&[u8]> {
        self.index.stamped_via.as_deref()
    }

    /// Completes the topmost Via for the responses to this request. Only a message that nobody shares yet takes it.
    pub(crate) fn stamp_via(&mut self, first: &Via, stamped: &[u8]) {
        let Some(line) = self.value_bytes(HeaderId::Via) else { return };
        // A line may hold more entries than the first.
        let behind = line.strip_prefix(&first.raw()[..]).unwrap_or_default();
        let value = [stamped, behind].concat();
        if let Some(index) = Arc::get_mut(&mut self.index) {
            index.stamped_via = Some(Bytes::from(value));
        }
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        NameAddr::parse_one(self.value_bytes(HeaderId::From).unwrap_or_default())
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        NameAddr::parse_one(self.value_bytes(HeaderId::To).unwrap_or_default())
    }

    /// Every Contact of every Contact line in order; none for `*`.
    pub fn contacts(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.name_addrs(HeaderId::Contact)
    }

    /// Every entry of every line of an address-bearing header (Contact, Route, Record-Route,
    /// P-Asserted-Identity, History-Info ...) in order.
    pub fn name_addrs(&self, id: HeaderId) -> Result<Vec<NameAddr>, HeaderError> {
        let mut all = Vec::new();
        for value in self.values_bytes(id) {
            all.append(&mut NameAddr::parse_list(value)?);
        }
        Ok(all)
    }

    /// Max-Forwards, unless absent or above 255, which counts as absent.
    pub fn max_forwards(&self) -> Option<u32> {
        let value = self.header(HeaderId::MaxForwards).and_then(super::scan::decimal_u32);
        value.filter(|hops| *hops <= 255)
    }

    /// The media type of the body as `type/subtype`, without parameters.
    pub fn content_type(&self) -> Option<&[u8]> {
        let value = self.header(HeaderId::ContentType)?;
        value.split(|byte| *byte == b';').next().map(super::scan::trim)
    }

    fn spans(&self, id: HeaderId) -> impl Iterator<Item = &Span> {
        self.index.spans.iter().filter(move |span| span.id == id)
    }

    fn at(&self, piece: Piece) -> &[u8] {
        &self.bytes[piece.range()]
    }

    fn slice(&self, piece: Piece) -> Bytes {
        self.bytes.slice(piece.range())
    }

    fn unfolded(&self, piece: Piece) -> Bytes {
        match unfold(self.at(piece)) {
            Cow::Borrowed(_) => self.slice(piece),
            Cow::Owned(copy) => Bytes::from(copy),
        }
    }
}

impl std::fmt::Debug for Message {
    /// The start line only: numbers and keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({})", self.start_line().escape_ascii())
    }
}

/// Replaces each CRLF and the white space behind it by one space.
fn unfold(raw: &[u8]) -> Cow<'_, [u8]> {
    if !super::scan::has_fold(raw) {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        if raw[at] != b'\r' {
            out.push(raw[at]);
            at += 1;
            continue;
        }
        while at < raw.len() && super::scan::is_lws(raw[at]) {
            at += 1;
        }
        out.push(b' ');
    }
    Cow::Owned(out)
}
