//! Client transactions on the virtual clock: timers A, B, D, E, F, K, M, CANCEL, ACK, forks, strays.

use super::*;

fn answer(bench: &mut Bench, status: u16, tag: &str) {
    let request = bench.sent[0].1.clone();
    bench.feed(response(&request, status, tag));
}

fn failures(bench: &Bench) -> Vec<(u64, ClientFailure)> {
    let find = |(at, event): &(u64, Event)| match event {
        Event::ClientFailed { why, .. } => Some((*at, *why)),
        _ => None,
    };
    bench.events.iter().filter_map(find).collect()
}

fn responses(bench: &Bench) -> usize {
    bench.count(|event| matches!(event, Event::Response { .. }))
}

#[test]
fn timer_a_doubles_without_end_and_timer_b_ends_it() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Invite);
    bench.run_ms(60_000);
    assert_eq!(bench.times_of("INVITE"), [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(failures(&bench), [(32_000, ClientFailure::Timeout)]);
    bench.assert_empty();
}

#[test]
fn on_tcp_an_invite_is_sent_once_and_timer_b_still_ends_it() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.request(Method::Invite);
    assert_eq!(bench.run_ms(60_000), [(32_000, TimerReason::B)]);
    assert_eq!(bench.times_of("INVITE"), [0]);
    bench.assert_empty();
}

#[test]
fn timer_e_doubles_to_t2_and_timer_f_ends_it() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Options);
    bench.run_ms(60_000);
    let expected = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(bench.times_of("OPTIONS"), expected);
    assert_eq!(failures(&bench), [(32_000, ClientFailure::Timeout)]);
    bench.assert_empty();
}

#[test]
fn a_provisional_slows_timer_e_to_t2_and_does_not_stop_timer_f() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Info);
    answer(&mut bench, 100, "");
    bench.run_ms(9_000);
    assert_eq!(bench.times_of("INFO"), [0, 500, 4_500, 8_500]);
    bench.run_ms(40_000);
    assert_eq!(failures(&bench), [(32_000, ClientFailure::Timeout)]);
}

#[test]
fn timer_k_absorbs_repeated_finals_and_is_zero_on_tcp() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Bye);
    answer(&mut bench, 200, "srv");
    answer(&mut bench, 200, "srv");
    assert_eq!(responses(&bench), 1);
    assert_eq!(bench.run_ms(10_000), [(5_000, TimerReason::K)]);
    bench.assert_empty();
    let mut bench = Bench::new(Transport::Tcp);
    bench.request(Method::Bye);
    answer(&mut bench, 200, "srv");
    bench.assert_empty();
}

#[test]
fn timer_d_keeps_acking_repeated_refusals_and_is_zero_on_tcp() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Invite);
    answer(&mut bench, 180, "srv");
    answer(&mut bench, 486, "srv");
    answer(&mut bench, 486, "srv");
    assert_eq!(bench.times_of("ACK").len(), 2);
    assert_eq!(responses(&bench), 2);
    let (invite, ack) = (&bench.sent[0].1, &bench.sent[1].1);
    assert_eq!(ack.header(HeaderId::Via), invite.header(HeaderId::Via));
    assert_eq!(ack.header(HeaderId::Route), invite.header(HeaderId::Route));
    assert_eq!((ack.to_tag(), ack.cseq().number), (Some(&b"srv"[..]), 1));
    assert_eq!(bench.run_ms(60_000), [(32_000, TimerReason::D)]);
    bench.assert_empty();
    let mut bench = Bench::new(Transport::Tcp);
    bench.request(Method::Invite);
    answer(&mut bench, 404, "srv");
    assert_eq!(bench.times_of("ACK"), [0]);
    bench.assert_empty();
}

#[test]
fn timer_m_keeps_an_accepted_invite_for_repeats_and_forks() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.request(Method::Invite);
    answer(&mut bench, 200, "one");
    assert_eq!(bench.endpoint.counts().accepted, 1);
    answer(&mut bench, 200, "one");
    answer(&mut bench, 200, "two");
    assert_eq!(responses(&bench), 2);
    let flow = bench.flow;
    bench.endpoint.send_ack(bench.now, &flow, outgoing(Method::Ack, 1, Some("two")));
    bench.drain();
    answer(&mut bench, 200, "one");
    assert_eq!(bench.times_of("ACK").len(), 1);
    answer(&mut bench, 200, "two");
    assert_eq!(bench.times_of("ACK").len(), 2);
    let acks: Vec<_> = bench.sent[1..].iter().map(|(_, ack)| ack.bytes().clone()).collect();
    assert_eq!(acks[0], acks[1]);
    assert_ne!(bench.sent[0].1.header(HeaderId::Via), bench.sent[1].1.header(HeaderId::Via));
    assert_eq!(bench.run_ms(60_000), [(32_000, TimerReason::M)]);
    bench.assert_empty();
    answer(&mut bench, 200, "one");
    assert_eq!(bench.count(|event| matches!(event, Event::Stray { .. })), 1);
}

#[test]
fn a_response_that_does_not_repeat_its_request_is_a_stray() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Invite);
    let good = response(&bench.sent[0].1, 200, "srv");
    let good = String::from_utf8(good.to_vec()).unwrap();
    for (from, to) in [("Call-ID: call", "Call-ID: cal!"), (";tag=cli", ";tag=cl1"), ("CSeq: 1 ", "CSeq: 2 ")]
    {
        assert!(good.contains(from));
        bench.feed(good.replace(from, to));
    }
    assert_eq!(bench.count(|event| matches!(event, Event::Stray { .. })), 3);
    assert_eq!(responses(&bench), 0);
    bench.feed(good);
    assert_eq!(responses(&bench), 1);
}

#[test]
fn only_so_many_forks_are_taken() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.request(Method::Invite);
    for fork in 0..50 {
        answer(&mut bench, 200, &format!("t{fork}"));
    }
    assert_eq!(responses(&bench), super::super::client::FORKS_MAX);
}

#[test]
fn cancel_waits_for_the_first_provisional() {
    let mut bench = Bench::new(Transport::Udp);
    let key = bench.request(Method::Invite);
    bench.endpoint.cancel(bench.now, key);
    bench.endpoint.cancel(bench.now, key);
    bench.drain();
    assert!(bench.times_of("CANCEL").is_empty());
    answer(&mut bench, 100, "");
    bench.endpoint.cancel(bench.now, key);
    bench.drain();
    assert_eq!(bench.times_of("CANCEL").len(), 1);
    let (invite, cancel) = (bench.sent[0].1.clone(), bench.sent[1].1.clone());
    for id in [HeaderId::Via, HeaderId::From, HeaderId::To, HeaderId::CallId, HeaderId::Route] {
        assert_eq!(cancel.header(id), invite.header(id));
    }
    assert_eq!(cancel.request_uri(), invite.request_uri());
    bench.feed(response(&cancel, 200, "srv"));
    answer(&mut bench, 487, "srv");
    assert_eq!(responses(&bench), 2, "the 200 to the CANCEL is nobody's business");
    assert_eq!(bench.times_of("ACK").len(), 1);
    bench.run_ms(60_000);
    bench.assert_empty();
}

#[test]
fn a_cancel_overtaken_by_the_final_response_is_not_sent() {
    let mut bench = Bench::new(Transport::Udp);
    let key = bench.request(Method::Invite);
    bench.endpoint.cancel(bench.now, key);
    answer(&mut bench, 200, "srv");
    bench.endpoint.cancel(bench.now, key);
    bench.run_ms(60_000);
    assert!(bench.times_of("CANCEL").is_empty());
    assert_eq!(responses(&bench), 1);
    bench.assert_empty();
}

#[test]
fn a_200_that_crosses_the_cancel_is_delivered() {
    let mut bench = Bench::new(Transport::Tcp);
    let key = bench.request(Method::Invite);
    answer(&mut bench, 180, "srv");
    bench.endpoint.cancel(bench.now, key);
    bench.drain();
    answer(&mut bench, 200, "srv");
    let cancel = bench.sent[1].1.clone();
    bench.feed(response(&cancel, 481, "srv"));
    assert_eq!((responses(&bench), failures(&bench)), (2, vec![]));
    bench.run_ms(60_000);
    bench.assert_empty();
}

#[test]
fn a_cancelled_invite_that_nobody_ends_is_given_up_after_64_t1() {
    let mut bench = Bench::new(Transport::Tcp);
    let key = bench.request(Method::Invite);
    answer(&mut bench, 180, "srv");
    bench.run_ms(100_000);
    bench.endpoint.cancel(bench.now, key);
    bench.run_ms(60_000);
    assert_eq!(failures(&bench), [(132_000, ClientFailure::Timeout)]);
    bench.assert_empty();
}

#[test]
fn a_response_that_is_not_ours_is_a_stray() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Options);
    let good = String::from_utf8(response(&bench.sent[0].1, 200, "srv").to_vec()).unwrap();
    bench.feed(good.replace("UDP 127.0.0.1", "UDP 127.0.0.2"));
    bench.feed(good.replace("branch=z9hG4bK0", "branch=z9hG4bK1"));
    bench.feed(good.replace("branch=", "brunch="));
    bench.feed(good.replace("1 OPTIONS", "1 INFO"));
    bench.feed(good.replace("1 OPTIONS", "1 CANCEL"));
    let asked = bench.flow;
    bench.flow = Flow { key: FlowKey(2), party: Party(2), ..asked };
    bench.feed(good.clone());
    bench.flow = asked;
    assert_eq!(bench.count(|event| matches!(event, Event::Stray { .. })), 6);
    bench.feed(good);
    assert_eq!(responses(&bench), 1);
}

#[test]
fn a_lost_flow_fails_what_is_open_and_forgets_what_is_done() {
    let mut bench = Bench::new(Transport::Udp);
    bench.request(Method::Bye);
    answer(&mut bench, 200, "srv");
    bench.request(Method::Options);
    let other = Flow { key: FlowKey(2), ..bench.flow };
    bench.endpoint.send_request(bench.now, &other, outgoing(Method::Info, 4, None)).unwrap();
    bench.endpoint.handle_flow_down(bench.now, FlowKey(1));
    bench.drain();
    assert_eq!(failures(&bench), [(0, ClientFailure::TransportFailed)]);
    assert_eq!(bench.endpoint.counts().client, 1);
}

#[test]
fn what_would_break_a_message_is_not_sent() {
    let mut bench = Bench::with(
        Transport::Tcp,
        EndpointConfig { transactions_max: 1, user_agent: Some("U".into()), ..EndpointConfig::default() },
    );
    let flow = bench.flow;
    let good = || outgoing(Method::Options, 1, None);
    let evil = |headers: &'static str| OutgoingRequest { headers: headers.into(), ..good() };
    for bad in [
        evil("A: b"),
        evil("A: b\r\n\r\n"),
        evil("\r\nA: b\r\n"),
        OutgoingRequest { uri: "sip:a\r\nB: c".into(), ..good() },
        OutgoingRequest { content_type: Some("a\r\nB: c".into()), ..good() },
    ] {
        assert_eq!(bench.endpoint.send_request(bench.now, &flow, bad), Err(SendError::RequestMalformed));
    }
    let ack = outgoing(Method::Ack, 1, None);
    assert_eq!(bench.endpoint.send_request(bench.now, &flow, ack), Err(SendError::MethodNotAllowed));
    let headless = OutgoingRequest { headers: Bytes::new(), ..outgoing(Method::Invite, 1, None) };
    let refused = bench.endpoint.send_request(bench.now, &flow, headless);
    assert!(matches!(refused, Err(SendError::RequestUnparsable(_))));
    bench.request(Method::Options);
    assert_eq!(bench.sent[0].1.header(HeaderId::UserAgent), Some(&b"U"[..]));
    assert_eq!(bench.endpoint.send_request(bench.now, &flow, good()), Err(SendError::TableFull));
}
