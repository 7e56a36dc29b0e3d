//! What a dry run asks, from words or from a request file: the routing question and what the wire would say about
//! security. Owns reading both; decides nothing.

use std::io::{self, Read};
use std::path::Path;

use b2bua::policy::{IpGateway, PeerAddress, PoolEncryption, VoipSecurity};
use b2bua::route::{RouteQuestion, Spoken};
use b2bua::security::{MediaSecurity, Signalling, plan_signalling};
use b2bua::verdict::Refusal;
use b2bua::{Policy, codes};
use bytes::Bytes;
use sip::{HeaderId, Limits, Message, Method, NameAddr, Transport};

use super::gateway::{self, Sender};
use super::{Carrier, ExplainArgs, Level};

/// Longest request file read.
const REQUEST_BYTES_MAX: u64 = 256 * 1024;
/// The port on which SIP over TLS is the custom.
const TLS_PORT: u16 = 5061;

/// One dry run.
pub(super) struct Asked {
    pub(super) sender: Sender,
    pub(super) request_uri: String,
    pub(super) question: Result<RouteQuestion, Refusal>,
    /// `None`: what the dial plan demands, for UM.
    carrier: Option<Carrier>,
    /// What the session description says, or why it cannot be used; `None`: what the dial plan demands, for UM.
    offer: Option<Result<MediaSecurity, Refusal>>,
    /// The pool level to assume instead of the configured one.
    assumed: Option<PoolEncryption>,
    /// The request itself, when there is one.
    pub(super) request: Option<Message>,
}

impl Asked {
    pub(super) fn signalling(&self, plan: VoipSecurity) -> Signalling {
        match self.carrier {
            Some(Carrier::Tls) => Signalling::MutualTls,
            Some(Carrier::Tcp | Carrier::Udp) => Signalling::Plain,
            None => plan_signalling(plan),
        }
    }

    pub(super) fn offer(&self, plan: VoipSecurity) -> Result<MediaSecurity, Refusal> {
        self.offer.clone().unwrap_or(Ok(match plan {
            VoipSecurity::Secured => MediaSecurity::Required,
            VoipSecurity::SipSecured | VoipSecurity::Unsecured => MediaSecurity::None,
        }))
    }

    /// The pool level that counts behind this UM IP gateway; `None` when it stands for no pool.
    pub(super) fn level(&self, policy: &Policy, gateway: usize) -> Option<PoolEncryption> {
        policy.pool_of(gateway).map(|pool| self.assumed.unwrap_or(pool.encryption))
    }
}

/// Reads the words, and the file that they name.
///
/// # Errors
/// What is wrong with the words, for the operator.
pub(super) fn asked(policy: &Policy, arguments: &ExplainArgs) -> Result<Asked, String> {
    let request = arguments.request.as_deref().map(read_request).transpose()?;
    let sender = gateway::sender(policy, arguments, request.as_ref())?;
    let assumed = arguments.security.map(level);
    let (request_uri, question) = match &request {
        Some(request) => (
            String::from_utf8_lossy(&request.request_uri()).into_owned(),
            match sender {
                Sender::Gateway(index, _) => RouteQuestion::of(index, request),
                Sender::Um(_) => RouteQuestion::of_um(request),
            },
        ),
        None => spoken(policy, arguments, &sender)?,
    };
    let carrier = arguments.transport.or_else(|| request.as_ref().and_then(via_carrier));
    let (usual_carrier, usual_offer) = match sender {
        Sender::Um(_) => (None, None),
        Sender::Gateway(index, _) => {
            let configured = policy.pool_of(index).map(|pool| pool.encryption);
            let offer = assumed.or(configured).map_or(MediaSecurity::Absent, usual_offer);
            let carrier = policy.ip_gateways.get(index).map(usual_carrier);
            (Some(carrier.unwrap_or(Carrier::Tcp)), Some(Ok(offer)))
        }
    };
    Ok(Asked {
        request_uri,
        question,
        carrier: carrier.or(usual_carrier),
        offer: request.as_ref().map(offer_of).or(usual_offer),
        assumed,
        request,
        sender,
    })
}

fn level(level: Level) -> PoolEncryption {
    match level {
        Level::Require => PoolEncryption::RequireEncryption,
        Level::Support => PoolEncryption::SupportEncryption,
        Level::DoNotSupport => PoolEncryption::DoNotSupportEncryption,
    }
}

/// What a pool of this level offers.
fn usual_offer(level: PoolEncryption) -> MediaSecurity {
    match level {
        PoolEncryption::RequireEncryption => MediaSecurity::Required,
        PoolEncryption::SupportEncryption => MediaSecurity::Optional,
        PoolEncryption::DoNotSupportEncryption => MediaSecurity::None,
    }
}

fn usual_carrier(gateway: &IpGateway) -> Carrier {
    match gateway.address {
        PeerAddress::Fqdn(_) if gateway.pool.is_some() || gateway.port == TLS_PORT => Carrier::Tls,
        PeerAddress::Fqdn(_) | PeerAddress::Ip(_) => Carrier::Tcp,
    }
}

fn via_carrier(request: &Message) -> Option<Carrier> {
    Some(match request.top_via().ok()?.transport()? {
        Transport::Tls => Carrier::Tls,
        Transport::Tcp => Carrier::Tcp,
        Transport::Udp => Carrier::Udp,
    })
}

type Question = (String, Result<RouteQuestion, Refusal>);

fn spoken(policy: &Policy, arguments: &ExplainArgs, sender: &Sender) -> Result<Question, String> {
    let domain = &policy.gateway.sip_domain;
    let address = |option: &str, words: &str| {
        let whole = whole_address(words, domain);
        match NameAddr::parse_list(Bytes::copy_from_slice(whole.as_bytes())) {
            Ok(_) => Ok(whole),
            Err(fault) => Err(format!("{option} {words} is no address: {fault}")),
        }
    };
    let all = |option, list: &[String]| {
        list.iter().map(|words| address(option, words)).collect::<Result<Vec<_>, _>>()
    };
    let one =
        |option, words: Option<&String>| words.map_or(Ok(String::new()), |words| address(option, words));
    let request_uri = whole_address(arguments.to.as_deref().unwrap_or_default(), domain);
    let (from, asserted) =
        (one("--from", arguments.from.as_ref())?, one("--asserted", arguments.asserted.as_ref())?);
    let (diversions, history) =
        (all("--diversion", &arguments.diversion)?, all("--history", &arguments.history)?);
    let words = Spoken {
        request_uri: &request_uri,
        from: &from,
        diversions: &diversions,
        history: &history,
        asserted: &asserted,
    };
    let question = match sender {
        Sender::Gateway(index, _) => RouteQuestion::spoken(*index, &words),
        Sender::Um(_) => RouteQuestion::spoken_by_um(&words),
    };
    Ok((request_uri, question))
}

/// `ken` and `+1425…` become addresses of our domain, `ken@contoso.com` a SIP URI; what has a scheme stays.
fn whole_address(words: &str, domain: &str) -> String {
    let has_scheme =
        ["sip:", "sips:", "tel:"].iter().any(|scheme| words.to_ascii_lowercase().contains(scheme));
    match (has_scheme || words.is_empty() || words.contains(['<', '"']), words.contains('@')) {
        (true, _) => words.to_owned(),
        (false, true) => format!("sip:{words}"),
        (false, false) => format!("sip:{words}@{domain}"),
    }
}

fn read_request(path: &Path) -> Result<Message, String> {
    let shown = path.display();
    let bytes = read(path).map_err(|error| format!("{shown}: {error}"))?;
    let message = Message::parse(Bytes::from(bytes), &Limits::default())
        .map_err(|fault| format!("{shown}: not a SIP message: {fault}"))?;
    match (message.is_request(), message.method()) {
        (true, Method::Invite) => Ok(message),
        (true, method) => Err(format!("{shown}: only an INVITE is routed, this is {method}")),
        (false, _) => Err(format!("{shown}: a response is not routed")),
    }
}

/// A file edited by hand may have lost its CRs; on the wire they are required, here they are put back. The body grows
/// by that, so its length is counted anew.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(REQUEST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > REQUEST_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {REQUEST_BYTES_MAX} bytes")));
    }
    if bytes.windows(2).any(|pair| pair == b"\r\n") {
        return Ok(bytes);
    }
    Ok(restored(&bytes))
}

fn restored(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").map_or(bytes.len(), |at| at + 1);
    let (head, body) = bytes.split_at(end);
    let body = with_crs(body.get(1..).unwrap_or_default());
    let is_length = |line: &[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")
    };
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for line in head.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !is_length(line)) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(&body);
    out
}

fn with_crs(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for byte in bytes {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

fn offer_of(request: &Message) -> Result<MediaSecurity, Refusal> {
    let body = request.body();
    if body.is_empty() {
        return Ok(MediaSecurity::Absent);
    }
    let unusable = |fault: String| {
        Refusal::new(codes::SDP_UNUSABLE, "caller", format!("session description cannot be used: {fault}"))
    };
    let chosen = sdp::choose_body(request.header(HeaderId::ContentType).unwrap_or_default(), &body)
        .map_err(|fault| unusable(fault.to_string()))?;
    let session = sdp::Session::parse(chosen).map_err(|fault| unusable(fault.to_string()))?;
    Ok(match session.audio().map(sdp::Audio::security) {
        Some(sdp::MediaSecurity::Required) => MediaSecurity::Required,
        Some(sdp::MediaSecurity::Optional) => MediaSecurity::Optional,
        Some(sdp::MediaSecurity::None) => MediaSecurity::None,
        Some(sdp::MediaSecurity::Unusable(_)) | None => MediaSecurity::Unusable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_users_and_numbers_belong_to_our_domain() {
        for (words, whole) in [
            ("ken", "sip:ken@contoso.com"),
            ("+14255550100", "sip:+14255550100@contoso.com"),
            ("ken@fabrikam.com", "sip:ken@fabrikam.com"),
            ("SIP:ken@fabrikam.com;opaque=app:voicemail", "SIP:ken@fabrikam.com;opaque=app:voicemail"),
            ("<tel:10001>;reason=no-answer", "<tel:10001>;reason=no-answer"),
        ] {
            assert_eq!(whole_address(words, "contoso.com"), whole);
        }
    }

    #[test]
    fn a_file_without_crs_is_read_as_the_message_it_was() {
        let text = b"INVITE sip:ken@contoso.com SIP/2.0\nVia: SIP/2.0/TCP a.b;branch=z9hG4bKx\nFrom: <sip:a@b>;tag=1\n\
            To: <sip:ken@contoso.com>\nCall-ID: 1\nCSeq: 1 INVITE\nl: 4\n\nv=0\n";
        let message = Message::parse(Bytes::from(restored(text)), &Limits::default()).unwrap();
        assert_eq!(&message.body()[..], b"v=0\r\n");
        assert!(Message::parse(Bytes::from(restored(b"no message")), &Limits::default()).is_err());
        assert!(Message::parse(Bytes::from(restored(b"")), &Limits::default()).is_err());
    }
}
