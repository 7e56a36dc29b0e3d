//! RFC 3264 as far as a gateway between two dialogs answers for it: what either peer is told keeps the form that its own
//! leg's history demands, whatever the other leg says.

use bytes::Bytes;
use sdp::{Direction, MediaKind, Session};
use sip::{Message, Method};

use super::policy::{self, POOL};
use super::world::{Place, Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, call_with, redirecting, worker};

const VIDEO: &str = "m=video 5000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";

/// A call whose first offer is the usual one, changed.
fn call_offering(change: impl Fn(String) -> String) -> World {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(changed("10.0.0.5", 3000, 9, change)));
    assert_eq!(world.caller().last_status(), 200);
    world
}

fn changed(address: &str, port: u16, key: u8, change: impl Fn(String) -> String) -> Bytes {
    let text = String::from_utf8(offer(address, port, Some(key)).to_vec()).unwrap();
    Bytes::from(change(text))
}

fn session(message: &Message) -> Session {
    Session::parse(&message.body()).unwrap()
}

/// What a party was offered, or answered, last.
fn told(world: &mut World, place: &Place) -> Session {
    let party = world.party(&place.0, place.1);
    let answer = party.responses.iter().rfind(|m| !m.body().is_empty());
    let offer = party.requests.iter().rfind(|m| !m.body().is_empty());
    session(if *place == caller() { answer.or(offer) } else { offer.or(answer) }.unwrap())
}

/// Session id and version of each description, in order.
fn origins(bodies: impl Iterator<Item = Message>) -> Vec<(String, u64)> {
    let line = |m: &Message| {
        let text = String::from_utf8(m.body().to_vec()).unwrap();
        text.lines().find_map(|line| line.strip_prefix("o=").map(str::to_owned))
    };
    let split = |line: String| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[1].to_owned(), words[2].parse().unwrap())
    };
    bodies.filter(|m| !m.body().is_empty()).filter_map(|m| line(&m)).map(split).collect()
}

fn end(mut world: World) {
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_6_an_answer_has_as_many_media_lines_as_its_offer_and_refuses_the_others_by_port_0() {
    for before in [false, true] {
        let mut world = call_offering(|text| match before {
            true => text.replacen("m=audio", &format!("{VIDEO}m=audio"), 1),
            false => text + VIDEO,
        });
        let at = usize::from(before);
        for place in [worker(), caller()] {
            let media = told(&mut world, &place);
            assert_eq!(media.media().len(), 2, "{place:?}");
            let is_audio = matches!(media.media()[at].kind, MediaKind::Audio(_));
            assert!(is_audio, "{place:?}: the order stays");
            assert!(media.media()[at].port > 0, "{place:?}");
            assert_eq!(media.media()[1 - at].port, 0, "{place:?}");
        }
        end(world);
    }
}

#[test]
fn section_6_1_the_direction_of_an_answer_fits_the_offers() {
    for (said, answered) in [
        (Direction::SendRecv, Direction::SendRecv),
        (Direction::SendOnly, Direction::RecvOnly),
        (Direction::RecvOnly, Direction::SendOnly),
        (Direction::Inactive, Direction::Inactive),
    ] {
        let word = match said {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        };
        let mut world = call_offering(|text| text.replace("a=sendrecv", &format!("a={word}")));
        assert_eq!(told(&mut world, &worker()).audio().unwrap().direction, said);
        assert_eq!(told(&mut world, &caller()).audio().unwrap().direction, answered);
        end(world);
    }
}

#[test]
fn section_6_1_a_format_keeps_the_number_that_its_offer_gave_it() {
    let mut world = call_offering(|text| text.replace(" 101", " 117").replace(":101 ", ":117 "));
    for place in [worker(), caller()] {
        let media = told(&mut world, &place);
        let formats = &media.audio().unwrap().formats;
        let digits = formats.iter().find(|format| format.is("telephone-event")).unwrap();
        assert_eq!(digits.pt, 117, "{place:?}");
    }
    end(world);
}

#[test]
fn section_8_the_session_id_stays_and_the_version_grows_by_one_with_each_description() {
    let mut world = call_with("", "");
    for (port, place) in [(3002, caller()), (3004, worker()), (3006, caller())] {
        let (address, key) = if place == caller() { ("10.0.0.5", 9) } else { ("10.0.2.1", 0x5b) };
        world.in_dialog(&place, Method::Invite, "", Some(offer(address, port, Some(key))));
        assert_eq!(world.party(&place.0, place.1).last_status(), 200);
    }
    let (name, port) = worker();
    let party = world.party(&name, port);
    let (asked, answered) = (party.requests.clone(), party.responses.clone());
    let (first, second) = (asked.len() - 1, asked.len());
    // Offered twice, then our answer to its own offer, then offered again.
    let of_worker = asked[..first].iter().chain(&answered).chain(&asked[first..second]).cloned();
    let caller = world.caller();
    let (answered, asked) = (caller.responses.clone(), caller.requests.clone());
    let last = answered.iter().rposition(|m| !m.body().is_empty()).unwrap();
    let of_caller = answered[..last].iter().chain(&asked).chain(&answered[last..]).cloned();
    for told in [origins(of_worker), origins(of_caller)] {
        assert_eq!(told.len(), 4, "{told:?}");
        for pair in told.windows(2) {
            assert_eq!((&pair[0].0, pair[0].1 + 1), (&pair[1].0, pair[1].1), "{told:?}");
        }
    }
    end(world);
}

#[test]
fn section_8_1_a_stream_that_is_added_later_is_answered_in_its_place_and_refused() {
    let mut world = call_with("", "");
    let more = changed("10.0.0.5", 3002, 9, |text| text + VIDEO);
    world.in_dialog(&caller(), Method::Invite, "", Some(more));
    assert_eq!(world.caller().last_status(), 200);
    let ports: Vec<u16> = told(&mut world, &caller()).media().iter().map(|media| media.port).collect();
    assert!(matches!(ports[..], [1..=u16::MAX, 0]), "{ports:?}");
    end(world);
}

#[test]
fn section_8_2_an_offer_that_removes_the_only_stream_is_refused_and_the_call_goes_on() {
    let mut world = call_with("", "");
    let plans = world.plans.clone();
    let none = changed("10.0.0.5", 0, 9, |text| text);
    world.in_dialog(&caller(), Method::Invite, "", Some(none));
    assert_eq!(world.caller().last_status(), 488);
    assert_eq!(world.plans, plans);
    end(world);
}

#[test]
fn section_8_an_offer_carried_over_has_the_lines_that_leg_knows_each_in_its_place() {
    let mut world = call_offering(|text| text + VIDEO);
    assert_eq!(told(&mut world, &caller()).media().len(), 2);
    let (name, port) = worker();
    world.in_dialog(&worker(), Method::Invite, "", Some(offer("10.0.2.1", 4002, Some(0x5b))));
    assert_eq!(world.party(&name, port).last_status(), 200);
    let offered = world.caller().requests.iter().rfind(|m| *m.method() == Method::Invite).cloned();
    let offered = session(&offered.unwrap());
    assert_eq!((offered.media().len(), offered.audio_index()), (2, Some(0)));
    end(world);
}

/// An offer sealed with one suite, for keys of 2^20 packets.
fn sealed_with(suite: sdp::Suite) -> Bytes {
    let key = sdp::KeySalt::from_bytes(suite, &vec![9; suite.key_bytes() + suite.salt_bytes()]).unwrap();
    let mut line = sdp::CryptoLine::new(1, suite, key);
    line.lifetime = Some(sdp::Lifetime::PowerOfTwo(20));
    let mut spec = sdp::OfferSpec::new("10.0.0.5".parse().unwrap(), 3000);
    spec.profile = sdp::Profile::RtpSavp;
    spec.crypto = vec![line];
    sdp::write_offer(&spec)
}

fn with_srtp(rules: crate::policy::SrtpRules) -> World {
    let mut policy = (*policy::secured()).clone();
    policy.gateway.srtp = rules;
    let mut world = World::new(policy.into());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

#[test]
fn each_suite_that_is_allowed_is_answered_with_a_key_of_its_own_and_the_lifetime_of_the_peers() {
    use crate::policy::SrtpRules;
    for provider in [relay::Provider::InPlace, relay::Provider::WebrtcSrtp] {
        let ran = [relay::Suite::AesCm128HmacSha1_80, relay::Suite::AesCm128HmacSha1_32]
            .into_iter()
            .chain([relay::Suite::AeadAes128Gcm, relay::Suite::AeadAes256Gcm]);
        for (suite, runs) in sdp::Suite::ALL.into_iter().zip(ran) {
            let mut world = with_srtp(SrtpRules { provider, ..SrtpRules::default() });
            world.invite(DEPOSIT, DIVERSION, Some(sealed_with(suite)));
            assert_eq!(world.caller().last_status(), 200, "{suite:?}");
            let answer = told(&mut world, &caller());
            assert_eq!(answer.audio().unwrap().crypto[0].suite, suite);
            let plan = world.plans.last().unwrap();
            let relay::Protection::Sealed { inbound, outbound } = &plan.a.protection else { panic!("clear") };
            assert_eq!((inbound.suite, outbound.suite, inbound.lifetime), (runs, runs, 1 << 20));
            assert_eq!((inbound.provider, outbound.provider), (provider, provider));
            let relay::Protection::Sealed { outbound, .. } = &plan.b.protection else { panic!("clear") };
            assert_eq!(outbound.suite, relay::Suite::AesCm128HmacSha1_80, "what we offer does not follow");
        }
    }
}

#[test]
fn a_suite_that_is_not_allowed_is_refused_and_the_first_allowed_is_offered() {
    use crate::policy::SrtpRules;
    let of = |suites: &[sdp::Suite]| SrtpRules { suites: suites.to_vec(), ..SrtpRules::default() };
    let mut world = with_srtp(of(&[sdp::Suite::AesCm128HmacSha1_80]));
    world.invite(DEPOSIT, DIVERSION, Some(sealed_with(sdp::Suite::AeadAes128Gcm)));
    assert_eq!(world.caller().last_status(), 488);
    let mut world = with_srtp(of(&[sdp::Suite::AeadAes256Gcm, sdp::Suite::AesCm128HmacSha1_80]));
    world.script("mbx01.contoso.com", 5066, Script::Silent);
    world.invite(DEPOSIT, DIVERSION, Some(sealed_with(sdp::Suite::AeadAes256Gcm)));
    let offered = Session::parse(&world.party("mbx01.contoso.com", 5066).requests[0].body()).unwrap();
    let suites: Vec<_> = offered.audio().unwrap().crypto.iter().map(|line| line.suite).collect();
    assert_eq!(suites, [sdp::Suite::AeadAes256Gcm]);
}
