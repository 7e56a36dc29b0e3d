//! Via: where a message came through. What to do about a missing branch or a foreign address is decided elsewhere.

use super::HeaderError;
use super::params::{Params, scan_params, skip_lws};
use crate::Transport;
use crate::uri::cut_host_port;
use crate::wire::scan::{decimal_u32, is_token_char, trim, trim_range};
use bytes::Bytes;
use std::net::SocketAddr;
use std::ops::Range;

/// One Via entry.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Via {
    raw: Bytes,
    parts: Parts,
}

#[derive(Clone, Eq, PartialEq, Debug)]
struct Parts {
    transport: Range<usize>,
    host: Range<usize>,
    port: Option<u16>,
    branch: Option<Range<usize>>,
    params: usize,
    end: usize,
}

impl Parts {
    /// The same parts in a slice that begins `by` bytes later.
    fn moved(self, by: usize) -> Parts {
        let moved = |range: Range<usize>| range.start - by..range.end - by;
        Parts {
            transport: moved(self.transport),
            host: moved(self.host),
            branch: self.branch.map(moved),
            params: self.params - by,
            end: self.end - by,
            ..self
        }
    }
}

/// What a branch begins with when it identifies a transaction (RFC 3261 §8.1.1.7).
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";
/// Room for `;rport=` and `;received=` with an IPv6 address.
const STAMP_LEN: usize = 64;

impl Via {
    /// Types the first entry of a value that may hold several.
    pub fn parse_first(value: Bytes) -> Result<Via, HeaderError> {
        let parts = scan_entry(&value, 0)?;
        check_behind(&value, parts.end)?;
        Ok(Via::cut(&value, 0, parts))
    }

    /// Types every entry.
    pub fn parse_list(value: Bytes) -> Result<Vec<Via>, HeaderError> {
        let mut all = Vec::new();
        let mut at = 0;
        loop {
            let parts = scan_entry(&value, at)?;
            let end = parts.end;
            check_behind(&value, end)?;
            all.push(Via::cut(&value, at, parts));
            if end == value.len() {
                return Ok(all);
            }
            at = end + 1;
        }
    }

    fn cut(value: &Bytes, at: usize, parts: Parts) -> Via {
        let range = trim_range(value, at..parts.end);
        Via { raw: value.slice(range.clone()), parts: parts.moved(range.start) }
    }

    /// The entry as received.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The transport, when it is one that is spoken here.
    pub fn transport(&self) -> Option<Transport> {
        Transport::from_token(self.transport_raw())
    }

    /// The transport as spelled.
    pub fn transport_raw(&self) -> &[u8] {
        &self.raw[self.parts.transport.clone()]
    }

    /// The sent-by host as spelled, IPv6 in brackets.
    pub fn host(&self) -> &[u8] {
        &self.raw[self.parts.host.clone()]
    }

    /// The sent-by port, when one is written.
    pub fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// The branch; may lack the magic cookie.
    pub fn branch(&self) -> Option<&[u8]> {
        self.parts.branch.clone().map(|range| &self.raw[range])
    }

    /// Whether the branch identifies a transaction: the cookie with something behind it.
    pub fn has_cookie(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len()
                && branch[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
        })
    }

    /// The `received` address without the brackets that some add (RFC 5118 §4.5).
    pub fn received(&self) -> Option<&[u8]> {
        let value = self.param("received").flatten()?;
        Some(value.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(value))
    }

    /// `rport` (RFC 3581): `Some(None)` asks for it, `Some(Some(port))` answers.
    pub fn rport(&self) -> Option<Option<u16>> {
        let value = self.param("rport")?;
        Some(value.and_then(decimal_u32).and_then(|port| u16::try_from(port).ok()))
    }

    /// A parameter by name in any case.
    pub fn param(&self, name: &str) -> Option<Option<&[u8]>> {
        self.params().find(name)
    }

    /// All parameters in order.
    pub fn params(&self) -> Params<'_> {
        Params::new(&self.raw[self.parts.params..])
    }

    /// The entry as a server keeps it: `received` when the source address is not the sent-by host or `rport` was
    /// asked for, and `rport` filled in (RFC 3261 §18.2.1, RFC 3581 §4). Claims the peer made of both are replaced.
    pub fn stamped(&self, source: SocketAddr) -> Bytes {
        let bare =
            self.host().strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(self.host());
        let is_same = std::str::from_utf8(bare).is_ok_and(|host| host.parse() == Ok(source.ip()));
        let (mut asks_rport, mut has_received) = (false, false);
        let mut out = Vec::with_capacity(self.raw.len() + STAMP_LEN);
        out.extend_from_slice(&self.raw[..self.parts.params]);
        for (name, value) in self.params() {
            if name.eq_ignore_ascii_case(b"rport") {
                asks_rport = true;
            } else if name.eq_ignore_ascii_case(b"received") {
                has_received = true;
            } else {
                push_param(&mut out, name, value);
            }
        }
        if is_same && !asks_rport && !has_received {
            return self.raw.clone();
        }
        if asks_rport {
            push_param(&mut out, b"rport", Some(source.port().to_string().as_bytes()));
        }
        if asks_rport || !is_same {
            push_param(&mut out, b"received", Some(source.ip().to_string().as_bytes()));
        }
        Bytes::from(out)
    }
}

fn push_param(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    out.push(b';');
    out.extend_from_slice(name);
    if let Some(value) = value {
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// Checks every entry of a value without building it.
pub(crate) fn check_via(bytes: &[u8]) -> Result<(), HeaderError> {
    let mut at = 0;
    loop {
        let end = scan_entry(bytes, at)?.end;
        check_behind(bytes, end)?;
        if end == bytes.len() {
            return Ok(());
        }
        at = end + 1;
    }
}

fn check_behind(bytes: &[u8], end: usize) -> Result<(), HeaderError> {
    if matches!(bytes.get(end), None | Some(b',')) { Ok(()) } else { Err(HeaderError::Trailing) }
}

/// `SIP / 2.0 / transport LWS host [: port] *( ; param )`, white space allowed around each separator.
fn scan_entry(bytes: &[u8], from: usize) -> Result<Parts, HeaderError> {
    let name = token(bytes, skip_lws(bytes, from))?;
    let version = token(bytes, behind_slash(bytes, name.end)?)?;
    if !bytes[name].eq_ignore_ascii_case(b"SIP") || &bytes[version.clone()] != b"2.0" {
        return Err(HeaderError::Malformed);
    }
    let transport = token(bytes, behind_slash(bytes, version.end)?)?;
    let host_start = skip_lws(bytes, transport.end);
    if host_start == transport.end {
        return Err(HeaderError::Malformed);
    }
    let in_sent_by = |byte: &&u8| !matches!(**byte, b';' | b',');
    let sent_by_end = host_start + bytes[host_start..].iter().take_while(in_sent_by).count();
    let (host, port) = sent_by(bytes, host_start..sent_by_end)?;
    let params = host_start + trim(&bytes[host_start..sent_by_end]).len();
    let mut branch = None;
    let end = scan_params(bytes, params, |name, value| {
        if branch.is_none() && name.eq_ignore_ascii_case(b"branch") {
            branch = Some(value);
        }
    })?;
    let branch = branch.filter(|value| !value.is_empty());
    Ok(Parts { transport, host, port, branch, params, end })
}

fn sent_by(bytes: &[u8], range: Range<usize>) -> Result<(Range<usize>, Option<u16>), HeaderError> {
    let text = trim(&bytes[range.clone()]);
    let start = range.start;
    let host_end = match text.first() {
        Some(b'[') => text.iter().position(|byte| *byte == b']').map(|at| at + 1),
        _ => text.iter().position(|byte| *byte == b':'),
    };
    let host_end = host_end.unwrap_or(text.len());
    let host = trim(&text[..host_end]);
    let (len, _) = cut_host_port(host)?;
    let behind = trim(&text[host_end..]);
    let port = match behind {
        [] => None,
        [b':', digits @ ..] => {
            let port = decimal_u32(trim(digits)).and_then(|port| u16::try_from(port).ok());
            Some(port.ok_or(HeaderError::Number)?)
        }
        _ => return Err(HeaderError::Malformed),
    };
    Ok((start..start + len, port))
}

fn token(bytes: &[u8], start: usize) -> Result<Range<usize>, HeaderError> {
    let len = bytes.get(start..).unwrap_or_default().iter().take_while(|byte| is_token_char(**byte)).count();
    if len == 0 { Err(HeaderError::Malformed) } else { Ok(start..start + len) }
}

fn behind_slash(bytes: &[u8], at: usize) -> Result<usize, HeaderError> {
    let slash = skip_lws(bytes, at);
    if bytes.get(slash) == Some(&b'/') { Ok(skip_lws(bytes, slash + 1)) } else { Err(HeaderError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &'static str) -> Result<Via, HeaderError> {
        Via::parse_first(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn white_space_is_allowed_around_every_separator() {
        let all = Via::parse_list(Bytes::from_static(
            b"SIP  / 2.0 /TCP     spindle.example.com : 5070  ;\tbranch  =   z9hG4bK9ikj8  , SIP /2.0/ UDP 192.0.2.1;rport",
        ));
        let all = all.unwrap();
        assert_eq!(all[0].host(), b"spindle.example.com");
        assert_eq!(all[0].port(), Some(5070));
        assert_eq!(all[0].branch(), Some(&b"z9hG4bK9ikj8"[..]));
        assert_eq!(all[0].transport(), Some(Transport::Tcp));
        assert_eq!((all[1].host(), all[1].rport()), (&b"192.0.2.1"[..], Some(None)));
        assert!(all[1].branch().is_none());
    }

    #[test]
    fn unknown_transports_and_both_spellings_of_received_are_fine() {
        assert_eq!(first("SIP/2.0/UNKNOWN h;branch=z9hG4bK1").unwrap().transport(), None);
        let with =
            first("SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111").unwrap();
        let without =
            first("SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3").unwrap();
        assert_eq!(with.received(), without.received());
        assert_eq!(with.host(), b"[2001:db8::9:1]");
    }

    #[test]
    fn the_bare_cookie_identifies_nothing() {
        assert!(!first("SIP/2.0/UDP h;branch=z9hG4bK").unwrap().has_cookie());
        assert!(!first("SIP/2.0/UDP h;branch=1").unwrap().has_cookie());
        assert!(first("SIP/2.0/UDP h;branch=z9hG4bKa").unwrap().has_cookie());
    }

    #[test]
    fn stamping_adds_what_the_source_address_tells() {
        let source = "192.0.2.7:4000".parse().unwrap();
        let via = first("SIP/2.0/UDP h:5060;rport;branch=z9hG4bK1;received=1.1.1.1").unwrap();
        assert_eq!(via.stamped(source), "SIP/2.0/UDP h:5060;branch=z9hG4bK1;rport=4000;received=192.0.2.7");
        let same = first("SIP/2.0/TCP 192.0.2.7;branch=z9hG4bK1").unwrap();
        assert_eq!(same.stamped(source), "SIP/2.0/TCP 192.0.2.7;branch=z9hG4bK1");
        let claims = first("SIP/2.0/TCP 192.0.2.7;received=1.1.1.1;branch=z9hG4bK1").unwrap();
        assert_eq!(claims.stamped(source), "SIP/2.0/TCP 192.0.2.7;branch=z9hG4bK1");
        let spaced = first("SIP/2.0/TCP 192.0.2.7 ; branch=z9hG4bK1").unwrap();
        assert_eq!(spaced.stamped(source), spaced.raw());
    }

    #[test]
    fn malformed_entries_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ;branch=x",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
            "SIP/3.0/UDP h",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP a b",
            "HTTP/2.0/UDP h",
        ] {
            assert!(first(bad).is_err(), "{bad:?}");
        }
        assert!(Via::parse_list(Bytes::from_static(b"SIP/2.0/UDP h,")).is_err());
    }
}
