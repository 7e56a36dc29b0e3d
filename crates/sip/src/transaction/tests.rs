//! Every (state, event, outcome) of the four machines on both kinds of transport, as one reviewed table each.

use super::*;
use std::fmt::Debug;
use std::fmt::Write;
use std::time::Duration;

const T1: Duration = Duration::from_millis(500);

const REASONS: [TimerReason; 15] = [
    TimerReason::A,
    TimerReason::B,
    TimerReason::D,
    TimerReason::E,
    TimerReason::F,
    TimerReason::G,
    TimerReason::H,
    TimerReason::I,
    TimerReason::J,
    TimerReason::K,
    TimerReason::L,
    TimerReason::M,
    TimerReason::Trying,
    TimerReason::Retransmit2xx,
    TimerReason::CancelGiveUp,
];

fn table<S: Debug + Copy + PartialEq, E: Debug + Copy>(
    states: &[S],
    events: &[E],
    step: impl Fn(S, E, &Context) -> (S, Actions),
) -> String {
    let mut out = String::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        let context = Context { timers: TimerConfig::default(), transport };
        for state in states {
            let mut ignored = Vec::new();
            for event in events {
                let (next, actions) = step(*state, *event, &context);
                let actions: Vec<_> = actions.iter().collect();
                if next == *state && actions.is_empty() {
                    ignored.push(format!("{event:?}"));
                } else {
                    writeln!(out, "{transport:?} {state:?} + {event:?} -> {next:?} {actions:?}").unwrap();
                }
            }
            writeln!(out, "{transport:?} {state:?} ignores {}", ignored.join(" ")).unwrap();
        }
    }
    out
}

fn with_timers<E: Copy>(events: &[E], timer: impl Fn(TimerReason) -> E) -> Vec<E> {
    events.iter().copied().chain(REASONS.into_iter().map(timer)).collect()
}

#[test]
fn the_invite_client_moves_as_rfc_3261_and_6026_say() {
    use InviteClientEvent as E;
    use InviteClientState as S;
    let states = [S::Calling { interval: T1 }, S::Proceeding, S::Completed, S::Accepted, S::Terminated];
    let events =
        with_timers(&[E::Provisional, E::Success, E::Failure, E::Cancelled, E::TransportError], E::Timer);
    insta::assert_snapshot!(table(&states, &events, |state, event, context| {
        let (next, actions) = InviteClient { state }.step(event, context);
        (next.state, actions)
    }));
}

#[test]
fn the_plain_client_moves_as_rfc_3261_says() {
    use ClientEvent as E;
    use ClientState as S;
    let states = [S::Trying { interval: T1 }, S::Proceeding, S::Completed, S::Terminated];
    let events = with_timers(&[E::Provisional, E::Final, E::TransportError], E::Timer);
    insta::assert_snapshot!(table(&states, &events, |state, event, context| {
        let (next, actions) = Client { state }.step(event, context);
        (next.state, actions)
    }));
}

#[test]
fn the_invite_server_moves_as_rfc_3261_and_6026_say() {
    use InviteServerEvent as E;
    use InviteServerState as S;
    let states = [
        S::Fresh,
        S::Proceeding,
        S::Completed { interval: T1 },
        S::Confirmed,
        S::Accepted { interval: T1 },
        S::Acknowledged,
        S::Terminated,
    ];
    let events = with_timers(
        &[E::Retransmission, E::Provisional, E::Success, E::Failure, E::Ack, E::TransportError],
        E::Timer,
    );
    insta::assert_snapshot!(table(&states, &events, |state, event, context| {
        let (next, actions) = InviteServer { state }.step(event, context);
        (next.state, actions)
    }));
}

#[test]
fn the_plain_server_moves_as_rfc_3261_says() {
    use ServerEvent as E;
    use ServerState as S;
    let states = [S::Trying, S::Proceeding, S::Completed, S::Terminated];
    let events = with_timers(&[E::Retransmission, E::Provisional, E::Final, E::TransportError], E::Timer);
    insta::assert_snapshot!(table(&states, &events, |state, event, context| {
        let (next, actions) = Server { state }.step(event, context);
        (next.state, actions)
    }));
}
