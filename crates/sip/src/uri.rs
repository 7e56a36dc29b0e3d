//! URIs of every scheme, kept as received: `sip:` and `sips:` cut into user, host, port, parameters and headers,
//! `tel:` into number and parameters, others left whole. It compares nothing and resolves nothing.
//!
//! ```text
//!  sip:6095;phone-context=DP.contoso.com@contoso.com:5061;opaque=app:voicemail?Subject=x
//!      └──────────── user ─────────────┘ └─ host ──┘ port └──── params ─────┘ └ headers
//! ```

use crate::header::Params;
use crate::wire::scan;
use crate::{HeaderId, Method, Transport};
use bytes::Bytes;
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// The scheme of a URI.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[allow(missing_docs)] // the scheme of that name
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Other,
}

/// The host of a `sip:` or `sips:` URI.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Host<'a> {
    /// A DNS name as spelled; empty for URIs without a host.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

/// Why bytes are not a URI.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the message says it
pub enum UriError {
    #[error("URI without a scheme")]
    SchemeMissing,
    #[error("white space, control character, quote or angle bracket in a URI")]
    ForbiddenByte,
    #[error("URI without a host")]
    HostMissing,
    #[error("malformed host")]
    HostMalformed,
    #[error("malformed port")]
    PortMalformed,
    #[error("more than one @ before the host")]
    UserMalformed,
}

/// A URI and where its parts stand.
#[derive(Clone, Eq, PartialEq)]
pub struct Uri {
    raw: Bytes,
    parts: Parts,
}

/// Ranges into the raw bytes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Parts {
    scheme: Scheme,
    user: Option<Range<usize>>,
    host: Range<usize>,
    port: Option<u16>,
    params: Range<usize>,
    headers: Range<usize>,
}

impl Parts {
    /// Whether there are headers behind a `?`.
    pub(crate) fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }
}

impl Uri {
    /// Cuts a URI that stands alone, without angle brackets.
    pub fn parse(raw: Bytes) -> Result<Uri, UriError> {
        let parts = cut(&raw)?;
        Ok(Uri { raw, parts })
    }

    /// Everything as received.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.parts.scheme
    }

    /// The user part as received, with user parameters and password; the number of a `tel:` URI.
    pub fn user(&self) -> Option<&[u8]> {
        self.parts.user.clone().map(|range| &self.raw[range])
    }

    /// The user part without its parameters and password.
    pub fn user_part(&self) -> Option<&[u8]> {
        let user = self.user()?;
        let end = user.iter().position(|byte| matches!(byte, b';' | b':')).unwrap_or(user.len());
        Some(&user[..end])
    }

    /// A parameter inside the user part, such as `phone-context`; of a `tel:` URI, a URI parameter.
    pub fn user_param(&self, name: &str) -> Option<Option<&[u8]>> {
        if self.parts.scheme == Scheme::Tel {
            return self.param(name);
        }
        Params::new(self.user()?).find(name)
    }

    /// The host.
    pub fn host(&self) -> Host<'_> {
        let text = self.host_str();
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && let Ok(address) = inner.parse()
        {
            return Host::V6(address);
        }
        text.parse().map_or(Host::Name(text), Host::V4)
    }

    /// The host as spelled, brackets kept.
    pub fn host_str(&self) -> &str {
        std::str::from_utf8(&self.raw[self.parts.host.clone()]).unwrap_or_default()
    }

    /// The port, when one is written.
    pub fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// A URI parameter by name in any case: its raw value, or `Some(None)` when it has none.
    pub fn param(&self, name: &str) -> Option<Option<&[u8]>> {
        self.params().find(name)
    }

    /// All URI parameters in order.
    pub fn params(&self) -> Params<'_> {
        Params::new(&self.raw[self.parts.params.clone()])
    }

    /// All but the headers: what may stand in a request line (RFC 3261 §19.1.1).
    pub fn without_headers(&self) -> Bytes {
        match self.parts.scheme {
            Scheme::Sip | Scheme::Sips => self.raw.slice(..self.parts.params.end),
            _ => self.raw.clone(),
        }
    }

    /// Everything behind the `?`; empty when there is none.
    pub fn headers_raw(&self) -> &[u8] {
        &self.raw[self.parts.headers.clone()]
    }

    /// A header carried in the URI (`Replaces` in a Refer-To), unescaped once.
    pub fn header(&self, id: HeaderId) -> Option<Cow<'_, [u8]>> {
        let mut fields = self.headers_raw().split(|byte| *byte == b'&');
        fields.find_map(|field| {
            let at = field.iter().position(|byte| *byte == b'=')?;
            (HeaderId::from_name(&unescape(&field[..at])) == id).then(|| unescape(&field[at + 1..]))
        })
    }

    /// The `transport` parameter, when it names one that is spoken here.
    pub fn transport(&self) -> Option<Transport> {
        self.param("transport").flatten().and_then(Transport::from_token)
    }

    /// The `method` parameter.
    pub fn method(&self) -> Option<Method> {
        self.param("method").flatten().map(Method::from_bytes)
    }
}

impl std::fmt::Debug for Uri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Uri({})", self.raw.escape_ascii())
    }
}

impl std::fmt::Display for Uri {
    /// Escaped for logs; the wire form is `raw`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.raw.escape_ascii())
    }
}

/// Replaces each `%HH` by its byte, once. A `%` without two hexadecimal digits stays.
pub fn unescape(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1).and_then(hex), bytes.get(at + 2).and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// Escapes everything that may not stand in the value of a URI header (RFC 3261 §25.1, `hvalue`).
#[must_use]
pub fn escape_header_value(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/?:+$".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

fn hex(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).map(|digit| digit as u8)
}

/// By byte: what may stand in a URI at all. White space, controls, quotes and angle brackets may not.
static IN_URI: [bool; 256] = uri_table();

const fn uri_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = byte > b' ' as usize && !matches!(byte as u8, 127 | b'<' | b'>' | b'"');
        byte += 1;
    }
    table
}

/// Cuts a URI without copying.
pub(crate) fn cut(raw: &[u8]) -> Result<Parts, UriError> {
    if raw.iter().any(|byte| !IN_URI[usize::from(*byte)]) {
        return Err(UriError::ForbiddenByte);
    }
    let colon = raw.iter().position(|byte| *byte == b':').ok_or(UriError::SchemeMissing)?;
    let scheme = &raw[..colon];
    let in_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(in_scheme) {
        return Err(UriError::SchemeMissing);
    }
    match scheme {
        _ if scheme.eq_ignore_ascii_case(b"sip") => cut_sip(raw, Scheme::Sip, colon + 1),
        _ if scheme.eq_ignore_ascii_case(b"sips") => cut_sip(raw, Scheme::Sips, colon + 1),
        _ if scheme.eq_ignore_ascii_case(b"tel") => Ok(cut_tel(raw, colon + 1)),
        _ => {
            let end = raw.len();
            let parts = Parts {
                scheme: Scheme::Other,
                user: None,
                host: end..end,
                port: None,
                params: end..end,
                headers: end..end,
            };
            Ok(parts)
        }
    }
}

fn cut_tel(raw: &[u8], start: usize) -> Parts {
    let end = raw.len();
    let number_end = find_from(raw, start, b';').unwrap_or(end);
    Parts {
        scheme: Scheme::Tel,
        user: Some(start..number_end),
        host: end..end,
        port: None,
        params: number_end..end,
        headers: end..end,
    }
}

fn cut_sip(raw: &[u8], scheme: Scheme, start: usize) -> Result<Parts, UriError> {
    let end = raw.len();
    let user = find_at(raw, start)?.map(|at| start..at);
    let host_start = user.as_ref().map_or(start, |user| user.end + 1);
    let headers_mark = find_from(raw, host_start, b'?').unwrap_or(end);
    let params_start = find_from(&raw[..headers_mark], host_start, b';').unwrap_or(headers_mark);
    let (host_len, port) = cut_host_port(&raw[host_start..params_start])?;
    Ok(Parts {
        scheme,
        user,
        host: host_start..host_start + host_len,
        port,
        params: params_start..headers_mark,
        headers: (headers_mark + 1).min(end)..end,
    })
}

/// Where the user part ends. `@` is legal nowhere else in a URI, but `?` is legal in a user part (RFC 3261 §25.1),
/// so an `@` before the first `?` wins and one behind it counts only when there is no other.
fn find_at(raw: &[u8], start: usize) -> Result<Option<usize>, UriError> {
    let mark = find_from(raw, start, b'?').unwrap_or(raw.len());
    if let Some(at) = memchr::memrchr(b'@', &raw[start..mark]) {
        return Ok(Some(start + at));
    }
    let Some(at) = find_from(raw, mark, b'@') else { return Ok(None) };
    if find_from(raw, at + 1, b'@').is_some() {
        return Err(UriError::UserMalformed);
    }
    Ok(Some(at))
}

fn find_from(raw: &[u8], from: usize, wanted: u8) -> Option<usize> {
    memchr::memchr(wanted, raw.get(from..)?).map(|at| from + at)
}

/// Length of the host at the start of `hostport` and the port behind it.
pub(crate) fn cut_host_port(hostport: &[u8]) -> Result<(usize, Option<u16>), UriError> {
    let host_len = match hostport.first() {
        None | Some(b':') => return Err(UriError::HostMissing),
        Some(b'[') => {
            let close = find_from(hostport, 0, b']').ok_or(UriError::HostMalformed)?;
            let inner = std::str::from_utf8(&hostport[1..close]).map_err(|_| UriError::HostMalformed)?;
            inner.parse::<Ipv6Addr>().map_err(|_| UriError::HostMalformed)?;
            close + 1
        }
        Some(_) => {
            let len = find_from(hostport, 0, b':').unwrap_or(hostport.len());
            let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if !hostport[..len].iter().all(in_name) {
                return Err(UriError::HostMalformed);
            }
            len
        }
    };
    match &hostport[host_len..] {
        [] => Ok((host_len, None)),
        [b':', digits @ ..] => {
            let port = scan::decimal_u32(digits).and_then(|port| u16::try_from(port).ok());
            port.map(|port| (host_len, Some(port))).ok_or(UriError::PortMalformed)
        }
        _ => Err(UriError::HostMalformed),
    }
}

/// Prints a `sip:` or `sips:` URI from parts that are already escaped.
#[derive(Clone, Debug)]
pub struct UriBuilder {
    out: Vec<u8>,
}

impl UriBuilder {
    /// Starts with scheme (`sips:` for `Sips`, `sip:` otherwise), user and host; an IPv6 host comes in brackets.
    pub fn new(scheme: Scheme, user: Option<&[u8]>, host: &str) -> UriBuilder {
        let mut out = if scheme == Scheme::Sips { b"sips:".to_vec() } else { b"sip:".to_vec() };
        if let Some(user) = user {
            out.extend_from_slice(user);
            out.push(b'@');
        }
        out.extend_from_slice(host.as_bytes());
        UriBuilder { out }
    }

    /// Adds a port; call before parameters.
    pub fn port(mut self, port: u16) -> UriBuilder {
        self.out.extend_from_slice(format!(":{port}").as_bytes());
        self
    }

    /// Adds a parameter.
    pub fn param(mut self, name: &str, value: Option<&[u8]>) -> UriBuilder {
        self.out.push(b';');
        self.out.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            self.out.push(b'=');
            self.out.extend_from_slice(value);
        }
        self
    }

    /// The URI, checked by parsing it.
    pub fn finish(self) -> Result<Uri, UriError> {
        Uri::parse(Bytes::from(self.out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &'static str) -> Uri {
        Uri::parse(Bytes::from_static(text.as_bytes())).unwrap()
    }

    fn error(text: &'static str) -> Option<UriError> {
        Uri::parse(Bytes::from_static(text.as_bytes())).err()
    }

    #[test]
    fn a_gruu_keeps_the_colons_of_its_opaque() {
        let uri = uri("sip:dana@contoso.com;opaque=user:epid:oY3nX2f1kVqk7l9b0cR5dwAA;gruu");
        assert_eq!(uri.param("OPAQUE"), Some(Some(&b"user:epid:oY3nX2f1kVqk7l9b0cR5dwAA"[..])));
        assert_eq!(uri.param("gruu"), Some(None));
        assert_eq!(uri.param("lr"), None);
        assert_eq!(
            (uri.user(), uri.host(), uri.port()),
            (Some(&b"dana"[..]), Host::Name("contoso.com"), None)
        );
    }

    #[test]
    fn a_dotted_phone_context_belongs_to_the_user_part() {
        let uri = uri("sip:6095;phone-context=DP-Sip.contoso.com@contoso.com;user=phone");
        assert_eq!(uri.user_part(), Some(&b"6095"[..]));
        assert_eq!(uri.user_param("Phone-Context"), Some(Some(&b"DP-Sip.contoso.com"[..])));
        assert_eq!(uri.param("phone-context"), None);
        assert_eq!(uri.param("user"), Some(Some(&b"phone"[..])));
    }

    #[test]
    fn tel_numbers_have_parameters_and_no_host() {
        let uri = uri("tel:+14255550100;phone-context=x.y");
        assert_eq!((uri.scheme(), uri.user()), (Scheme::Tel, Some(&b"+14255550100"[..])));
        assert_eq!(uri.user_param("phone-context"), Some(Some(&b"x.y"[..])));
        assert_eq!(uri.host(), Host::Name(""));
    }

    #[test]
    fn ip_hosts_and_ports_are_recognised() {
        assert_eq!(uri("sip:[2001:db8::10:5070]").port(), None);
        assert_eq!(uri("sip:[2001:db8::10]:5070").port(), Some(5070));
        assert!(matches!(uri("sip:a@[::1];lr").host(), Host::V6(address) if address.is_loopback()));
        assert_eq!(uri("SIPS:192.0.2.1:5061").host(), Host::V4(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(uri("SIPS:h").scheme(), Scheme::Sips);
    }

    #[test]
    fn a_question_mark_in_the_user_part_is_not_a_header_mark() {
        let odd = uri(
            "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too@example.com",
        );
        assert_eq!(odd.host(), Host::Name("example.com"));
        assert_eq!(odd.headers_raw(), b"");
        let refer = uri("sip:a@b?Replaces=c%40d%3Bto-tag%3D1&Subject=x");
        assert_eq!(refer.header(HeaderId::Replaces).as_deref(), Some(&b"c@d;to-tag=1"[..]));
        assert_eq!(refer.host(), Host::Name("b"));
    }

    #[test]
    fn malformed_uris_are_refused() {
        assert_eq!(error("sip:2001:db8::10"), Some(UriError::PortMalformed));
        assert_eq!(error("sip:h:70000"), Some(UriError::PortMalformed));
        assert_eq!(error("sip:h:"), Some(UriError::PortMalformed));
        assert_eq!(error("sip:"), Some(UriError::HostMissing));
        assert_eq!(error("sip:a@"), Some(UriError::HostMissing));
        assert_eq!(error("sip:a@;lr"), Some(UriError::HostMissing));
        assert_eq!(error("sip:[::1"), Some(UriError::HostMalformed));
        assert_eq!(error("sip:[::g]"), Some(UriError::HostMalformed));
        assert_eq!(error("sip:a b@h"), Some(UriError::ForbiddenByte));
        assert_eq!(error("<sip:a@h>"), Some(UriError::ForbiddenByte));
        assert_eq!(error("example.com"), Some(UriError::SchemeMissing));
        assert_eq!(error(":x"), Some(UriError::SchemeMissing));
        assert_eq!(error("1a:x"), Some(UriError::SchemeMissing));
        assert_eq!(error("a/b:x"), Some(UriError::SchemeMissing));
        assert_eq!(uri("x-y.z+1:x").scheme(), Scheme::Other);
    }

    #[test]
    fn escapes_are_resolved_once_and_broken_ones_stay() {
        assert_eq!(&*unescape(b"v%61lue%25%34%31"), b"value%41");
        assert_eq!(&*unescape(b"100%zz%4"), b"100%zz%4");
        assert_eq!(&*unescape(b"%00"), b"\0");
        let replaces = &b"a%b@c;to-tag=1 &?"[..];
        assert_eq!(escape_header_value(replaces), b"a%25b%40c%3Bto-tag%3D1%20%26?");
        assert_eq!(&*unescape(&escape_header_value(replaces)), replaces);
    }

    #[test]
    fn a_built_uri_parses_as_what_was_put_in() {
        let built =
            UriBuilder::new(Scheme::Sip, Some(b"ken"), "[::1]").port(5061).param("transport", Some(b"tls"));
        let built = built.param("lr", None).finish().unwrap();
        assert_eq!(&built.raw()[..], b"sip:ken@[::1]:5061;transport=tls;lr");
        assert_eq!(built.transport(), Some(Transport::Tls));
        assert!(UriBuilder::new(Scheme::Sip, Some(b"a\r\nb"), "h").finish().is_err());
    }

    #[test]
    fn without_its_headers_a_uri_still_names_the_same_host() {
        for (raw, bare) in [
            ("sip:a@h:5063;transport=tls?Subject=x", "sip:a@h:5063;transport=tls"),
            ("sip:a?b@h;transport=tls", "sip:a?b@h;transport=tls"),
            ("sip:evil.example:5066?maddr=x@h:5063?Subject=y", "sip:evil.example:5066?maddr=x@h:5063"),
            ("sip:h?", "sip:h"),
            ("tel:+1;x=?", "tel:+1;x=?"),
        ] {
            let uri = Uri::parse(Bytes::from_static(raw.as_bytes())).unwrap();
            assert_eq!(uri.without_headers(), bare);
            assert_eq!(Uri::parse(uri.without_headers()).unwrap().host_str(), uri.host_str());
        }
    }
}
