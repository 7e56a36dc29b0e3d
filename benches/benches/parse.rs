//! Cost of reading messages: one framed INVITE as a Skype for Business pool sends it, typed headers, its session
//! description, and the same bytes through stream framing.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use sip::{Framer, Limits, Message};

const INVITE: &[u8] = include_bytes!("../../tests/data/samples/02-lync2015-call-answering.sip");

fn parse(c: &mut Criterion) {
    let bytes = Bytes::from_static(INVITE);
    let limits = Limits::default();
    c.bench_function("message parse, 2.4 kB INVITE", |b| {
        b.iter(|| Message::parse(black_box(bytes.clone()), &limits).is_ok());
    });
    c.bench_function("message parse and typed headers", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(bytes.clone()), &limits);
            message.is_ok_and(|m| {
                m.top_via().is_ok() && m.from().is_ok() && m.to().is_ok() && m.contacts().is_ok()
            })
        });
    });
    c.bench_function("stream framing, 1400-byte chunks", |b| {
        b.iter(|| {
            let mut framer = Framer::new(Limits::default());
            for chunk in INVITE.chunks(1400) {
                framer.push(black_box(chunk));
            }
            framer.poll().is_ok_and(|frame| frame.is_some())
        });
    });
    let message = Message::parse(bytes, &limits);
    let body = message.map(|m| m.body()).unwrap_or_default();
    c.bench_function("session description parse", |b| {
        b.iter(|| sdp::Session::parse(black_box(&body)).is_ok())
    });
}

criterion_group!(benches, parse);
criterion_main!(benches);
