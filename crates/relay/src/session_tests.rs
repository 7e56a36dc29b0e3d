use super::*;
use crate::formats::Formats;
use crate::key::{MasterKey, Provider, Suite};
use crate::plan::{Direction, LegPlan, Reports};
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
    LegPlan::at(at(side), protection)
}

fn plan(a: Protection, b: Protection) -> Plan {
    Plan { a: leg(Side::A, a), b: leg(Side::B, b), inactivity: INACTIVITY, reports: None }
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
    narrow.a.formats = Formats::same([0, 101]);
    let mut session = Session::new(narrow, now).unwrap();
    assert_eq!(pass(&mut session, now, Side::A, &speech(1, 9)), Err(Why::UnknownFormat));
    assert!(pass(&mut session, now, Side::B, &speech(1, 9)).is_ok());
}

/// The speech of 172 octets as another payload type, marked.
fn marked(sequence: u16, payload_type: u8) -> Vec<u8> {
    let mut packet = speech(sequence, 9);
    packet[1] = 0x80 | payload_type;
    packet
}

#[test]
fn each_leg_hears_its_own_numbers_in_either_protection() {
    for (a, b) in [
        (Protection::Clear, Protection::Clear),
        (sealed(1, 2), Protection::Clear),
        (Protection::Clear, sealed(1, 2)),
        (sealed(1, 2), sealed(3, 4)),
    ] {
        let now = start();
        let mut both = plan(a.clone(), b.clone());
        (both.a.formats, both.b.formats) = (Formats::same([8]), Formats::same([8]));
        both.a.formats.pass(101, 96);
        both.b.formats.pass(101, 118);
        both.a.formats.keep(13);
        let mut session = Session::new(both, now).unwrap();
        // What stands behind each leg.
        let far = |protection: &Protection| {
            let Protection::Sealed { inbound, outbound } = protection.clone() else {
                return Session::new(plan(Protection::Clear, Protection::Clear), now).unwrap();
            };
            let mirrored = Protection::Sealed { inbound: outbound, outbound: inbound };
            Session::new(plan(Protection::Clear, mirrored), now).unwrap()
        };
        let (mut caller, mut callee) = (far(&a), far(&b));
        let said = pass(&mut caller, now, Side::A, &marked(1, 101)).unwrap();
        let crossed = pass(&mut session, now, Side::A, &said).unwrap();
        assert_eq!(pass(&mut callee, now, Side::B, &crossed), Ok(marked(1, 96)));
        let said = pass(&mut callee, now, Side::A, &marked(1, 101)).unwrap();
        let crossed = pass(&mut session, now, Side::B, &said).unwrap();
        assert_eq!(pass(&mut caller, now, Side::B, &crossed), Ok(marked(1, 118)));
        for (sequence, payload_type, why) in [(2, 13, Why::UnsharedFormat), (3, 96, Why::UnknownFormat)] {
            let said = pass(&mut caller, now, Side::A, &marked(sequence, payload_type)).unwrap();
            assert_eq!(pass(&mut session, now, Side::A, &said), Err(why));
        }
        let stats = session.stats();
        assert_eq!((stats.a.packets_received, stats.b.packets_sent), (2, 1), "comfort noise was heard");
        assert_eq!(stats.a.dropped.of(Why::UnsharedFormat), 1);
    }
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

/// A plan that makes RTCP.
fn reporting(a: Protection, b: Protection) -> Plan {
    let reports = Reports { name: *b"Man is distr", seed: 5, clock_hz: 8_000 };
    Plan { reports: Some(reports), ..plan(a, b) }
}

/// What the session says by itself until `end`.
fn said_until(session: &mut Session, now: &mut Instant, end: Instant) -> Vec<(Side, Vec<u8>)> {
    let mut said = Vec::new();
    let mut packet = PacketBuffer::new();
    while let Some(due) = session.poll_deadline().filter(|due| *due <= end) {
        *now = due;
        session.handle_timeout(due);
        while let Some((side, channel, to)) = session.poll_packet(due, &mut packet) {
            assert_eq!((channel, to), (Channel::Rtcp, at(side)));
            said.push((side, packet.as_slice().to_vec()));
        }
    }
    *now = end;
    said
}

#[test]
fn a_side_that_gets_no_rtcp_of_the_other_is_told_by_us_under_its_own_protection() {
    let mut now = start();
    let begin = now;
    let mut session = Session::new(reporting(sealed(1, 2), Protection::Clear), now).unwrap();
    let mut phone = stack(1, 2);
    assert!(pass(&mut session, now, Side::B, &speech(1, 8)).is_ok());
    let said = said_until(&mut session, &mut now, begin + Duration::from_secs(29));
    let (to_a, to_b): (Vec<_>, Vec<_>) = said.into_iter().partition(|(side, _)| *side == Side::A);
    assert!((4..=11).contains(&to_a.len()) && (4..=11).contains(&to_b.len()));
    for (_, sealed) in &to_a {
        let clear = pass_from(&mut phone, now, Side::B, Channel::Rtcp, at(Side::B), sealed).unwrap();
        assert!(clear.ends_with(b"\x01\x10TWFuIGlzIGRpc3Ry\0\0"), "{clear:02x?}");
    }
    assert_eq!(to_b[0].1[1], 201);
    let stats = session.stats();
    assert_eq!((stats.a.rtcp_made, stats.a.rtcp_sent), (to_a.len() as u64, 0));
    // What we say is no sign of life of anybody.
    said_until(&mut session, &mut now, begin + INACTIVITY + Duration::from_secs(1));
    assert!(facts(&mut session).contains(&Fact::NoMedia { lasted: INACTIVITY }));
}

#[test]
fn our_own_sender_reports_measure_the_way_to_a_peer_that_answers_them() {
    let mut now = start();
    let begin = now;
    let mut session = Session::new(reporting(Protection::Clear, Protection::Clear), now).unwrap();
    let mut report = None;
    for sequence in 0..900u16 {
        let end = begin + Duration::from_millis(20) * u32::from(sequence);
        let said = said_until(&mut session, &mut now, end);
        let is_sender = |(side, packet): &(Side, Vec<u8>)| *side == Side::A && packet[1] == 200;
        report = said.into_iter().find(is_sender).map(|(_, packet)| (packet, now)).or(report);
        assert!(pass(&mut session, now, Side::B, &speech(sequence, 8)).is_ok());
    }
    let (packet, sent) = report.unwrap();
    assert_eq!(packet[4..8], 8u32.to_be_bytes(), "of the stream that A is sent");
    let answered = [&[0x81, 201, 0, 7, 0, 0, 0, 9][..], &[0; 16], &packet[10..14], &[0, 1, 0, 0]].concat();
    let later = sent + Duration::from_millis(1_025);
    pass_from(&mut session, later, Side::A, Channel::Rtcp, at(Side::A), &answered).unwrap();
    assert!(session.stats().a.round_trip.unwrap() < Duration::from_millis(50));
    assert!(session.stats().a.round_trip.unwrap() >= Duration::from_millis(25));
}

#[test]
fn reports_go_on_while_a_call_is_held_and_end_with_the_plan_that_wants_none() {
    let mut now = start();
    let begin = now;
    let mut held = reporting(Protection::Clear, Protection::Clear);
    (held.a.direction, held.b.direction) = (Direction::Inactive, Direction::Inactive);
    // RFC 3264 §8.4: who holds the old way has no place for RTCP either.
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 4000));
    (held.b.remote_rtp, held.b.remote_rtcp) = (nowhere, nowhere);
    let mut session = Session::new(held, now).unwrap();
    let said = said_until(&mut session, &mut now, begin + Duration::from_secs(60));
    assert!(said.len() >= 8 && said.iter().all(|(side, packet)| *side == Side::A && packet[1] == 201));
    session.apply(plan(Protection::Clear, Protection::Clear), now).unwrap();
    let said = said_until(&mut session, &mut now, begin + Duration::from_secs(90));
    assert_eq!(said, []);
}

#[test]
fn rfc_3264_section_8_4_a_hold_stops_rtp_one_way_and_nothing_else_and_ends_again() {
    let mut now = start();
    let begin = now;
    let mut session = Session::new(reporting(Protection::Clear, Protection::Clear), now).unwrap();
    for side in [Side::A, Side::B] {
        assert!(pass(&mut session, now, side, &speech(1, side as u32)).is_ok());
    }
    // A holds B and plays music to it.
    let mut held = reporting(Protection::Clear, Protection::Clear);
    (held.a.direction, held.b.direction) = (Direction::RecvOnly, Direction::SendOnly);
    session.apply(held, now).unwrap();
    facts(&mut session);
    let mut said = Vec::new();
    for second in 1..=60u16 {
        said.extend(said_until(&mut session, &mut now, begin + Duration::from_secs(second.into())));
        assert!(pass(&mut session, now, Side::A, &speech(1 + second, 0)).is_ok());
        assert_eq!(pass(&mut session, now, Side::B, &speech(1 + second, 1)), Err(Why::OnHold));
    }
    assert_eq!(facts(&mut session), [], "who is held may be silent");
    let told = |side: Side| said.iter().filter(|(to, _)| *to == side).count();
    assert!(told(Side::A) >= 8 && told(Side::B) >= 8, "{} {}", told(Side::A), told(Side::B));
    let rtcp = pass_from(&mut session, now, Side::B, Channel::Rtcp, at(Side::B), &report(202));
    assert_eq!(rtcp, Ok(report(202)));
    // Music ends, and the one who holds is missed.
    said_until(&mut session, &mut now, begin + Duration::from_secs(95));
    let silent = facts(&mut session);
    assert!(silent.contains(&Fact::Silence { side: Side::A, lasted: INACTIVITY }), "{silent:?}");
    assert!(!silent.iter().any(|fact| matches!(fact, Fact::HalfSilence { side: Side::B, .. })), "{silent:?}");
    session.apply(reporting(Protection::Clear, Protection::Clear), now).unwrap();
    for side in [Side::A, Side::B] {
        assert!(pass(&mut session, now, side, &speech(99, side as u32)).is_ok());
    }
    assert!(!session.stats().audio().to_string().contains("hold"), "both were to be heard");
    said_until(&mut session, &mut now, begin + Duration::from_secs(130));
    assert!(facts(&mut session).contains(&Fact::NoMedia { lasted: INACTIVITY }), "both are missed again");
}

#[test]
fn who_was_held_from_the_beginning_is_not_blamed_for_silence() {
    let now = start();
    let mut held = plan(Protection::Clear, Protection::Clear);
    (held.a.direction, held.b.direction) = (Direction::RecvOnly, Direction::SendOnly);
    let mut session = Session::new(held, now).unwrap();
    let mut loud = speech(1, 9);
    loud.iter_mut().skip(12).for_each(|octet| *octet = 0x2A);
    assert!(pass(&mut session, now, Side::A, &loud).is_ok());
    let sentence = "the speech of A was passed on, B was on hold";
    assert_eq!(session.stats().audio().to_string(), sentence);
    assert_eq!(pass(&mut session, now, Side::B, &loud), Err(Why::OnHold));
    assert_eq!(session.stats().audio().to_string(), sentence);
    session.apply(plan(Protection::Clear, Protection::Clear), now).unwrap();
    assert!(!session.stats().b.only_held);
}

/// Source and sequence number.
fn heads(packet: &[u8]) -> (u32, u16) {
    (u32::from_be_bytes(packet[8..12].try_into().unwrap()), u16::from_be_bytes([packet[2], packet[3]]))
}

/// Packets as they come out of the far ends' stacks.
struct Talk {
    session: Session,
    ends: [Session; 2],
    now: Instant,
    sequence: u16,
    heard: [Vec<(u32, u16)>; 2],
}

impl Talk {
    fn new(both: Plan) -> Self {
        let now = start();
        let ends = [Side::A, Side::B].map(|side| Session::new(Self::stack(&both, side), now).unwrap());
        let session = Session::new(both, now).unwrap();
        Talk { session, ends, now, sequence: 65_500, heard: Default::default() }
    }

    /// The far end behind a side: clear inside, on our wire what the plan says.
    fn stack(both: &Plan, side: Side) -> Plan {
        let mirrored = match both.leg(side).protection.clone() {
            Protection::Clear => Protection::Clear,
            Protection::Sealed { inbound, outbound } => {
                Protection::Sealed { inbound: outbound, outbound: inbound }
            }
        };
        plan(Protection::Clear, mirrored)
    }

    fn negotiate(&mut self, both: Plan) {
        for (end, side) in self.ends.iter_mut().zip([Side::A, Side::B]) {
            end.apply(Self::stack(&both, side), self.now).unwrap();
        }
        self.session.apply(both, self.now).unwrap();
    }

    /// Ten packets each way, from where each far end is now.
    fn talk(&mut self, ssrc: [u32; 2], from: [SocketAddr; 2]) {
        for _ in 0..10 {
            self.sequence = self.sequence.wrapping_add(1);
            self.now += Duration::from_millis(20);
            for side in [Side::A, Side::B] {
                let (near, far) = (side as usize, !side as usize);
                let said = pass(&mut self.ends[near], self.now, Side::A, &speech(self.sequence, ssrc[near]));
                let sealed = said.unwrap();
                let crossed =
                    pass_from(&mut self.session, self.now, side, Channel::Rtp, from[near], &sealed).unwrap();
                let opened = pass(&mut self.ends[far], self.now, Side::B, &crossed).unwrap();
                self.heard[far].push(heads(&opened));
            }
        }
    }
}

#[test]
fn what_one_side_negotiates_anew_does_not_show_in_the_stream_of_the_other() {
    let places = [at(Side::A), at(Side::B)];
    let moved: [SocketAddr; 2] = [([192, 0, 2, 1], 4100).into(), ([192, 0, 2, 2], 5100).into()];
    let keyed = |a: [u8; 2], b: [u8; 2]| reporting(sealed(a[0], a[1]), sealed(b[0], b[1]));
    let mut talk = Talk::new(keyed([1, 2], [3, 4]));
    talk.talk([7, 8], places);
    // A refresh, a key of A's, keys of both on leg A, keys of leg B.
    let steps = [([1, 2], [3, 4]), ([5, 2], [3, 4]), ([6, 9], [3, 4]), ([6, 9], [10, 11])];
    for (a, b) in steps {
        talk.negotiate(keyed(a, b));
        talk.talk([7, 8], places);
    }
    // Another address by description, then one that is found.
    let mut elsewhere = keyed([6, 9], [10, 11]);
    (elsewhere.a.remote_rtp, elsewhere.a.remote_rtcp) = (moved[0], moved[0]);
    talk.negotiate(elsewhere.clone());
    talk.talk([7, 8], [moved[0], places[1]]);
    talk.talk([7, 8], moved);
    for (side, ssrc) in [(0, 8), (1, 7)] {
        let expected: Vec<_> = (1..=70u16).map(|count| (ssrc, 65_500u16.wrapping_add(count))).collect();
        assert_eq!(talk.heard[side], expected, "side {side}");
    }
    let stats = talk.session.stats();
    assert_eq!((stats.a.lost, stats.b.lost, stats.a.packets_received), (0, 0, 70));
    assert_eq!(stats.b.moves, 1);
    // One stream is described, with all that was sent of it.
    talk.now += Duration::from_secs(8);
    let mut packet = PacketBuffer::new();
    while let Some((side, ..)) = talk.session.poll_packet(talk.now, &mut packet) {
        let opened = pass(&mut talk.ends[side as usize], talk.now, Side::B, packet.as_slice()).unwrap();
        let expected = [if side == Side::A { 8 } else { 7 }, 70, 70 * 160].map(u32::to_be_bytes);
        assert_eq!(
            (opened[1], &opened[4..8], &opened[20..28]),
            (200, &expected[0][..], &expected[1..].concat()[..])
        );
    }
    assert_eq!((talk.session.stats().a.rtcp_made, talk.session.stats().b.rtcp_made), (1, 1));
}

#[test]
fn who_takes_a_side_over_is_a_source_of_its_own() {
    let places = [at(Side::A), at(Side::B)];
    let mut talk = Talk::new(reporting(sealed(1, 2), sealed(3, 4)));
    talk.talk([7, 8], places);
    // Somebody else on leg A: every key of ours is fresh, and so is the stack behind it.
    let mut both = reporting(sealed(5, 6), sealed(3, 9));
    both.a.remote_rtp = ([192, 0, 2, 3], 4000).into();
    both.a.remote_rtcp = ([192, 0, 2, 3], 4001).into();
    talk.ends[0] = Session::new(Talk::stack(&both, Side::A), talk.now).unwrap();
    talk.negotiate(both);
    talk.sequence = 100;
    let newcomer = ([192, 0, 2, 3], 4000).into();
    talk.talk([70, 8], [newcomer, places[1]]);
    let of = |ssrc: u32| talk.heard[1].iter().filter(|(source, _)| *source == ssrc).count();
    assert_eq!((of(7), of(70)), (10, 10));
    assert_eq!(talk.session.stats().a.lost, 0, "a new source is no loss of the old one's packets");
    // Whoever was there before is a stranger now, and its key opens nothing.
    let mut before = stack(1, 2);
    let late = pass(&mut before, talk.now, Side::A, &speech(500, 7)).unwrap();
    let late = pass_from(&mut talk.session, talk.now, Side::A, Channel::Rtp, places[0], &late);
    assert_eq!(late, Err(Why::Unauthentic));
    talk.now += Duration::from_secs(8);
    let mut packet = PacketBuffer::new();
    let mut described = Vec::new();
    while let Some((side, ..)) = talk.session.poll_packet(talk.now, &mut packet) {
        let opened = pass(&mut talk.ends[side as usize], talk.now, Side::B, packet.as_slice()).unwrap();
        let word = |at: usize| u32::from_be_bytes(opened[at..at + 4].try_into().unwrap());
        // Of whom, how many packets, and what came of whom.
        described.push((side, word(4), word(20), word(28)));
    }
    assert_eq!(described, [(Side::A, 8, 20, 70), (Side::B, 70, 10, 8)]);
}

#[test]
fn a_muxed_leg_is_reported_to_on_its_one_port_and_heard_on_both() {
    let now = start();
    let mut mixed = reporting(Protection::Clear, Protection::Clear);
    mixed.b.rtcp_mux = true;
    mixed.b.remote_rtcp = ([192, 0, 2, 2], 5001).into();
    let mut session = Session::new(mixed, now).unwrap();
    let mut packet = PacketBuffer::new();
    let due = now + Duration::from_secs(10);
    let sent: Vec<_> = std::iter::from_fn(|| session.poll_packet(due, &mut packet)).collect();
    assert_eq!(sent, [(Side::A, Channel::Rtcp, at(Side::A)), (Side::B, Channel::Rtp, at(Side::B))]);
    // A peer that does not do as it said, and one that does.
    let apart = ([192, 0, 2, 2], 5001).into();
    for (channel, from) in [(Channel::Rtcp, apart), (Channel::Rtp, at(Side::B))] {
        let heard = pass_from(&mut session, now, Side::B, channel, from, &report(202));
        assert_eq!(heard, Ok(report(202)));
    }
    assert!(pass(&mut session, now, Side::B, &speech(1, 8)).is_ok());
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

/// A plan whose caller speaks ICE, and a check of its.
fn with_checks() -> (Session, Vec<u8>) {
    use crate::ice::{IceCredentials, tests as ice};
    let mut plan = plan(Protection::Clear, Protection::Clear);
    plan.a.ice = IceCredentials::fragments("Umb8", "k2Xp", ice::KEY);
    let check = ice::check(b"Umb8:k2Xp", ice::KEY.as_bytes(), crate::stun::Integrity::Exact, true);
    (Session::new(plan, start()).unwrap(), check)
}

fn verdict(session: &mut Session, side: Side, from: SocketAddr, bytes: &[u8]) -> Verdict {
    let mut buffer = PacketBuffer::new();
    assert!(buffer.fill(bytes));
    session.handle_packet(start(), side, Channel::Rtp, from, &mut buffer)
}

#[test]
fn a_right_check_is_answered_to_its_sender_through_the_port_it_came_in_on() {
    let (mut session, check) = with_checks();
    let from = SocketAddr::from(([192, 0, 2, 77], 6000));
    let answered = verdict(&mut session, Side::A, from, &check);
    assert_eq!(answered, Verdict::Forward { side: Side::A, channel: Channel::Rtp, to: from });
    assert_eq!((session.stats().a.checks, session.stats().b.packets_sent), (1, 0));
    let heard = pass_from(&mut session, start(), Side::A, Channel::Rtp, from, &speech(1, 9));
    assert!(heard.is_ok(), "media from a proven address is taken");
    assert_eq!(facts(&mut session).len(), 2, "it is followed there, and its first packet is told");
}

#[test]
fn a_check_of_the_other_leg_or_of_nobody_gets_nothing_and_moves_nobody() {
    let (mut session, check) = with_checks();
    let from = SocketAddr::from(([192, 0, 2, 77], 6000));
    assert_eq!(verdict(&mut session, Side::B, from, &check), Verdict::Drop(Why::StunRefused));
    let mut forged = check.clone();
    forged[24] ^= 1;
    assert_eq!(verdict(&mut session, Side::A, from, &forged), Verdict::Drop(Why::StunRefused));
    for first in 0..4 {
        let stun = [&[first, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[0; 12]].concat();
        assert_eq!(verdict(&mut session, Side::A, from, &stun), Verdict::Drop(Why::StunRefused));
    }
    assert_eq!(session.stats().a.dropped.of(Why::StunRefused), 5);
    let stranger = pass_from(&mut session, start(), Side::A, Channel::Rtp, from, &speech(1, 9));
    assert_eq!(stranger, Err(Why::Stranger));
}

#[test]
fn a_nomination_moves_a_sealed_leg_like_any_authentic_packet_does() {
    use crate::ice::{IceCredentials, tests as ice};
    let mut plan = plan(sealed(1, 2), Protection::Clear);
    plan.a.ice = IceCredentials::fragments("Umb8", "k2Xp", ice::KEY);
    let mut session = Session::new(plan, start()).unwrap();
    let exact = crate::stun::Integrity::Exact;
    let asked = ice::check(b"Umb8:k2Xp", ice::KEY.as_bytes(), exact, true);
    let nominated = ice::check_with(&[0, 0x25, 0, 0], b"Umb8:k2Xp", ice::KEY.as_bytes(), exact, true);
    let from = SocketAddr::from(([192, 0, 2, 77], 6000));
    let toward_a = |session: &mut Session, sequence| {
        let mut buffer = PacketBuffer::new();
        assert!(buffer.fill(&speech(sequence, 9)));
        match session.handle_packet(start(), Side::B, Channel::Rtp, at(Side::B), &mut buffer) {
            Verdict::Forward { to, .. } => to,
            Verdict::Drop(why) => panic!("{why:?}"),
        }
    };
    verdict(&mut session, Side::A, from, &asked);
    assert_eq!(toward_a(&mut session, 1), at(Side::A), "asking alone moves nobody");
    verdict(&mut session, Side::A, from, &nominated);
    assert_eq!(toward_a(&mut session, 2), from);
    let elsewhere = SocketAddr::from(([192, 0, 2, 78], 6000));
    verdict(&mut session, Side::A, elsewhere, &nominated);
    assert_eq!(toward_a(&mut session, 3), from, "not so soon again");
    assert!(
        pass_from(&mut session, start(), Side::A, Channel::Rtp, from, &speech(1, 9)).is_err(),
        "clear media"
    );
}

#[test]
fn after_a_restart_of_ice_the_former_password_opens_nothing() {
    let (mut session, check) = with_checks();
    let from = SocketAddr::from(([192, 0, 2, 77], 6000));
    assert!(matches!(verdict(&mut session, Side::A, from, &check), Verdict::Forward { .. }));
    let mut again = plan(Protection::Clear, Protection::Clear);
    again.a.ice = crate::ice::IceCredentials::fragments("Umb9", "k2Xq", "another password of it");
    session.apply(again, start()).unwrap();
    assert_eq!(verdict(&mut session, Side::A, from, &check), Verdict::Drop(Why::StunRefused));
    let late = pass_from(&mut session, start(), Side::A, Channel::Rtp, from, &speech(1, 9));
    assert_eq!(late, Err(Why::Stranger), "what the former password proved is forgotten");
}

/// A call whose callee takes digits as events, sealed, and whose caller's signalling carries them.
fn with_events() -> Session {
    let mut plan = plan(Protection::Clear, sealed(3, 4));
    plan.b.formats = Formats::same([8]);
    plan.b.formats.keep(101);
    plan.b.events = Some(crate::digits::Events { heard: 101, sent: 96, seed: 77 });
    Session::new(plan, start()).unwrap()
}

#[test]
fn a_digit_goes_into_the_stream_toward_the_leg_that_takes_events_and_is_sealed_like_it() {
    let (now, mut session, mut phone) = (start(), with_events(), stack(3, 4));
    let mut hear = |bytes: &[u8]| pass(&mut phone, now, Side::B, bytes).unwrap();
    let first = pass(&mut session, now, Side::A, &speech(10, 9)).unwrap();
    let first = hear(&first);
    assert_eq!(first[2..4], [0, 10]);
    let five = crate::digits::Digit::from_letter('5').unwrap();
    assert!(!session.press(now, Side::A, five, Duration::from_millis(100)), "that leg takes none");
    assert!(session.press(now, Side::B, five, Duration::from_millis(100)));
    let mut buffer = PacketBuffer::new();
    let mut heard = Vec::new();
    while let Some(place) = session.poll_packet(now, &mut buffer) {
        assert_eq!(place, (Side::B, Channel::Rtp, at(Side::B)));
        heard.push(hear(buffer.as_slice()));
    }
    let numbers: Vec<u8> = heard.iter().map(|packet| packet[3]).collect();
    assert_eq!(numbers, [11, 12, 13, 14, 15]);
    assert!(
        heard.iter().all(|packet| packet[1] & 0x7F == 96 && packet[12] == 5 && packet[8..12] == first[8..12])
    );
    let next = pass(&mut session, now, Side::A, &speech(11, 9)).unwrap();
    assert_eq!(hear(&next)[2..4], [0, 16]);
}

#[test]
fn events_of_that_leg_are_told_as_digits_and_go_no_further() {
    let (now, mut session, mut phone) = (start(), with_events(), stack(3, 4));
    for (sequence, end) in [(1, 0), (2, 0x80), (3, 0x80)] {
        let mut event = speech(sequence, 6);
        event[1] = 101;
        event.truncate(12);
        event.extend([9, end | 10, 0x03, 0x20]);
        let sealed = pass(&mut phone, now, Side::A, &event).unwrap();
        assert_eq!(pass(&mut session, now, Side::B, &sealed), Err(Why::UnsharedFormat));
    }
    let nine = crate::digits::Digit::from_letter('9').unwrap();
    let told = Fact::Digit { side: Side::B, digit: nine, lasted: Duration::from_millis(100) };
    let facts = facts(&mut session);
    assert_eq!(facts.iter().filter(|fact| **fact == told).count(), 1);
    assert!(format!("{facts:?}").contains("Digit(redacted)"));
}
