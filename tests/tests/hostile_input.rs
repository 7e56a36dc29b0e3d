//! What a peer can send: random bytes, random chunks, mutated sample messages. Nothing panics, nothing that was accepted
//! changes when it is read again. `PROPTEST_CASES` sets how long it looks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use sip::{Frame, Framer, HeaderId, Limits, Message, NameAddr, Uri};

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(read_samples);

fn samples() -> &'static [Vec<u8>] {
    &SAMPLES
}

fn read_samples() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let folders = ["samples", "conformance/rfc4475", "conformance/rfc5118/wire-crlf"];
    let files =
        folders.iter().flat_map(|f| std::fs::read_dir(root.join(f)).unwrap().flatten()).map(|e| e.path());
    let mut files: Vec<_> =
        files.filter(|p| p.extension().is_some_and(|e| e == "sip" || e == "dat")).collect();
    files.sort();
    files.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

/// One change to a message: overwrite, insert, delete, repeat a slice.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Delete(usize, usize),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let spice = prop_oneof![
        any::<Vec<u8>>().prop_map(|mut v| {
            v.truncate(12);
            v
        }),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"\r\nContent-Length: 4294967297\r\n".to_vec()),
        Just(b"\r\nl: -1\r\n".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"<sip:a@[::1]:5060;x=y>".to_vec()),
        Just(b";opaque=app:voicemail".to_vec()),
        Just(b"%00".to_vec()),
        Just(b"\r\n\t".to_vec()),
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, b)| Mutation::Set(at, b)),
        (any::<usize>(), spice).prop_map(|(at, b)| Mutation::Insert(at, b)),
        (any::<usize>(), 1usize..64).prop_map(|(at, n)| Mutation::Delete(at, n)),
        (any::<usize>(), 1usize..256).prop_map(|(at, n)| Mutation::Repeat(at, n)),
    ]
}

fn apply(mut bytes: Vec<u8>, changes: &[Mutation]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match change {
            Mutation::Set(at, b) => bytes[at % len] = *b,
            Mutation::Insert(at, more) => {
                let at = at % len;
                bytes.splice(at..at, more.iter().copied());
            }
            Mutation::Delete(at, n) => {
                let at = at % len;
                bytes.drain(at..(at + n).min(len));
            }
            Mutation::Repeat(at, n) => {
                let at = at % len;
                let slice = bytes[at..(at + n).min(len)].to_vec();
                bytes.splice(at..at, slice);
            }
        }
    }
    bytes
}

/// Reads everything that can be read of a message.
fn read_all(message: &Message) -> usize {
    let mut seen = message.headers().map(|h| h.value().len() + h.name.len()).sum::<usize>();
    seen += message.request_uri().len() + message.body().len() + message.reason().len();
    seen += usize::from(message.top_via().is_ok())
        + usize::from(message.from().is_ok())
        + usize::from(message.to().is_ok());
    seen += message.contacts().map_or(0, |c| c.len());
    seen += Uri::parse(message.request_uri()).map_or(0, |u| u.params().count());
    if let Some(content_type) = message.header(HeaderId::ContentType) {
        let body = message.body();
        if let Ok(part) = sdp::choose_body(content_type, &body) {
            seen += sdp::Session::parse(part).map_or(0, |s| s.media().len());
        }
    }
    seen
}

proptest! {
    #[test]
    fn mutated_messages_are_read_or_refused_and_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(mutation(), 0..8),
    ) {
        let all = samples();
        let bytes = apply(which.get(all).clone(), &changes);
        if let Ok(message) = Message::parse(Bytes::from(bytes.clone()), &Limits::default()) {
            read_all(&message);
            let again = Message::parse(message.bytes().clone(), &Limits::default());
            prop_assert!(again.is_ok(), "what was accepted once is accepted again");
        }
    }

    #[test]
    fn chunking_never_changes_what_a_stream_holds(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        changes in prop::collection::vec(mutation(), 0..3),
        cuts in prop::collection::vec(1usize..700, 1..40),
    ) {
        let all = samples();
        let stream: Vec<u8> = picks.iter().flat_map(|p| p.get(all).clone()).collect();
        let stream = apply(stream, &changes);
        let whole = frames_of(std::iter::once(stream.as_slice()));
        let mut rest = stream.as_slice();
        let mut chunks = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        prop_assert_eq!(frames_of(chunks.into_iter()), whole);
    }

    #[test]
    fn random_bytes_are_no_uri_name_or_session_that_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let shared = Bytes::from(bytes.clone());
        let _ = Uri::parse(shared.clone()).map(|u| (u.port(), u.params().count(), u.transport()));
        let _ = NameAddr::parse_list(shared.clone()).map(|l| l.len());
        let _ = sdp::Session::parse(&bytes);
        let _ = sdp::choose_body(b"multipart/alternative;boundary=x", &bytes);
        let _ = Message::parse(shared, &Limits::default());
    }
}

/// Messages cut out of a stream, and whether framing was lost at the end.
fn frames_of<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let mut framer = Framer::new(Limits::default());
    let mut messages = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        loop {
            match framer.poll() {
                Ok(Some(Frame::Message(bytes))) => messages.push(bytes),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}
