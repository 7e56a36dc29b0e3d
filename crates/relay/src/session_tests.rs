use super::*;
use crate::key::{MasterKey, Provider, Suite};
use crate::plan::{Direction, LatchRule, LegPlan};
use crate::tests::start;

const INACTIVITY: Duration = Duration::from_secs(30);

fn key(fill: u8) -> KeyParams {
    KeyParams::new(Suite::AesCm128HmacSha1_80, MasterKey::new([fill; 16], [fill; 14]))
}

fn sealed(inbound: u8, outbound: u8) -> Protection {
    Protection::Sealed { inbound: key(inbound), outbound: key(outbound) }
}

fn at(side: Side) -> SocketAddr {
    match side {
        Side::A => ([192, 0, 2, 1], 4000).into(),
        Side::B => ([192, 0, 2, 2], 5000).into(),
    }
}

fn leg(side: Side, protection: Protection) -> LegPlan {
    LegPlan {
        remote_rtp: at(side),
        remote_rtcp: at(side),
        rtcp_mux: false,
        protection,
        direction: Direction::SendRecv,
        latch: LatchRule::default(),
        formats: Vec::new(),
    }
}

fn plan(a: Protection, b: Protection) -> Plan {
    Plan { a: leg(Side::A, a), b: leg(Side::B, b), inactivity: INACTIVITY }
}

fn speech(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend(sequence.to_be_bytes());
    packet.extend(7u32.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x55; 160]);
    packet
}

fn report(kind: u8) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 1, 0, 0, 0, 9];
    packet.extend([0x81, kind, 0, 1, 0, 0, 0, 9]);
    packet
}

fn pass_from(
    session: &mut Session,
    now: Instant,
    side: Side,
    channel: Channel,
    from: SocketAddr,
    bytes: &[u8],
) -> Result<Vec<u8>, Why> {
    let mut buffer = PacketBuffer::new();
    assert!(buffer.fill(bytes));
    match session.handle_packet(now, side, channel, from, &mut buffer) {
        Verdict::Forward { .. } => Ok(buffer.as_slice().to_vec()),
        Verdict::Drop(why) => Err(why),
    }
}

fn pass(session: &mut Session, now: Instant, side: Side, bytes: &[u8]) -> Result<Vec<u8>, Why> {
    pass_from(session, now, side, Channel::Rtp, at(side), bytes)
}

/// A peer's own stack: what side A of it is told in the clear comes out sealed with `says`.
fn stack(says: u8, hears: u8) -> Session {
    Session::new(plan(Protection::Clear, sealed(hears, says)), start()).unwrap()
}

fn facts(session: &mut Session) -> Vec<Fact> {
    std::iter::from_fn(|| session.poll_fact()).collect()
}

#[test]
fn clear_packets_never_pass_a_sealed_leg() {
    let now = start();
    let mut session = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    for sequence in 0..100 {
        assert!(pass(&mut session, now, Side::A, &speech(sequence, 9)).is_err());
    }
    let rtcp = pass_from(&mut session, now, Side::A, Channel::Rtcp, at(Side::A), &report(202));
    assert_eq!(rtcp, Err(Why::NotSealed));
    let long_clear_report = [vec![0x80, 201, 0, 7], vec![0; 28]].concat();
    let rtcp = pass_from(&mut session, now, Side::A, Channel::Rtcp, at(Side::A), &long_clear_report);
    assert_eq!(rtcp, Err(Why::Unauthentic), "its encryption bit is off, and so is its tag");
    assert_eq!(session.stats().b.packets_sent + session.stats().b.rtcp_sent, 0);
    assert_eq!(facts(&mut session), []);
}

#[test]
fn rtcp_of_any_length_is_survived_on_a_sealed_leg() {
    let now = start();
    let mut session = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    for length in 0..64 {
        let mut packet = vec![0xFF; length];
        for (to, from) in packet.iter_mut().zip([0x80, 201]) {
            *to = from;
        }
        for channel in [Channel::Rtp, Channel::Rtcp] {
            assert!(
                pass_from(&mut session, now, Side::A, channel, at(Side::A), &packet).is_err(),
                "{length}"
            );
        }
    }
}

#[test]
fn a_flood_of_forged_sources_leaves_the_true_one_unharmed() {
    let now = start();
    let (mut phone, mut session) =
        (stack(1, 2), Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap());
    let good = |phone: &mut Session, sequence| pass(phone, now, Side::A, &speech(sequence, 9)).unwrap();
    let first = good(&mut phone, 1);
    assert_eq!(pass(&mut session, now, Side::A, &first), Ok(speech(1, 9)));
    for forged in 0..20_000u32 {
        let mut packet = speech(2, forged.wrapping_mul(2_654_435_761));
        packet.extend([0xEE; 10]);
        assert_eq!(pass(&mut session, now, Side::A, &packet), Err(Why::Unauthentic));
    }
    let second = good(&mut phone, 2);
    assert_eq!(pass(&mut session, now, Side::A, &second), Ok(speech(2, 9)));
    assert_eq!(session.stats().a.dropped.of(Why::Unauthentic), 20_000);
    assert_eq!(session.stats().b.packets_sent, 2);
}

#[test]
fn a_peer_with_more_sources_than_allowed_keeps_those_it_has() {
    let now = start();
    let (mut phone, mut session) =
        (stack(1, 2), Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap());
    let limit = crate::gate::SOURCES_MAX as u32;
    for ssrc in 0..=limit {
        let packet = pass(&mut phone, now, Side::A, &speech(1, ssrc)).unwrap();
        let passed = pass(&mut session, now, Side::A, &packet);
        assert_eq!(passed.err(), (ssrc == limit).then_some(Why::TooManySources));
    }
    let packet = pass(&mut phone, now, Side::A, &speech(2, 0)).unwrap();
    assert!(pass(&mut session, now, Side::A, &packet).is_ok());
}

#[test]
fn a_flood_of_sources_from_a_clear_leg_is_bounded() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, sealed(1, 2)), now).unwrap();
    for ssrc in 0..1_000 {
        let _ = pass(&mut session, now, Side::A, &speech(1, ssrc));
    }
    assert_eq!(session.stats().b.packets_sent, 64);
    assert_eq!(session.stats().a.dropped.of(Why::TooManySources), 1_000 - 64);
    assert!(pass(&mut session, now, Side::A, &speech(2, 7)).is_ok(), "who is known goes on");
    session.apply(plan(Protection::Clear, sealed(1, 3)), now).unwrap();
    assert!(pass(&mut session, now, Side::A, &speech(2, 2_000)).is_ok());
}

#[test]
fn a_clear_packet_is_sealed_once_only() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, sealed(1, 2)), now).unwrap();
    assert!(pass(&mut session, now, Side::A, &speech(5, 9)).is_ok());
    assert_eq!(pass(&mut session, now, Side::A, &speech(5, 9)), Err(Why::Replayed));
}

#[test]
fn a_re_key_takes_the_new_key_and_refuses_the_old() {
    let now = start();
    let (mut old, mut new) = (stack(1, 2), stack(3, 4));
    let mut session = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    let packet = pass(&mut old, now, Side::A, &speech(1, 9)).unwrap();
    assert!(pass(&mut session, now, Side::A, &packet).is_ok());
    session.apply(plan(sealed(3, 4), Protection::Clear), now).unwrap();
    let late = pass(&mut old, now, Side::A, &speech(2, 9)).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &late), Err(Why::Unauthentic));
    let fresh = pass(&mut new, now, Side::A, &speech(2, 9)).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &fresh), Ok(speech(2, 9)));
    let back = pass(&mut session, now, Side::B, &speech(1, 8)).unwrap();
    assert_eq!(pass(&mut new, now, Side::B, &back), Ok(speech(1, 8)));
    assert_eq!(session.stats().a.packets_received, 2, "counters go on");
}

#[test]
fn the_same_keys_applied_again_still_know_what_was_replayed() {
    let now = start();
    let mut phone = stack(1, 2);
    let mut session = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    let packet = pass(&mut phone, now, Side::A, &speech(1, 9)).unwrap();
    assert!(pass(&mut session, now, Side::A, &packet).is_ok());
    session.apply(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &packet), Err(Why::Replayed));
}

/// Speech of a source that has gone round the sequence numbers, one packet in 8,000.
fn through_rollovers(phone: &mut Session, session: &mut Session, packets: u64) -> u16 {
    let mut last = 0;
    for number in (0..packets).step_by(8_000) {
        last = number as u16;
        let packet = pass(phone, start(), Side::A, &speech(last, 9)).unwrap();
        assert_eq!(pass(session, start(), Side::A, &packet), Ok(speech(last, 9)), "{number}");
    }
    last
}

#[test]
fn the_same_keys_applied_again_go_on_after_rollovers() {
    let now = start();
    let mut phone = stack(1, 2);
    let mut session = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    let last = through_rollovers(&mut phone, &mut session, 3 << 16);
    session.apply(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    let packet = pass(&mut phone, now, Side::A, &speech(last + 1, 9)).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &packet), Ok(speech(last + 1, 9)));
    assert_eq!(session.progress(Side::A).unwrap().inbound.rtp[0].roc(), 2);
}

#[test]
fn a_re_key_after_rollovers_is_heard_whether_the_counter_begins_anew_or_goes_on() {
    let now = start();
    for goes_on in [false, true] {
        for suite in Suite::ALL {
            let key = |fill: u8| {
                let inline = vec![fill; suite.key_bytes() + suite.salt_bytes()];
                KeyParams::new(suite, MasterKey::from_inline(suite, &inline).unwrap())
            };
            let both =
                |inbound, outbound| Protection::Sealed { inbound: key(inbound), outbound: key(outbound) };
            let mut phone = Session::new(plan(Protection::Clear, both(2, 1)), now).unwrap();
            let mut session = Session::new(plan(both(1, 2), Protection::Clear), now).unwrap();
            let last = through_rollovers(&mut phone, &mut session, 3 << 16);
            // A key that nothing was sent under does not make forget.
            session.apply(plan(both(5, 6), Protection::Clear), now).unwrap();
            session.apply(plan(both(3, 4), Protection::Clear), now).unwrap();
            let before = phone.progress(Side::B).unwrap();
            phone.apply(plan(Protection::Clear, both(4, 3)), now).unwrap();
            if goes_on {
                assert!(phone.resume(Side::B, &before));
            }
            for sequence in [last + 1, last + 2] {
                let packet = pass(&mut phone, now, Side::A, &speech(sequence, 9)).unwrap();
                assert_eq!(pass(&mut session, now, Side::A, &packet), Ok(speech(sequence, 9)), "{suite:?}");
            }
            let roc = session.progress(Side::A).unwrap().inbound.rtp[0].roc();
            assert_eq!(roc, if goes_on { 2 } else { 0 });
            let another = pass(&mut phone, now, Side::A, &speech(5, 10)).unwrap();
            assert_eq!(pass(&mut session, now, Side::A, &another), Ok(speech(5, 10)), "a new source");
        }
    }
}

#[test]
fn what_we_send_begins_anew_with_a_new_key_and_goes_on_with_the_same() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, sealed(1, 2)), now).unwrap();
    for number in (0..3u64 << 16).step_by(8_000) {
        assert!(pass(&mut session, now, Side::A, &speech(number as u16, 9)).is_ok());
    }
    let roc = |session: &Session| session.progress(Side::B).unwrap().outbound.rtp[0].roc();
    assert_eq!(roc(&session), 2);
    session.apply(plan(Protection::Clear, sealed(3, 2)), now).unwrap();
    assert_eq!(roc(&session), 2, "only the peer's key changed");
    session.apply(plan(Protection::Clear, sealed(3, 4)), now).unwrap();
    assert!(pass(&mut session, now, Side::A, &speech(60_000, 9)).is_ok());
    assert_eq!(roc(&session), 0);
}

#[test]
fn an_mki_that_comes_with_the_same_key_seals_nothing_twice() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, sealed(1, 2)), now).unwrap();
    assert!(pass(&mut session, now, Side::A, &speech(5, 9)).is_ok());
    let marked = |provider| {
        let mki = Some(crate::key::Mki::new(&[1; 128]).unwrap());
        let outbound = KeyParams { mki, provider, ..key(2) };
        plan(Protection::Clear, Protection::Sealed { inbound: key(1), outbound })
    };
    session.apply(marked(Provider::InPlace), now).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &speech(5, 9)), Err(Why::Replayed));
    assert_eq!(pass(&mut session, now, Side::A, &speech(6, 9)).unwrap().len(), 172 + 128 + 10);
    assert_eq!(session.apply(marked(Provider::WebrtcSrtp), now), Err(PlanError::UnusableKey));
}

#[test]
fn a_call_goes_on_elsewhere_where_it_stopped() {
    let now = start();
    let mut phone = stack(1, 2);
    let mut here = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    let last = through_rollovers(&mut phone, &mut here, 3 << 16);
    assert!(pass(&mut here, now, Side::B, &speech(7, 8)).is_ok());
    let replayed = pass(&mut phone, now, Side::A, &speech(last + 1, 9)).unwrap();
    assert!(pass(&mut here, now, Side::A, &replayed).is_ok());
    let mut there = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    assert!(there.resume(Side::A, &here.progress(Side::A).unwrap()));
    assert_eq!(pass(&mut there, now, Side::A, &replayed), Err(Why::Replayed));
    let next = pass(&mut phone, now, Side::A, &speech(last + 2, 9)).unwrap();
    assert_eq!(pass(&mut there, now, Side::A, &next), Ok(speech(last + 2, 9)));
    assert_eq!(pass(&mut there, now, Side::B, &speech(7, 8)), Err(Why::Replayed), "never sealed twice");
    assert!(!there.resume(Side::B, &here.progress(Side::A).unwrap()), "a clear side has no keys");
}

#[test]
fn a_key_that_reached_its_lifetime_is_told_once_and_used_no_more() {
    let now = start();
    let limited = |fill: u8| KeyParams { lifetime: 3, ..key(fill) };
    for (is_inbound, mine) in [
        (true, Protection::Sealed { inbound: limited(1), outbound: key(2) }),
        (false, Protection::Sealed { inbound: key(1), outbound: limited(2) }),
    ] {
        let (mut phone, mut session) =
            (stack(1, 2), Session::new(plan(mine, Protection::Clear), now).unwrap());
        for sequence in 1..=6 {
            let passed = if is_inbound {
                let packet = pass(&mut phone, now, Side::A, &speech(sequence, 9)).unwrap();
                pass(&mut session, now, Side::A, &packet)
            } else {
                pass(&mut session, now, Side::B, &speech(sequence, 9))
            };
            assert_eq!(passed.err(), (sequence > 3).then_some(Why::KeyExhausted), "{sequence}");
        }
        let told = |session: &mut Session| facts(session).contains(&Fact::KeyExhausted { side: Side::A });
        assert!(told(&mut session));
        assert!(!told(&mut session));
        session.apply(plan(sealed(3, 4), Protection::Clear), now).unwrap();
        assert!(pass(&mut session, now, Side::B, &speech(7, 9)).is_ok());
    }
}

#[test]
fn an_outbound_key_that_a_peer_gave_is_refused() {
    let now = start();
    let echo = Session::new(plan(sealed(1, 1), Protection::Clear), now);
    assert_eq!(echo.err(), Some(PlanError::EchoedKey { side: Side::A }));
    let passed_on = Session::new(plan(sealed(1, 2), sealed(3, 1)), now);
    assert_eq!(passed_on.err(), Some(PlanError::EchoedKey { side: Side::B }));
}

#[test]
fn injected_packets_do_not_reach_the_other_leg() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, Protection::Clear), now).unwrap();
    let attacker = SocketAddr::from(([192, 0, 2, 66], 4000));
    for sequence in 0..1_000 {
        let verdict = pass_from(&mut session, now, Side::A, Channel::Rtp, attacker, &speech(sequence, 9));
        assert_eq!(verdict, Err(Why::Stranger));
    }
    assert_eq!(session.stats().b.packets_sent, 0);
    assert_eq!(session.stats().a.moves, 0);
}

#[test]
fn a_held_leg_passes_rtcp_and_no_rtp() {
    let now = start();
    let mut held = plan(Protection::Clear, Protection::Clear);
    held.a.direction = Direction::Inactive;
    held.b.direction = Direction::Inactive;
    let mut session = Session::new(held, now).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &speech(1, 9)), Err(Why::OnHold));
    let rtcp = pass_from(&mut session, now, Side::A, Channel::Rtcp, at(Side::A), &report(202));
    assert_eq!(rtcp, Ok(report(202)));
    assert_eq!(session.poll_deadline(), None, "nobody is expected to speak");
}

#[test]
fn rtcp_goodbye_is_a_fact_and_ends_nothing() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, Protection::Clear), now).unwrap();
    for _ in 0..3 {
        let rtcp = pass_from(&mut session, now, Side::B, Channel::Rtcp, at(Side::B), &report(203));
        assert_eq!(rtcp, Ok(report(203)));
    }
    assert_eq!(facts(&mut session), [Fact::RtcpBye { side: Side::B }]);
    assert!(pass(&mut session, now, Side::B, &speech(1, 9)).is_ok());
}

#[test]
fn rtcp_goes_to_the_rtp_port_of_a_leg_that_multiplexes() {
    let now = start();
    let mut mixed = plan(Protection::Clear, Protection::Clear);
    mixed.b.rtcp_mux = true;
    mixed.b.remote_rtcp = ([192, 0, 2, 2], 5001).into();
    let mut session = Session::new(mixed, now).unwrap();
    let mut buffer = PacketBuffer::new();
    buffer.fill(&report(202));
    let verdict = session.handle_packet(now, Side::A, Channel::Rtcp, at(Side::A), &mut buffer);
    assert_eq!(verdict, Verdict::Forward { side: Side::B, channel: Channel::Rtp, to: at(Side::B) });
    buffer.fill(&report(202));
    let verdict = session.handle_packet(now, Side::B, Channel::Rtp, at(Side::B), &mut buffer);
    assert_eq!(verdict, Verdict::Forward { side: Side::A, channel: Channel::Rtcp, to: at(Side::A) });
}

#[test]
fn order_loss_voice_and_round_trip_are_those_of_the_side_behind_the_gate() {
    let now = start();
    let mut session = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
    let mut phone = stack(1, 2);
    for sequence in [10, 12, 11, 14] {
        let mut loud = speech(sequence, 9);
        loud.iter_mut().skip(12).for_each(|octet| *octet = 0x2A);
        let said = pass(&mut phone, now, Side::A, &loud).unwrap();
        assert_eq!(pass(&mut session, now, Side::A, &said), Ok(loud));
    }
    // A sender report from B whose NTP time is 77 in the middle, and its echo from A.
    let sent = [vec![0x80, 200, 0, 6, 0, 0, 0, 5, 0, 0, 0, 0, 0, 77], vec![0; 14]].concat();
    pass_from(&mut session, now, Side::B, Channel::Rtcp, at(Side::B), &sent).unwrap();
    let echo = [vec![0x81, 201, 0, 7, 0, 0, 0, 9], vec![0; 16], vec![0, 0, 0, 77, 0, 0, 0, 0]].concat();
    let later = now + Duration::from_millis(40);
    let echo = pass_from(&mut phone, later, Side::A, Channel::Rtcp, at(Side::A), &echo).unwrap();
    pass_from(&mut session, later, Side::A, Channel::Rtcp, at(Side::A), &echo).unwrap();
    let stats = session.stats();
    assert_eq!((stats.a.reordered, stats.a.lost, stats.a.voice.voiced), (1, 1, 4));
    assert_eq!((stats.a.round_trip, stats.b.round_trip), (Some(Duration::from_millis(40)), None));
}

#[test]
fn a_format_that_was_not_negotiated_is_dropped() {
    let now = start();
    let mut narrow = plan(Protection::Clear, Protection::Clear);
    narrow.a.formats = vec![0, 101];
    let mut session = Session::new(narrow, now).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &speech(1, 9)), Err(Why::UnknownFormat));
    assert!(pass(&mut session, now, Side::B, &speech(1, 9)).is_ok());
}

#[test]
fn a_call_without_any_media_is_told_once() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, Protection::Clear), now).unwrap();
    assert_eq!(session.poll_deadline(), Some(now + INACTIVITY));
    session.handle_timeout(now + INACTIVITY - Duration::from_millis(1));
    assert_eq!(facts(&mut session), []);
    session.handle_timeout(now + INACTIVITY);
    assert_eq!(facts(&mut session), [Fact::NoMedia { lasted: INACTIVITY }]);
    session.handle_timeout(now + INACTIVITY * 2);
    assert_eq!(facts(&mut session), []);
    assert_eq!(session.poll_deadline(), None);
}

#[test]
fn half_a_silence_a_whole_one_and_its_end_are_told() {
    let now = start();
    let mut session = Session::new(plan(Protection::Clear, Protection::Clear), now).unwrap();
    assert!(pass(&mut session, now, Side::A, &speech(1, 9)).is_ok());
    let later = now + Duration::from_secs(29);
    assert!(pass(&mut session, later, Side::B, &speech(1, 8)).is_ok());
    assert_eq!(
        facts(&mut session),
        [Fact::FirstPacket { side: Side::A }, Fact::FirstPacket { side: Side::B }]
    );
    session.handle_timeout(now + INACTIVITY);
    assert_eq!(facts(&mut session), [Fact::HalfSilence { side: Side::A, lasted: INACTIVITY }]);
    session.handle_timeout(later + INACTIVITY);
    let expected =
        [Fact::Silence { side: Side::B, lasted: INACTIVITY }, Fact::NoMedia { lasted: INACTIVITY }];
    assert_eq!(facts(&mut session), expected);
    assert!(pass(&mut session, later + INACTIVITY, Side::A, &speech(2, 9)).is_ok());
    assert_eq!(facts(&mut session), [Fact::Resumed { side: Side::A }]);
    assert_eq!(session.poll_deadline(), Some(later + INACTIVITY * 2));
}

#[test]
fn facts_that_nobody_takes_do_not_pile_up() {
    let mut now = start();
    let mut session = Session::new(plan(Protection::Clear, Protection::Clear), now).unwrap();
    for sequence in 0..1_000 {
        now += INACTIVITY;
        session.handle_timeout(now);
        assert!(pass(&mut session, now, Side::A, &speech(sequence, 9)).is_ok());
    }
    assert_eq!(facts(&mut session).len(), FACTS_MAX);
}

proptest::proptest! {
    #[test]
    fn no_bytes_from_the_wire_panic_or_pass_a_sealed_leg(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        first in proptest::sample::select(vec![0x80u8, 0x90, 0x8F, 0x9F, 0xB0, 0x00]),
    ) {
        let now = start();
        let mut session = Session::new(plan(sealed(1, 2), Protection::Clear), now).unwrap();
        let mut bytes = bytes;
        if let Some(octet) = bytes.first_mut() { *octet = first; }
        for channel in [Channel::Rtp, Channel::Rtcp] {
            let sealed = pass_from(&mut session, now, Side::A, channel, at(Side::A), &bytes);
            proptest::prop_assert!(sealed.is_err());
            let _ = pass_from(&mut session, now, Side::B, channel, at(Side::B), &bytes);
        }
    }
}
