//! Single messages: framing, indexing, typed headers, printing, session descriptions.

use std::hint::black_box;
use std::net::IpAddr;

use bytes::Bytes;
use sdp::{Anchor, CodecPolicy, OfferMedia, OriginSeed, Session};
use sip::{Builder, Framer, HeaderId, Limits, Message, Method, StatusCode};

use crate::Work;

/// 2.5 kB as a Skype for Business pool sends it.
pub(crate) const INVITE: &[u8] = include_bytes!("../../tests/data/samples/02-lync2015-call-answering.sip");
/// Repetitions inside one run: a single one is too short for a clock.
const PER_RUN: usize = 100;
/// What one read of a socket brings.
const CHUNK: usize = 1400;

fn work(name: &'static str, mut once: impl FnMut() -> usize + 'static) -> Work {
    let run = move || (0..PER_RUN).map(|_| once()).sum();
    Work { name, per_run: PER_RUN, run: Box::new(run) }
}

fn message() -> Option<Message> {
    Message::parse(Bytes::from_static(INVITE), &Limits::default()).ok()
}

/// One INVITE in two reads.
pub(crate) fn frame() -> Work {
    let mut framer = Framer::new(Limits::default());
    work("frame", move || {
        INVITE.chunks(CHUNK).for_each(|chunk| framer.push(black_box(chunk)));
        framer.poll().map_or(0, |frame| usize::from(frame.is_some()))
    })
}

pub(crate) fn parse() -> Work {
    let limits = Limits::default();
    work("parse", move || {
        let message = Message::parse(Bytes::from_static(black_box(INVITE)), &limits);
        message.map_or(0, |message| message.call_id().len())
    })
}

/// What the gateway types of every INVITE.
pub(crate) fn typed() -> Work {
    let message = message();
    work("typed headers", move || {
        let Some(message) = &message else { return 0 };
        let contacts = message.contacts().map_or(0, |contacts| contacts.len());
        contacts
            + usize::from(message.top_via().is_ok())
            + usize::from(message.from().is_ok())
            + usize::from(message.to().is_ok())
    })
}

/// An INVITE header by header, and a response to one.
pub(crate) fn print() -> Work {
    let message = message();
    let body = message.as_ref().map(Message::body).unwrap_or_default();
    work("print", move || {
        let Some(message) = &message else { return 0 };
        let mut builder = Builder::request(&Method::Invite, b"sip:ken@contoso.com");
        for header in message.headers() {
            if !matches!(header.id, HeaderId::ContentLength | HeaderId::ContentType) {
                builder = builder.raw_header(header.name, header.raw);
            }
        }
        let request = builder.finish(Some(b"application/sdp"), &body).map_or(0, |bytes| bytes.len());
        let response = sip::response_to(message, StatusCode::OK, None, Some(b"0123456789abcdef"));
        request + response.finish(Some(b"application/sdp"), &body).map_or(0, |bytes| bytes.len())
    })
}

pub(crate) fn sdp_parse() -> Work {
    let body = message().map(|message| message.body()).unwrap_or_default();
    work("sdp parse", move || Session::parse(black_box(&body)).map_or(0, |session| session.media().len()))
}

/// A parsed offer becomes ours for the other leg.
pub(crate) fn sdp_relay() -> Work {
    let body = message().map(|message| message.body()).unwrap_or_default();
    let offer = Session::parse(&body).ok();
    let anchor = Anchor {
        address: IpAddr::from([10, 0, 0, 1]),
        rtp_port: 20000,
        rtcp_port: 20001,
        rtcp_mux: false,
        ice: sdp::IceLines::Silent,
    };
    let names = ["PCMU", "PCMA"].map(str::to_owned);
    let origin = OriginSeed { session_id: 7, version: 1 };
    work("sdp relay", move || {
        let Some(offer) = &offer else { return 0 };
        let made = sdp::relay_offer(
            offer,
            None,
            &[],
            &anchor,
            CodecPolicy { names: &names },
            &OfferMedia::Clear,
            &origin,
        );
        made.map_or(0, |(bytes, _)| bytes.len())
    })
}
