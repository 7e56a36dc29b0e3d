//! Server transactions on the virtual clock: timers G, H, I, J, L, the automatic 100, 2xx repetition, CANCEL, ACK,
//! merged requests, Via stamping, flow loss, table maximum.

use super::*;

fn gone(bench: &Bench) -> usize {
    bench.count(|event| matches!(event, Event::ServerGone { .. }))
}

fn failed(bench: &Bench, wanted: ServerFailure) -> usize {
    bench.count(|event| matches!(event, Event::ServerFailed { why, .. } if *why == wanted))
}

#[test]
fn an_unanswered_invite_gets_a_100_after_200_ms() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.run_ms(1_000);
    assert_eq!(bench.times_of("SIP/2.0 100"), [200]);
    assert_eq!(bench.sent[0].1.to_tag(), None);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    assert_eq!(bench.times_of("SIP/2.0 100"), [200, 1_000]);
    assert_eq!(bench.count(|event| matches!(event, Event::Request { .. })), 1);
}

#[test]
fn an_answer_in_time_spares_the_100_and_is_repeated_for_a_repeated_invite() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    assert!(bench.sent.is_empty());
    bench.respond(180).unwrap();
    bench.run_ms(1_000);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    assert_eq!(bench.times_of("SIP/2.0 180"), [0, 1_000]);
    assert!(bench.times_of("SIP/2.0 100").is_empty());
}

#[test]
fn timer_g_repeats_a_refusal_to_t2_and_timer_h_gives_up() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(486).unwrap();
    bench.run_ms(60_000);
    let expected = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(bench.times_of("SIP/2.0 486"), expected);
    assert_eq!((failed(&bench, ServerFailure::AckTimeout), gone(&bench)), (1, 1));
    bench.assert_empty();
}

#[test]
fn on_tcp_a_refusal_is_sent_once_and_timer_h_still_watches() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(486).unwrap();
    assert_eq!(bench.run_ms(60_000), [(32_000, TimerReason::H)]);
    bench.assert_empty();
}

#[test]
fn timer_i_absorbs_repeated_acks_to_a_refusal_and_is_zero_on_tcp() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(486).unwrap();
    bench.run_ms(100);
    bench.feed(incoming("ACK", "z9hG4bK1", "srv"));
    bench.feed(incoming("ACK", "z9hG4bK1", "srv"));
    assert_eq!(bench.run_ms(60_000), [(5_100, TimerReason::I)]);
    assert_eq!(bench.count(|event| matches!(event, Event::Ack { .. })), 0);
    bench.assert_empty();
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(486).unwrap();
    bench.feed(incoming("ACK", "z9hG4bK1", "srv"));
    bench.assert_empty();
}

#[test]
fn timer_j_repeats_the_final_answer_and_is_zero_on_tcp() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("OPTIONS", "z9hG4bK1", ""));
    bench.feed(incoming("OPTIONS", "z9hG4bK1", ""));
    assert!(bench.sent.is_empty());
    bench.respond(200).unwrap();
    bench.feed(incoming("OPTIONS", "z9hG4bK1", ""));
    assert_eq!(bench.times_of("SIP/2.0 200").len(), 2);
    assert_eq!(bench.respond(200), Err(SendError::WrongState));
    assert_eq!(bench.run_ms(60_000), [(32_000, TimerReason::J)]);
    bench.assert_empty();
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("OPTIONS", "z9hG4bK1", ""));
    bench.respond(200).unwrap();
    assert_eq!(gone(&bench), 1);
    assert_eq!(bench.respond(200), Err(SendError::TransactionUnknown));
    bench.assert_empty();
}

#[test]
fn a_2xx_is_repeated_until_its_ack_on_tcp_too() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(200).unwrap();
    bench.run_ms(8_000);
    assert_eq!(bench.times_of("SIP/2.0 200"), [0, 500, 1_500, 3_500, 7_500]);
    bench.feed(incoming("ACK", "z9hG4bK2", "other"));
    bench.feed(incoming("ACK", "z9hG4bK3", "srv"));
    bench.feed(incoming("ACK", "z9hG4bK3", "srv"));
    let key = bench.server_key();
    let settled =
        bench.count(|event| matches!(event, Event::Ack { invite: Some(invite), .. } if *invite == key));
    assert_eq!(settled, 1);
    assert_eq!(bench.count(|event| matches!(event, Event::Ack { invite: None, .. })), 1);
    assert_eq!(bench.run_ms(60_000), [(32_000, TimerReason::L)]);
    bench.feed(incoming("ACK", "z9hG4bK3", "srv"));
    assert_eq!(bench.count(|event| matches!(event, Event::AckMissing { .. })), 0);
    assert_eq!(gone(&bench), 1);
    bench.assert_empty();
}

#[test]
fn timer_l_absorbs_repeated_invites_after_the_2xx() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(200).unwrap();
    bench.feed(incoming("ACK", "z9hG4bK2", "srv"));
    bench.run_ms(31_000);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    assert_eq!(bench.count(|event| matches!(event, Event::Request { .. })), 1);
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_2xx_without_ack_is_reported_after_64_t1() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(200).unwrap();
    bench.run_ms(60_000);
    assert_eq!(bench.count(|event| matches!(event, Event::AckMissing { .. })), 1);
    assert_eq!(bench.times_of("SIP/2.0 200").last(), Some(&31_500));
    bench.assert_empty();
}

#[test]
fn a_cancel_is_answered_and_told_once_and_changes_nothing_after_the_final() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(180).unwrap();
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    assert_eq!(bench.times_of("SIP/2.0 200").len(), 2);
    assert_eq!(bench.sent[1].1.to_tag(), Some(&b"srv"[..]));
    let key = bench.server_key();
    let told =
        |bench: &Bench| bench.count(|event| matches!(event, Event::Cancel { invite, .. } if *invite == key));
    assert_eq!(told(&bench), 1);
    bench.respond(487).unwrap();
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    assert_eq!(told(&bench), 1);
    bench.feed(incoming("ACK", "z9hG4bK1", "srv"));
    bench.run_ms(10_000);
    bench.assert_empty();
}

#[test]
fn a_cancel_that_crosses_the_200_is_answered_and_not_told() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(200).unwrap();
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    assert_eq!(bench.sent[1].1.method(), &Method::Cancel);
    assert_eq!(bench.sent[1].1.status(), StatusCode::new(200));
    assert_eq!(bench.count(|event| matches!(event, Event::Cancel { .. })), 0);
}

#[test]
fn a_cancel_for_nothing_gets_481_with_the_same_tag_each_time() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    assert_eq!(bench.times_of("SIP/2.0 481").len(), 2);
    assert_eq!(bench.sent[0].1.to_tag(), bench.sent[1].1.to_tag());
    assert!(bench.sent[0].1.to_tag().is_some());
    bench.assert_empty();
}

#[test]
fn a_merged_request_gets_482_and_its_ack_is_absorbed() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.feed(incoming("INVITE", "z9hG4bK2", ""));
    assert_eq!(bench.sent[0].1.status(), StatusCode::new(482));
    assert_eq!(bench.endpoint.counts().server, 1);
    let tag = String::from_utf8(bench.sent[0].1.to_tag().unwrap().to_vec()).unwrap();
    let ack = incoming("ACK", "z9hG4bK2", &tag);
    let respelled = ack.replace(";tag=", " ;TAG = ");
    for ack in [ack, respelled] {
        bench.feed(ack);
        assert_eq!(bench.events.len(), 1);
    }
    bench.feed(incoming("ACK", "z9hG4bK2", &tag.replace(['0', '1'], "2")));
    assert_eq!(bench.events.len(), 2);
}

#[test]
fn a_folded_via_line_keeps_what_stands_behind_its_first_entry() {
    let mut bench = Bench::new(Transport::Udp);
    let vias = "Via: SIP/2.0/UDP fe.example;rport\r\n ;branch=z9hG4bK1,\r\n\tSIP/2.0/UDP far;branch=z9hG4bK0";
    bench.feed(incoming_with("OPTIONS", vias, "", 1));
    bench.respond(200).unwrap();
    let line = bench.sent[0].1.value_bytes(HeaderId::Via).unwrap();
    let all = crate::Via::parse_list(line).unwrap();
    assert_eq!(all[0].received(), Some(&b"192.0.2.9"[..]));
    assert_eq!((all.len(), all[1].branch()), (2, Some(&b"z9hG4bK0"[..])));
}

#[test]
fn requests_inside_a_dialog_are_never_merged() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INFO", "z9hG4bK1", "srv"));
    bench.feed(incoming("INFO", "z9hG4bK2", "srv"));
    assert_eq!(bench.count(|event| matches!(event, Event::Request { .. })), 2);
}

#[test]
fn peers_without_the_cookie_are_matched_the_old_way() {
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("INVITE", "1", ""));
    bench.feed(incoming("INVITE", "1", ""));
    assert_eq!(bench.count(|event| matches!(event, Event::Request { .. })), 1);
    bench.respond(486).unwrap();
    bench.feed(incoming("ACK", "1", "srv"));
    bench.feed(incoming_with("INVITE", "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=1", "", 2));
    assert_eq!(bench.count(|event| matches!(event, Event::Request { .. })), 2);
}

#[test]
fn the_top_via_says_where_the_request_really_came_from() {
    let mut bench = Bench::new(Transport::Udp);
    let vias = "Via: SIP/2.0/UDP fe.example;rport;branch=z9hG4bK1, SIP/2.0/UDP far;branch=z9hG4bK0";
    bench.feed(incoming_with("OPTIONS", vias, "", 1));
    bench.respond(200).unwrap();
    let via = bench.sent[0].1.top_via().unwrap();
    assert_eq!((via.received(), via.rport()), (Some(&b"192.0.2.9"[..]), Some(Some(5060))));
    assert_eq!(via.branch(), Some(&b"z9hG4bK1"[..]));
    let all = bench.sent[0].1.header(HeaderId::Via).unwrap();
    assert!(all.ends_with(b", SIP/2.0/UDP far;branch=z9hG4bK0"));
    let mut bench = Bench::new(Transport::Udp);
    bench.feed(incoming("OPTIONS", "z9hG4bK1", ""));
    bench.respond(200).unwrap();
    assert_eq!(bench.sent[0].1.header(HeaderId::Via), bench.received().header(HeaderId::Via));
}

#[test]
fn beyond_the_table_maximum_a_request_gets_503_and_no_state() {
    let config = EndpointConfig { transactions_max: 1, ..EndpointConfig::default() };
    let mut bench = Bench::with(Transport::Udp, config);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    for branch in 2..100 {
        let via = format!("Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{branch}");
        bench.feed(incoming_with("INVITE", &via, "", branch));
    }
    assert_eq!(bench.times_of("SIP/2.0 503").len(), 98);
    let counts = bench.endpoint.counts();
    assert_eq!((counts.server, counts.timers), (1, 1));
}

#[test]
fn benotify_is_told_and_never_answered() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("BENOTIFY", "z9hG4bK1", "srv"));
    assert_eq!(bench.count(|event| matches!(event, Event::OneWay { .. })), 1);
    assert!(bench.sent.is_empty());
    bench.assert_empty();
}

#[test]
fn a_lost_flow_ends_open_requests_but_an_ack_may_come_another_way() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(200).unwrap();
    bench.feed(incoming_with("INFO", "Via: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK9", "srv", 2));
    bench.endpoint.handle_flow_down(bench.now, FlowKey(1));
    bench.drain();
    assert_eq!((failed(&bench, ServerFailure::TransportFailed), gone(&bench)), (1, 1));
    bench.flow.key = FlowKey(2);
    bench.run_ms(1_000);
    assert_eq!(bench.times_of("SIP/2.0 200"), [0]);
    bench.feed(incoming("ACK", "z9hG4bK2", "srv"));
    assert_eq!(bench.count(|event| matches!(event, Event::Ack { invite: Some(_), .. })), 1);
    bench.run_ms(60_000);
    bench.assert_empty();
}

#[test]
fn a_response_without_a_status_line_is_refused() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("OPTIONS", "z9hG4bK1", ""));
    let key = bench.server_key();
    for bad in ["", "SIP/2.0 ", "SIP/2.0 20", "SIP/2.0 999 x", "SIP/1.0 200 OK", "OPTIONS sip:a SIP/2.0"] {
        let refused = bench.endpoint.respond(bench.now, key, Bytes::from(bad));
        assert_eq!(refused, Err(SendError::StatusLineMissing), "{bad}");
    }
    bench.respond(200).unwrap();
}

#[test]
fn a_cancel_from_another_host_with_a_guessed_branch_touches_nothing() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(180).unwrap();
    bench.flow.remote = "192.0.2.66:5060".parse().unwrap();
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    assert_eq!(bench.sent[1].1.status(), StatusCode::new(481));
    assert_eq!(bench.count(|event| matches!(event, Event::Cancel { .. })), 0);
}

#[test]
fn another_party_that_knows_every_name_touches_nothing_of_an_invite() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(180).unwrap();
    let own = bench.flow;
    let other = Flow { key: FlowKey(2), party: Party(2), ..own };
    bench.flow = other;
    bench.feed(incoming("CANCEL", "z9hG4bK1", ""));
    assert_eq!(bench.sent[1].1.status(), StatusCode::new(481));
    assert_eq!(bench.count(|event| matches!(event, Event::Cancel { .. })), 0);
    bench.respond(200).unwrap();
    bench.feed(incoming("ACK", "z9hG4bK1", "srv"));
    bench.feed(incoming("ACK", "z9hG4bK2", "srv"));
    assert_eq!(bench.count(|event| matches!(event, Event::Ack { invite: None, .. })), 2);
    bench.run_ms(600);
    assert_eq!(bench.times_of("SIP/2.0 200"), [0, 500], "it is repeated until its own ACK");
    // The same party on another connection.
    bench.flow = Flow { key: FlowKey(3), ..own };
    bench.feed(incoming("ACK", "z9hG4bK2", "srv"));
    assert_eq!(bench.count(|event| matches!(event, Event::Ack { invite: Some(_), .. })), 1);
    bench.run_ms(60_000);
    assert_eq!(bench.times_of("SIP/2.0 200"), [0, 500]);
    bench.assert_empty();
}

#[test]
fn a_request_that_another_party_copied_is_its_own() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    bench.respond(486).unwrap();
    bench.flow = Flow { key: FlowKey(2), party: Party(2), ..bench.flow };
    bench.feed(incoming("INVITE", "z9hG4bK1", ""));
    assert_eq!(bench.count(|event| matches!(event, Event::Request { .. })), 2);
    assert_eq!(bench.times_of("SIP/2.0 486").len(), 1, "nothing is repeated for it");
}
