//! What a peer can send: random bytes, random chunks, mutated sample messages and packets. Nothing panics, nothing that was accepted
//! changes when it is read again. `PROPTEST_CASES` sets how long it looks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use umbra_tests::targets;

/// Runs of packets that a relay session is fed.
static PACKETS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/unprotect");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
});

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

proptest! {
    #[test]
    fn mutated_messages_are_read_or_refused_and_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(mutation(), 0..8),
    ) {
        targets::message(&apply(which.get(samples()).clone(), &changes));
    }

    #[test]
    fn chunking_never_changes_what_a_stream_holds(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        changes in prop::collection::vec(mutation(), 0..3),
        cuts in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        let stream: Vec<u8> = picks.iter().flat_map(|p| p.get(samples()).clone()).collect();
        let mut input = vec![cuts.len() as u8];
        input.extend(cuts);
        input.extend(apply(stream, &changes));
        targets::stream(&input);
    }

    #[test]
    fn mutated_packets_are_dropped_or_relayed_as_they_are_protected(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(mutation(), 0..8),
    ) {
        targets::unprotect(&apply(which.get(&PACKETS).clone(), &changes));
    }

    #[test]
    fn random_bytes_break_no_promise_of_any_parser(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for target in [targets::message, targets::uri, targets::headers, targets::sdp, targets::multipart, targets::crypto, targets::unprotect] {
            target(&bytes);
        }
    }
}
