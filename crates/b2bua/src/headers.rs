//! Which header lines cross from one leg to the other. Owns the allow-lists and the one header set of
//! leg B, built once per call and replayed on every hop and server. Refuses to know dialogs: tags,
//! sequence numbers and routes are given or left out.

use bytes::{BufMut, Bytes, BytesMut};
use sip::{HeaderId, Message};

use crate::policy::{HeaderRules, UnknownHeaders};

/// Carries our hop tokens; a request that comes back with one of ours is a loop.
pub(crate) const HOP_HEADER: &str = "X-Umbra-Hop";
/// Methods we take, for Allow.
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, PUBLISH, SERVICE, BENOTIFY";
/// Bodies we take, for Accept.
pub(crate) const ACCEPT: &str = "application/sdp, multipart/alternative, multipart/mixed";
/// Names that never cross, whatever the configuration says.
const BORDER: [&str; 3] = ["ms-user-logon-data", "ms-subnet", "ms-endpoint-location-data"];
/// Names of hop-by-hop business that has no `HeaderId`.
const HOP_BY_HOP: [&str; 4] = ["ms-keep-alive", "ms-fe", "proxy-connection", "p-charging-vector"];

/// Complete header lines, CRLF included.
#[derive(Default)]
pub(crate) struct Block(BytesMut);

impl Block {
    /// Adds a line; a value that could end the line early is left out.
    pub fn line(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        if is_clean(name) && is_clean(value) && !name.is_empty() {
            self.0.put_slice(name);
            self.0.put_slice(b": ");
            self.0.put_slice(value);
            self.0.put_slice(b"\r\n");
        }
        self
    }

    /// Adds a line with a registered name.
    pub fn header(&mut self, id: HeaderId, value: impl AsRef<[u8]>) -> &mut Self {
        self.line(id.name().as_bytes(), value.as_ref())
    }

    /// The lines.
    pub fn finish(self) -> Bytes {
        self.0.freeze()
    }
}

fn is_clean(bytes: &[u8]) -> bool {
    !bytes.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// Our own part of leg B's header set.
pub(crate) struct OwnLines<'a> {
    /// Value of From, our tag included.
    pub from: &'a [u8],
    /// Value of To, without a tag.
    pub to: &'a [u8],
    /// Call-ID of leg B.
    pub call_id: &'a [u8],
    /// Contact value.
    pub contact: &'a [u8],
    /// Max-Forwards to send.
    pub max_forwards: u32,
    /// Our hop token.
    pub hop_token: &'a str,
    /// Name of the correlation header.
    pub correlation: Option<&'a str>,
}

/// Everything of leg B's INVITE but Request-URI, Via, CSeq and body: what the caller sent and may pass, and ours.
pub(crate) fn leg_b_set(invite: &Message, rules: &HeaderRules, own: &OwnLines<'_>) -> Bytes {
    let mut block = Block::default();
    block
        .header(HeaderId::MaxForwards, own.max_forwards.to_string())
        .header(HeaderId::From, own.from)
        .header(HeaderId::To, own.to)
        .header(HeaderId::CallId, own.call_id)
        .header(HeaderId::Contact, own.contact)
        .header(HeaderId::Allow, ALLOW);
    for header in invite.headers() {
        if !crosses(header.id, header.name, rules) || is_correlation(header.name, own.correlation) {
            continue;
        }
        let value = header.value();
        match header.id {
            HeaderId::Diversion => block.line(header.name, &sip::Diversion::normalise_quoting(&value)),
            _ => block.line(header.name, &value),
        };
    }
    if let Some(name) = own.correlation {
        block.line(name.as_bytes(), invite.call_id());
    }
    block.line(HOP_HEADER.as_bytes(), own.hop_token.as_bytes());
    block.finish()
}

fn is_correlation(name: &[u8], correlation: Option<&str>) -> bool {
    correlation.is_some_and(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

/// Whether a header of the caller's INVITE reaches leg B.
pub fn crosses(id: HeaderId, name: &[u8], rules: &HeaderRules) -> bool {
    let named = |list: &[String]| list.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
    if is_stopped(name, rules) || is_leg_own(id) {
        return false;
    }
    match id {
        HeaderId::Other => {
            named(&rules.pass)
                || name.eq_ignore_ascii_case(HOP_HEADER.as_bytes())
                || is_microsoft(name)
                || rules.unknown == UnknownHeaders::Pass
        }
        _ => true,
    }
}

/// Stops here in both directions, in requests and responses.
fn is_stopped(name: &[u8], rules: &HeaderRules) -> bool {
    let is = |listed: &str| name.eq_ignore_ascii_case(listed.as_bytes());
    BORDER.iter().chain(&HOP_BY_HOP).any(|listed| is(listed)) || rules.stop.iter().any(|listed| is(listed))
}

fn is_microsoft(name: &[u8]) -> bool {
    name.get(..3).is_some_and(|head| head.eq_ignore_ascii_case(b"ms-"))
}

/// Headers that each leg has of its own.
fn is_leg_own(id: HeaderId) -> bool {
    use HeaderId as H;
    matches!(
        id,
        H::Via
            | H::From
            | H::To
            | H::CallId
            | H::CSeq
            | H::MaxForwards
            | H::Contact
            | H::Route
            | H::RecordRoute
            | H::ContentType
            | H::ContentLength
            | H::ContentDisposition
            | H::ContentEncoding
            | H::ContentLanguage
            | H::ContentId
            | H::MimeVersion
            | H::Allow
            | H::AllowEvents
            | H::Supported
            | H::Require
            | H::ProxyRequire
            | H::Unsupported
            | H::Accept
            | H::AcceptEncoding
            | H::AcceptLanguage
            | H::Expires
            | H::MinExpires
            | H::SessionExpires
            | H::MinSe
            | H::RSeq
            | H::RAck
            | H::ReferTo
            | H::Replaces
            | H::Join
            | H::Authorization
            | H::ProxyAuthorization
            | H::WwwAuthenticate
            | H::ProxyAuthenticate
            | H::AuthenticationInfo
            | H::UserAgent
            | H::Server
            | H::Date
            | H::Timestamp
            | H::Path
            | H::ServiceRoute
            | H::MsUserLogonData
            | H::MsSubnet
            | H::MsEndpointLocationData
    )
}

/// Header lines of an in-dialog request that go to the other leg with it.
pub(crate) fn relayed_request_lines(request: &Message, rules: &HeaderRules) -> Bytes {
    let mut block = Block::default();
    for header in request.headers() {
        let travels = matches!(
            header.id,
            HeaderId::ReferTo | HeaderId::ContentDisposition | HeaderId::ContentEncoding | HeaderId::Accept
        );
        let dialog_business = matches!(header.id, HeaderId::Diversion | HeaderId::HistoryInfo);
        if travels || (crosses(header.id, header.name, rules) && !dialog_business) {
            block.line(header.name, &header.value());
        }
    }
    block.finish()
}

/// Header lines of a response that go to the other leg with it.
pub(crate) fn relayed_response_lines(response: &Message, rules: &HeaderRules) -> Bytes {
    use HeaderId as H;
    let mut block = Block::default();
    for header in response.headers() {
        let travels = matches!(
            header.id,
            H::Warning
                | H::RetryAfter
                | H::Reason
                | H::MsDiagnostics
                | H::MsClientDiagnostics
                | H::MsDiagnosticsPublic
                | H::Accept
                | H::AcceptEncoding
                | H::AcceptLanguage
                | H::Unsupported
                | H::ContentDisposition
                | H::ContentEncoding
                | H::Expires
                | H::ReferSub
                | H::AllowEvents
        );
        let is_passed = travels || (header.id == H::Other && is_microsoft(header.name));
        if is_passed && !is_stopped(header.name, rules) {
            block.line(header.name, &header.value());
        }
    }
    block.finish()
}

/// Adds our tag to a name-addr that has none.
pub(crate) fn with_tag(name_addr: &[u8], tag: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(name_addr.len() + tag.len() + 5);
    out.put_slice(name_addr);
    out.put_slice(b";tag=");
    out.put_slice(tag);
    out.freeze()
}

/// A From or To value without its tag, all other bytes kept. A bare URI gets its brackets, since
/// parameters behind it would otherwise belong to the URI (RFC 3261 §20).
pub(crate) fn without_tag(value: &[u8]) -> Bytes {
    let close = match closing_bracket(value) {
        Some(at) => at + 1,
        None => return bracketed(value),
    };
    let (address, params) = value.split_at(close.min(value.len()));
    let mut out = BytesMut::from(address);
    for param in split_params(params) {
        let name = param.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if !name.eq_ignore_ascii_case(b"tag") && !name.is_empty() {
            out.put_u8(b';');
            out.put_slice(param.trim_ascii());
        }
    }
    out.freeze()
}

fn bracketed(value: &[u8]) -> Bytes {
    let uri = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let mut out = BytesMut::with_capacity(uri.len() + 2);
    out.put_u8(b'<');
    out.put_slice(uri);
    out.put_u8(b'>');
    out.freeze()
}

// The '>' that ends the address: behind the display name's quotes.
fn closing_bracket(value: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    let mut open = false;
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !open => quoted = !quoted,
            b'<' if !quoted => open = true,
            b'>' if open => return Some(at),
            _ => {}
        }
    }
    None
}

fn split_params(params: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    params.split(move |b| {
        if *b == b'"' {
            quoted = !quoted;
        }
        *b == b';' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_taken_off_and_everything_else_stays() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"\"Dana; <B>\"<sip:d@c.com;x=1>;tag=86;epid=c21", b"\"Dana; <B>\"<sip:d@c.com;x=1>;epid=c21"),
            (b"<sip:ken@c.com>;epid=3b", b"<sip:ken@c.com>;epid=3b"),
            (b"<sip:ken@c.com> ; TAG = 1", b"<sip:ken@c.com>"),
            (b"sip:ken@c.com;tag=5", b"<sip:ken@c.com>"),
            (b"<tel:+1425>;tag=a", b"<tel:+1425>"),
        ];
        for (given, wanted) in cases {
            assert_eq!(without_tag(given), wanted, "{}", given.escape_ascii());
        }
    }

    #[test]
    fn a_value_with_a_line_end_never_becomes_a_line() {
        let mut block = Block::default();
        block.line(b"Subject", b"a\r\nVia: x").line(b"X\n", b"y").line(b"Subject", b"ok");
        assert_eq!(block.finish(), &b"Subject: ok\r\n"[..]);
    }

    #[test]
    fn location_data_stops_at_the_border_even_if_configured_to_pass() {
        let rules = HeaderRules { pass: vec!["ms-subnet".into()], ..HeaderRules::default() };
        assert!(!crosses(HeaderId::MsSubnet, b"Ms-Subnet", &rules));
        assert!(crosses(HeaderId::Diversion, b"Diversion", &rules));
        assert!(crosses(HeaderId::Other, b"Ms-Mras-Address", &rules));
        let strict = HeaderRules { unknown: UnknownHeaders::Drop, ..HeaderRules::default() };
        assert!(!crosses(HeaderId::Other, b"X-Unknown", &strict));
    }

    #[test]
    fn what_stops_at_the_border_stops_in_responses_too() {
        let response = b"SIP/2.0 486 Busy\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1\r\nFrom: <sip:a@b.c>;tag=1\r\n\
            To: <sip:d@e.f>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nms-keep-alive: UAS\r\nms-subnet: 10.0.0.0\r\n\
            ms-secret: 1\r\nms-diagnostics: 15030;reason=\"x\"\r\nContent-Length: 0\r\n\r\n";
        let response = Message::parse(Bytes::from_static(response), &sip::Limits::default()).unwrap();
        let mut rules = HeaderRules::default();
        let diagnostics = "ms-diagnostics: 15030;reason=\"x\"\r\n";
        assert_eq!(relayed_response_lines(&response, &rules), format!("ms-secret: 1\r\n{diagnostics}"));
        rules.stop.push("Ms-Secret".to_owned());
        assert_eq!(relayed_response_lines(&response, &rules), diagnostics);
    }
}
