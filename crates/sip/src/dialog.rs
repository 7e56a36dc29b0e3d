//! Dialog state of one side (RFC 3261 §12): tags, sequence numbers, route set, remote target, and drafts of the
//! requests inside it. It sends nothing and knows no transaction.

use crate::endpoint::OutgoingRequest;
use crate::{BuildError, HeaderError, HeaderId, Message, Method, NameAddr};
use bytes::{BufMut, Bytes, BytesMut};

/// The longest route set that is taken.
pub const ROUTE_SET_MAX: usize = 32;
/// Max-Forwards of a request we originate (RFC 3261 §8.1.1.6).
pub const MAX_FORWARDS: u32 = 70;
/// First CSeq of a side that has sent nothing.
const CSEQ_FIRST: u32 = 1;

/// Why a dialog does not come about.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DialogError {
    /// A dialog-forming message needs one.
    #[error("Contact missing or malformed")]
    ContactMissing,
    /// Without it there is no dialog identity.
    #[error("tag missing")]
    TagMissing,
    /// An address-bearing header does not parse.
    #[error("malformed header: {0}")]
    Header(HeaderError),
    /// More than [`ROUTE_SET_MAX`].
    #[error("route set longer than the limit")]
    RouteSetTooLong,
}

/// A request out of order (RFC 3261 §12.2.2): answer 500.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("CSeq {got} after {last}")]
pub struct CSeqError {
    /// The highest number seen.
    pub last: u32,
    /// The number that came.
    pub got: u32,
}

/// Whether a dialog has its 2xx.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum DialogState {
    /// Made by a provisional response.
    Early,
    /// Made or confirmed by a 2xx.
    Confirmed,
}

/// One side of a dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Early or confirmed.
    pub state: DialogState,
    /// Call-ID.
    pub call_id: Bytes,
    /// Our tag.
    pub local_tag: Bytes,
    /// The peer's tag; empty for a peer of RFC 2543.
    pub remote_tag: Bytes,
    /// Our From value, tag included, as it went over the wire.
    pub local_uri: Bytes,
    /// The peer's value, tag included.
    pub remote_uri: Bytes,
    /// The last number we used; `None` before the first request.
    pub local_cseq: Option<u32>,
    /// The highest number the peer used.
    pub remote_cseq: Option<u32>,
    /// Where requests go: the peer's Contact URI.
    pub remote_target: Bytes,
    /// Route values in the order they are written.
    pub route_set: Vec<Bytes>,
    /// Whether it was made by a SIPS request.
    pub secure: bool,
}

impl Dialog {
    /// The dialog a request makes at its server (RFC 3261 §12.1.1), early until [`Self::confirm`].
    pub fn uas(request: &Message, local_tag: Bytes) -> Result<Dialog, DialogError> {
        let (from, to) = (own(request, HeaderId::From), own(request, HeaderId::To));
        let local_uri = if request.to_tag().is_some() { to } else { with_tag(&to, &local_tag) };
        Ok(Dialog {
            state: DialogState::Early,
            call_id: Bytes::copy_from_slice(request.call_id()),
            local_tag: request.to_tag().map_or(local_tag, Bytes::copy_from_slice),
            remote_tag: request.from_tag().map(Bytes::copy_from_slice).unwrap_or_default(),
            local_uri,
            remote_uri: from,
            local_cseq: None,
            remote_cseq: Some(request.cseq().number),
            remote_target: contact(request)?,
            route_set: routes(request)?,
            secure: is_sips(&request.request_uri()),
        })
    }

    /// The dialog a response makes at the client (RFC 3261 §12.1.2): early on 1xx, confirmed on 2xx.
    pub fn uac(request: &OutgoingRequest, response: &Message) -> Result<Dialog, DialogError> {
        let is_success = response.status().is_some_and(|status| status.is_success());
        let remote_tag = response.to_tag().map(Bytes::copy_from_slice);
        let mut route_set = routes(response)?;
        route_set.reverse();
        Ok(Dialog {
            state: if is_success { DialogState::Confirmed } else { DialogState::Early },
            call_id: Bytes::copy_from_slice(response.call_id()),
            local_tag: response.from_tag().map(Bytes::copy_from_slice).ok_or(DialogError::TagMissing)?,
            // A 2xx without a tag is a peer of RFC 2543 (§12.1.2); a provisional without one makes no dialog.
            remote_tag: if is_success {
                remote_tag.unwrap_or_default()
            } else {
                remote_tag.ok_or(DialogError::TagMissing)?
            },
            local_uri: own(response, HeaderId::From),
            remote_uri: own(response, HeaderId::To),
            local_cseq: Some(response.cseq().number),
            remote_cseq: None,
            remote_target: contact(response)?,
            route_set,
            secure: is_sips(&request.uri),
        })
    }

    /// The server has sent its 2xx.
    pub fn confirm(&mut self) {
        self.state = DialogState::Confirmed;
    }

    /// The client got the 2xx of an early dialog: the route set is computed again (RFC 3261 §13.2.2.4).
    pub fn confirm_with(&mut self, response: &Message) -> Result<(), DialogError> {
        let mut route_set = routes(response)?;
        route_set.reverse();
        self.route_set = route_set;
        self.state = DialogState::Confirmed;
        self.refresh_target(response);
        Ok(())
    }

    /// Whether a message with these values belongs to this dialog.
    #[must_use]
    pub fn matches(&self, call_id: &[u8], local_tag: &[u8], remote_tag: &[u8]) -> bool {
        self.call_id == call_id && self.local_tag == local_tag && self.remote_tag == remote_tag
    }

    /// Checks and takes the sequence number of a request of the peer. ACK and CANCEL repeat one.
    pub fn accept_request(&mut self, request: &Message) -> Result<(), CSeqError> {
        let got = request.cseq().number;
        if matches!(request.method(), Method::Ack | Method::Cancel) {
            return Ok(());
        }
        match self.remote_cseq {
            Some(last) if got < last => Err(CSeqError { last, got }),
            _ => {
                self.remote_cseq = Some(got);
                Ok(())
            }
        }
    }

    /// Takes the Contact of a target refresh request or of a 2xx to one; without a usable one nothing changes.
    pub fn refresh_target(&mut self, message: &Message) {
        if let Ok(target) = contact(message) {
            self.remote_target = target;
        }
    }

    /// Takes the Record-Route of a request of the peer as the route set ([MS-SIPRE] §3.7); nothing changes when it has none or a broken one.
    pub fn renew_routes_by_request(&mut self, request: &Message) {
        if let Ok(route_set) = routes(request)
            && !route_set.is_empty()
        {
            self.route_set = route_set;
        }
    }

    /// Takes the Record-Route of a 2xx to a request of ours as the route set ([MS-SIPRE] §3.7.5.3.4), if it has a usable one.
    pub fn renew_routes_by_response(&mut self, response: &Message) {
        if let Ok(mut route_set) = routes(response)
            && !route_set.is_empty()
        {
            route_set.reverse();
            self.route_set = route_set;
        }
    }

    /// The next request of ours.
    pub fn request(&mut self, method: Method) -> RequestDraft {
        self.forward(method, MAX_FORWARDS)
    }

    /// The next request of ours, for one that came from elsewhere and may make so many hops yet.
    pub fn forward(&mut self, method: Method, max_forwards: u32) -> RequestDraft {
        let cseq = self.local_cseq.map_or(CSEQ_FIRST, |last| last.saturating_add(1));
        self.local_cseq = Some(cseq);
        self.draft(method, cseq, max_forwards)
    }

    /// The ACK to the 2xx of the INVITE with this number.
    #[must_use]
    pub fn ack(&self, cseq: u32) -> RequestDraft {
        self.draft(Method::Ack, cseq, MAX_FORWARDS)
    }

    /// RFC 3261 §12.2.1.1: a first route without `lr` is a strict router and becomes the Request-URI.
    fn draft(&self, method: Method, cseq: u32, max_forwards: u32) -> RequestDraft {
        let strict = self.route_set.first().and_then(strict_router);
        let (uri, routes) = match &strict {
            Some(uri) => (uri.clone(), &self.route_set[1..]),
            None => (self.remote_target.clone(), &self.route_set[..]),
        };
        let number = cseq.to_string();
        let mut draft = RequestDraft::new(method, uri);
        for route in routes {
            draft = draft.header(HeaderId::Route, route);
        }
        if strict.is_some() {
            draft = draft.header(HeaderId::Route, [b"<", &self.remote_target[..], b">"].concat());
        }
        let sequence = [number.as_bytes(), b" ", draft.method.as_bytes()].concat();
        draft
            .header(HeaderId::MaxForwards, max_forwards.to_string())
            .header(HeaderId::From, &self.local_uri)
            .header(HeaderId::To, &self.remote_uri)
            .header(HeaderId::CallId, &self.call_id)
            .header(HeaderId::CSeq, sequence)
    }
}

/// A request being written.
#[derive(Clone, Debug)]
pub struct RequestDraft {
    method: Method,
    uri: Bytes,
    lines: BytesMut,
    content_type: Option<Bytes>,
    body: Bytes,
    fault: Option<BuildError>,
}

impl RequestDraft {
    /// A request with no header yet; dialogs start theirs with [`Dialog::request`].
    #[must_use]
    pub fn new(method: Method, uri: Bytes) -> RequestDraft {
        let lines = BytesMut::with_capacity(768);
        RequestDraft { method, uri, lines, content_type: None, body: Bytes::new(), fault: None }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(self, id: HeaderId, value: impl AsRef<[u8]>) -> RequestDraft {
        self.raw_header(id.name().as_bytes(), value.as_ref())
    }

    /// Adds a header line under any name. Folds of a received value pass; nothing that would end the line does.
    #[must_use]
    pub fn raw_header(mut self, name: &[u8], value: &[u8]) -> RequestDraft {
        if name.is_empty() || name.iter().any(|byte| *byte <= b' ' || *byte >= 0x7f || *byte == b':') {
            self.fault = Some(BuildError::NameMalformed);
        }
        if ends_line(value) {
            self.fault = Some(BuildError::ForbiddenByte);
        }
        for piece in [name, b": ", value, b"\r\n"] {
            self.lines.put_slice(piece);
        }
        self
    }

    /// Adds complete header lines.
    #[must_use]
    pub fn block(mut self, lines: &[u8]) -> RequestDraft {
        let is_whole = lines.is_empty() || lines.ends_with(b"\r\n") && !lines.starts_with(b"\r\n");
        if !is_whole || lines.windows(4).any(|window| window == b"\r\n\r\n") {
            self.fault = Some(BuildError::BlockUnterminated);
        }
        self.lines.put_slice(lines);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, content_type: impl AsRef<[u8]>, body: Bytes) -> RequestDraft {
        if ends_line(content_type.as_ref()) {
            self.fault = Some(BuildError::ForbiddenByte);
        }
        self.content_type = Some(Bytes::copy_from_slice(content_type.as_ref()));
        self.body = body;
        self
    }

    /// The request, unless something in it would have broken the header block.
    pub fn finish(self) -> Result<OutgoingRequest, BuildError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let RequestDraft { method, uri, lines, content_type, body, .. } = self;
        Ok(OutgoingRequest { method, uri, headers: lines.freeze(), content_type, body })
    }
}

/// NUL, or a line end that is not a fold.
fn ends_line(value: &[u8]) -> bool {
    let is_fold =
        |at: usize| value.get(at..at + 2) == Some(b"\r\n") && matches!(value.get(at + 2), Some(b' ' | b'\t'));
    value.iter().enumerate().any(|(at, byte)| match byte {
        0 => true,
        b'\r' => !is_fold(at),
        b'\n' => at == 0 || !is_fold(at - 1),
        _ => false,
    })
}

fn own(message: &Message, id: HeaderId) -> Bytes {
    message.value_bytes(id).map(|value| Bytes::copy_from_slice(&value)).unwrap_or_default()
}

fn with_tag(value: &[u8], tag: &[u8]) -> Bytes {
    [value, b";tag=", tag].concat().into()
}

fn contact(message: &Message) -> Result<Bytes, DialogError> {
    let contacts = message.contacts().map_err(DialogError::Header)?;
    let first = contacts.first().ok_or(DialogError::ContactMissing)?;
    Ok(request_uri_of(first))
}

/// Headers have no place in a Request-URI (RFC 3261 §19.1.1).
fn request_uri_of(address: &NameAddr) -> Bytes {
    let raw = address.uri.raw();
    let headers = address.uri.headers_raw();
    let end = if headers.is_empty() { raw.len() } else { raw.len().saturating_sub(headers.len() + 1) };
    Bytes::copy_from_slice(&raw[..end])
}

fn routes(message: &Message) -> Result<Vec<Bytes>, DialogError> {
    let mut routes = Vec::new();
    for value in message.values_bytes(HeaderId::RecordRoute) {
        for address in NameAddr::parse_list(value).map_err(DialogError::Header)? {
            if routes.len() == ROUTE_SET_MAX {
                return Err(DialogError::RouteSetTooLong);
            }
            routes.push(Bytes::copy_from_slice(&address.raw));
        }
    }
    Ok(routes)
}

fn strict_router(route: &Bytes) -> Option<Bytes> {
    let address = NameAddr::parse_one(route.clone()).ok()?;
    address.uri.param("lr").is_none().then(|| request_uri_of(&address))
}

fn is_sips(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, StatusCode, response_to};

    fn invite(extra: &str) -> Message {
        parse(&format!(
            "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n{extra}\
             From: \"A\" <sip:a@h>;tag=at;epid=e1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\
             Contact: <sip:a@1.2.3.4:5070;transport=tcp?Subject=x>\r\nContent-Length: 0\r\n\r\n"
        ))
    }

    fn parse(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap()
    }

    fn lines(request: &OutgoingRequest) -> Vec<&str> {
        std::str::from_utf8(&request.headers).unwrap().lines().collect()
    }

    fn answer(extra: &str, status: u16, tag: Option<&[u8]>) -> Message {
        let builder = response_to(&invite(extra), StatusCode::new(status).unwrap(), None, tag);
        let bytes = builder.header(HeaderId::Contact, "<sip:b@5.6.7.8>").finish(None, b"").unwrap();
        Message::parse(bytes, &Limits::default()).unwrap()
    }

    fn sent() -> OutgoingRequest {
        RequestDraft::new(Method::Invite, Bytes::from_static(b"sip:b@h")).finish().unwrap()
    }

    const ROUTES: &str = "Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\nRecord-Route: <sip:p3;lr>\r\n";

    #[test]
    fn the_server_side_keeps_the_route_order_and_mirrors_the_addresses() {
        let mut dialog = Dialog::uas(&invite(ROUTES), Bytes::from_static(b"bt")).unwrap();
        let bye = dialog.request(Method::Bye).finish().unwrap();
        assert_eq!(&bye.uri[..], b"sip:a@1.2.3.4:5070;transport=tcp");
        assert_eq!(
            lines(&bye),
            [
                "Route: <sip:p1;lr>",
                "Route: <sip:p2;lr>",
                "Route: <sip:p3;lr>",
                "Max-Forwards: 70",
                "From: <sip:b@h>;tag=bt",
                "To: \"A\" <sip:a@h>;tag=at;epid=e1",
                "Call-ID: c",
                "CSeq: 1 BYE",
            ]
        );
        assert!(dialog.matches(b"c", b"bt", b"at"));
        for (call_id, local, remote) in [("x", "bt", "at"), ("c", "at", "bt"), ("c", "bt", "")] {
            assert!(!dialog.matches(call_id.as_bytes(), local.as_bytes(), remote.as_bytes()));
        }
    }

    #[test]
    fn a_relayed_request_carries_the_hops_it_is_given_and_the_next_number() {
        let mut dialog = Dialog::uas(&invite(""), Bytes::from_static(b"bt")).unwrap();
        let info = dialog.forward(Method::Info, 12).finish().unwrap();
        assert!(lines(&info).contains(&"Max-Forwards: 12"));
        let bye = dialog.request(Method::Bye).finish().unwrap();
        assert!(lines(&bye).contains(&"CSeq: 2 BYE") && lines(&bye).contains(&"Max-Forwards: 70"));
    }

    #[test]
    fn a_renewed_route_set_replaces_the_old_one_in_the_order_of_its_role() {
        let set = |dialog: &Dialog| {
            dialog.route_set.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect::<Vec<_>>()
        };
        let mut dialog =
            Dialog::uas(&invite("Record-Route: <sip:old;lr>\r\n"), Bytes::from_static(b"bt")).unwrap();
        dialog.renew_routes_by_request(&invite(""));
        assert_eq!(set(&dialog), ["<sip:old;lr>"], "a request without Record-Route renews nothing");
        dialog.renew_routes_by_request(&invite(ROUTES));
        assert_eq!(set(&dialog), ["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]);
        dialog.renew_routes_by_response(&answer(ROUTES, 200, Some(b"bt")));
        assert_eq!(set(&dialog), ["<sip:p3;lr>", "<sip:p2;lr>", "<sip:p1;lr>"]);
    }

    #[test]
    fn the_client_side_reverses_the_routes_and_counts_on_from_the_invite() {
        let mut dialog = Dialog::uac(&sent(), &answer(ROUTES, 200, Some(b"bt"))).unwrap();
        assert_eq!(dialog.state, DialogState::Confirmed);
        let routes: Vec<_> = dialog.route_set.iter().map(|route| route.to_vec()).collect();
        assert_eq!(routes, [b"<sip:p3;lr>", b"<sip:p2;lr>", b"<sip:p1;lr>"]);
        let ack = dialog.ack(7).finish().unwrap();
        assert_eq!(
            lines(&ack)[3..],
            [
                "Max-Forwards: 70",
                "From: \"A\" <sip:a@h>;tag=at;epid=e1",
                "To: <sip:b@h>;tag=bt",
                "Call-ID: c",
                "CSeq: 7 ACK"
            ]
        );
        assert_eq!((&ack.uri[..], &ack.method), (&b"sip:b@5.6.7.8"[..], &Method::Ack));
        assert!(lines(&dialog.request(Method::Info).finish().unwrap()).contains(&"CSeq: 8 INFO"));
        assert!(lines(&dialog.request(Method::Bye).finish().unwrap()).contains(&"CSeq: 9 BYE"));
    }

    #[test]
    fn a_strict_router_becomes_the_request_uri_and_the_target_goes_last() {
        let routes = "Record-Route: <sip:old>\r\nRecord-Route: <sip:p2;lr>\r\n";
        let mut dialog = Dialog::uas(&invite(routes), Bytes::from_static(b"bt")).unwrap();
        let bye = dialog.request(Method::Bye).finish().unwrap();
        assert_eq!(&bye.uri[..], b"sip:old");
        let expected = ["Route: <sip:p2;lr>", "Route: <sip:a@1.2.3.4:5070;transport=tcp>"];
        assert_eq!(lines(&bye)[..2], expected);
    }

    #[test]
    fn an_early_dialog_is_confirmed_with_the_routes_of_the_2xx() {
        let mut dialog = Dialog::uac(&sent(), &answer(ROUTES, 180, Some(b"bt"))).unwrap();
        assert_eq!(dialog.state, DialogState::Early);
        dialog.confirm_with(&answer("Record-Route: <sip:q;lr>\r\n", 200, Some(b"bt"))).unwrap();
        assert_eq!(
            (dialog.state, dialog.route_set),
            (DialogState::Confirmed, vec![Bytes::from("<sip:q;lr>")])
        );
    }

    #[test]
    fn sequence_numbers_of_the_peer_may_not_fall() {
        let mut dialog = Dialog::uas(&invite(""), Bytes::from_static(b"bt")).unwrap();
        let mut take = |cseq: u32, method: &str| {
            let text = String::from_utf8(invite("").bytes().to_vec()).unwrap();
            let text = text.replace("7 INVITE", &format!("{cseq} {method}")).replacen("INVITE", method, 1);
            dialog.accept_request(&parse(&text))
        };
        assert_eq!(take(9, "INFO"), Ok(()));
        assert_eq!(take(8, "INFO"), Err(CSeqError { last: 9, got: 8 }));
        assert_eq!(take(7, "ACK"), Ok(()));
        assert_eq!(take(u32::MAX >> 1, "BYE"), Ok(()));
    }

    #[test]
    fn a_target_is_refreshed_only_by_a_usable_contact() {
        let mut dialog = Dialog::uac(&sent(), &answer("", 200, Some(b"bt"))).unwrap();
        dialog.refresh_target(&invite(""));
        assert_eq!(&dialog.remote_target[..], b"sip:a@1.2.3.4:5070;transport=tcp");
        let text = String::from_utf8(invite("").bytes().to_vec()).unwrap();
        dialog.refresh_target(&parse(&text.replace("Contact:", "X-Contact:")));
        assert_eq!(&dialog.remote_target[..], b"sip:a@1.2.3.4:5070;transport=tcp");
    }

    #[test]
    fn what_makes_no_dialog_is_said() {
        assert_eq!(Dialog::uac(&sent(), &answer("", 180, None)).unwrap_err(), DialogError::TagMissing);
        assert!(Dialog::uac(&sent(), &answer("", 200, None)).is_ok());
        let text = String::from_utf8(invite("").bytes().to_vec()).unwrap();
        let headless = parse(&text.replace("Contact:", "X-Contact:"));
        let tag = || Bytes::from_static(b"bt");
        assert_eq!(Dialog::uas(&headless, tag()).unwrap_err(), DialogError::ContactMissing);
        let long = format!("Record-Route: {}\r\n", vec!["<sip:p;lr>"; ROUTE_SET_MAX + 1].join(","));
        assert_eq!(Dialog::uas(&invite(&long), tag()).unwrap_err(), DialogError::RouteSetTooLong);
    }

    #[test]
    fn a_draft_never_ends_a_header_line_early() {
        let draft = || RequestDraft::new(Method::Info, Bytes::from_static(b"sip:a"));
        for bad in [&b"a\r\nB: c"[..], b"a\n", b"\r", b"a\0", b"a\r\n"] {
            assert_eq!(draft().header(HeaderId::Subject, bad).finish(), Err(BuildError::ForbiddenByte));
            assert!(draft().body(bad, Bytes::new()).finish().is_err());
        }
        assert!(draft().raw_header(b"A B", b"c").finish().is_err());
        assert!(draft().block(b"A: b").finish().is_err());
        assert!(draft().block(b"A: b\r\n\r\n").finish().is_err());
        assert_eq!(
            lines(&draft().block(b"A: b\r\n").raw_header(b"C", b"d\r\n e").finish().unwrap()).len(),
            3
        );
    }
}
