//! What a restless far end writes: responses, offers, answers.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use lab::um::Ports;
use sdp::{CryptoLine, Direction, KeySalt, OfferSpec, Profile, Session, Suite};
use sip::{HeaderId, Message, ServerKey, StatusCode, Transport};

use super::{Restless, SDP};

impl Restless {
    pub(super) fn respond(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: &Message,
        status: u16,
        body: Option<Bytes>,
    ) {
        let Some(status) = StatusCode::new(status) else { return };
        let builder = sip::response_to(request, status, None, Some(&tag_of(request)))
            .header(HeaderId::Contact, self.contact_for(request));
        let content_type = body.is_some().then_some(SDP.as_bytes());
        if let Ok(bytes) = builder.finish(content_type, &body.unwrap_or_default()) {
            // A transaction that is gone needs no answer.
            let _ = self.endpoint.respond(now, key, bytes);
        }
    }

    /// Where it can be reached over the transport this request came on.
    pub(super) fn contact_for(&self, request: &Message) -> String {
        let is_tls = request.top_via().is_ok_and(|via| via.raw().windows(3).any(|word| word == b"TLS"));
        let transport = if is_tls { Transport::Tls } else { Transport::Tcp };
        contact_at(&self.name, self.ports, self.address, transport)
    }

    pub(super) fn offer(&mut self, is_sealed: bool, direction: Direction) -> Bytes {
        let spec = OfferSpec { direction, ..self.spec(is_sealed.then_some((1, Suite::AesCm128HmacSha1_80))) };
        sdp::write_offer(&spec)
    }

    /// An honest answer to the offer in that message; `None` when there is none to be given.
    pub(super) fn answer(&mut self, message: &Message) -> Option<Bytes> {
        let offer = Session::parse(&message.body()).ok()?;
        let audio = offer.audio()?;
        let theirs = audio.crypto.first().map(|line| (line.tag, line.suite));
        let mut spec = self.spec(theirs);
        spec.formats = audio.formats.iter().filter(|f| f.is("PCMU") || f.is_auxiliary()).cloned().collect();
        spec.direction = audio.direction.mirrored();
        sdp::write_answer(&offer, &spec).ok()
    }

    pub(super) fn spec(&mut self, crypto: Option<(u32, Suite)>) -> OfferSpec {
        let port = 10_000 + (self.random.below(10_000) * 2) as u16;
        let mut spec = OfferSpec::new(self.address, port);
        if let Some((tag, suite)) = crypto {
            let mut material = Vec::with_capacity(32);
            while material.len() < suite.key_bytes() + suite.salt_bytes() {
                material.extend_from_slice(&self.random.draw().to_be_bytes());
            }
            material.truncate(suite.key_bytes() + suite.salt_bytes());
            spec.profile = Profile::RtpSavp;
            spec.crypto = KeySalt::from_bytes(suite, &material)
                .map(|key| CryptoLine::new(tag, suite, key))
                .into_iter()
                .collect();
        }
        spec
    }
}

/// A server is found at its name and port; a caller that lost its connection comes back by itself.
pub(super) fn contact_at(name: &str, ports: Ports, address: IpAddr, transport: Transport) -> String {
    let port = if transport.is_secure() { ports.tls } else { ports.tcp };
    match port {
        Some(port) => format!("<sip:far@{name}:{port};transport={}>", transport.as_param()),
        None => format!("<sip:far@{address}:5061>"),
    }
}

/// One tag per dialog, without a table: a gateway that goes from server to server counts its INVITEs.
pub(super) fn tag_of(request: &Message) -> Bytes {
    match request.to_tag() {
        Some(tag) => Bytes::copy_from_slice(tag),
        None => {
            let theirs = text(request.from_tag().unwrap_or_default());
            Bytes::from(format!("far-{}-{theirs}", request.cseq().number))
        }
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
