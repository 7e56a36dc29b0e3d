//! Connectivity checks: a leg that speaks ICE answers who holds its password and nobody else, whatever comes.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use relay::{
    Channel, Direction, Formats, IceCredentials, LatchRule, LegPlan, PACKET_BYTES_MAX, PacketBuffer, Plan,
    Protection, Session, Side, Verdict,
};
use sha1::Sha1;

const NAME: &[u8] = b"Umb8:k2Xp";
const PASSWORD: &str = "p8YtRw2Lk5Vb1Xc4Zq7NdA";
const CANDIDATE: [u8; 32] = [0xA5; 32];
/// Header, address, version, integrity and fingerprint.
const ANSWER_BYTES_MAX: usize = 20 + 24 + 8 + 24 + 8;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A datagram as it is, and the same octets as attributes of a check that proves right.
pub fn stun(input: &[u8]) {
    let forms = [
        IceCredentials::fragments("Umb8", "k2Xp", PASSWORD),
        IceCredentials::candidate(&CANDIDATE, PASSWORD.as_bytes()),
    ];
    for credentials in forms {
        let mut session = session(credentials);
        for channel in [Channel::Rtp, Channel::Rtcp] {
            if let Some(answer) = answer(&mut session, channel, input) {
                assert!(
                    contains(input, NAME) || contains(input, &CANDIDATE),
                    "answered without the name of the leg"
                );
                check(input, &answer);
            }
            let signed = signed(input);
            if let Some(answer) = answer(&mut session, channel, &signed) {
                check(&signed, &answer);
            }
        }
        let drops = session.stats().a.dropped.total() + session.stats().a.checks;
        assert!(drops > 0, "a datagram that is neither counted nor answered");
    }
}

/// What goes back, if anything; it never goes anywhere else.
fn answer(session: &mut Session, channel: Channel, datagram: &[u8]) -> Option<Vec<u8>> {
    let from = SocketAddr::from(([192, 0, 2, 77], 6_000));
    let mut buffer = PacketBuffer::new();
    let is_stun = datagram.first().is_some_and(|first| *first < 4);
    if !buffer.fill(datagram.get(..PACKET_BYTES_MAX).unwrap_or(datagram)) {
        return None;
    }
    match session.handle_packet(*START, Side::A, channel, from, &mut buffer) {
        Verdict::Drop(_) => None,
        Verdict::Forward { .. } if !is_stun => None,
        Verdict::Forward { side, channel: out, to } => {
            assert_eq!((side, out, to), (Side::A, channel, from), "an answer to somebody else");
            Some(buffer.as_slice().to_vec())
        }
    }
}

fn check(request: &[u8], answer: &[u8]) {
    assert!(answer.len() <= ANSWER_BYTES_MAX && answer.len().is_multiple_of(4));
    assert_eq!(answer.get(..2), Some(&[1, 1][..]), "no Binding response");
    assert_eq!(answer.get(4..20), request.get(4..20), "of another transaction");
}

fn signed(attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    bytes.extend([0, 6, 0, NAME.len() as u8]);
    bytes.extend(NAME);
    bytes.extend([0; 3]);
    bytes.extend(attributes.iter().take(1_024 & !3).take(attributes.len() & !3));
    let stated = (bytes.len() + 24 - 20) as u16;
    if let Some(length) = bytes.get_mut(2..4) {
        length.copy_from_slice(&stated.to_be_bytes());
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(PASSWORD.as_bytes()).expect("a key of any length");
    mac.update(&bytes);
    bytes.extend([0, 8, 0, 20]);
    bytes.extend(mac.finalize().into_bytes());
    bytes
}

fn session(ice: Option<IceCredentials>) -> Session {
    let leg = |octet: u8, ice| {
        let remote = SocketAddr::from(([192, 0, 2, octet], 4_000));
        LegPlan {
            remote_rtp: remote,
            remote_rtcp: remote,
            rtcp_mux: false,
            protection: Protection::Clear,
            direction: Direction::SendRecv,
            latch: LatchRule::default(),
            formats: Formats::any(),
            ice,
            events: None,
        }
    };
    let plan = Plan { a: leg(1, ice), b: leg(2, None), inactivity: Duration::ZERO, reports: None };
    Session::new(plan, *START).expect("a plan without keys")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
