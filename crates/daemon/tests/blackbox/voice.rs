//! Callers who press keys, through the running gateway: Outlook Voice Access with a wrong and a right PIN, a message listened to and
//! deleted, and the message waiting NOTIFYs of both; an auto attendant whose key is a REFER, carried to the caller, and its NOTIFYs
//! carried back; a message that UM plays on the phone.

use std::time::Duration;

use lab::frontend::{CallEnd, CallOutcome, CallSpec, Caller, EndedBy, OnRefer, Presses};
use lab::shell::PlayOnPhone;
use lab::um::{
    EndReason, Fault, LabFact, MailboxServerConfig, Manner, Milestone, PlanSecurity, Ports, StoredMessage,
};
use lab::{LabUm, LabUmConfig};
use tokio::sync::broadcast::Receiver;

use crate::site::{PIN, Site, um_ip_gateway};

pub const PATIENCE: Duration = Duration::from_secs(30);
const DOMAIN: &str = "contoso.com";

/// A call in which only keys are pressed, and that UM ends.
fn session(from: &str, uri: &str, presses: &[(u64, &str)]) -> CallSpec {
    let presses = presses.iter().map(|(at, keys)| Presses::at(Duration::from_millis(*at), keys)).collect();
    CallSpec {
        request_uri: uri.to_owned(),
        to: uri.split(';').next().unwrap().to_owned(),
        from: format!("sip:{from}@{DOMAIN}"),
        diversion: Vec::new(),
        talk: None,
        presses,
        end: CallEnd::WaitForBye,
        ..CallSpec::call_answering("ken", from, DOMAIN)
    }
}

/// Facts up to the end of the call under way and what it brought, in order.
pub async fn facts_until(facts: &mut Receiver<LabFact>, is_last: impl Fn(&LabFact) -> bool) -> Vec<LabFact> {
    let mut seen = Vec::new();
    let search = async {
        loop {
            let fact = facts.recv().await.unwrap();
            let is_last = is_last(&fact);
            seen.push(fact);
            if is_last {
                return;
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, search).await;
    assert!(ended.is_ok(), "what is waited for does not come: {seen:#?}");
    seen
}

pub fn milestones(facts: &[LabFact]) -> Vec<&Milestone> {
    facts
        .iter()
        .filter_map(|f| if let LabFact::Did { milestone, .. } = f { Some(milestone) } else { None })
        .collect()
}

pub fn ends(facts: &[LabFact]) -> Vec<EndReason> {
    facts.iter().filter_map(|f| if let LabFact::Ended { why, .. } = f { Some(*why) } else { None }).collect()
}

/// A wrong PIN, the right one, and this message played.
pub fn is_let_in_at_the_second_pin(done: &[&Milestone], message: &StoredMessage) -> bool {
    matches!(
        done,
        [Milestone::LogonFailed { failures: 1, .. }, Milestone::LoggedOn { .. }, Milestone::Played { message: played, .. }]
            if *played == message.note.call_id
    )
}

fn call(site: &Site, caller: &Caller, spec: CallSpec) -> CallOutcome {
    site.block_on(caller.place_call(spec)).unwrap()
}

pub fn left(site: &Site, caller: &Caller) -> StoredMessage {
    let mut facts = site.facts();
    let outcome = call(site, caller, CallSpec::call_answering("ken", "dana", DOMAIN));
    assert_eq!(outcome.status, 200, "{outcome:?}\n{}", site.gateway.process.output());
    let seen = site.block_on(facts_until(&mut facts, |fact| matches!(fact, LabFact::Stored(_))));
    let Some(LabFact::Stored(message)) = seen.into_iter().last() else { panic!("nothing was stored") };
    *message
}

#[test]
fn an_owner_types_a_wrong_and_the_right_pin_listens_and_deletes() {
    let site = Site::start_telling();
    let front_end = site.pool("pool01");
    let mut told = site.facts();
    let message = left(&site, &front_end);
    let files = [&message.wav, &message.json, &message.eml];
    assert!(files.iter().all(|path| path.is_file()), "{message:?}");
    wait_for_indicator(&site, &mut told);
    let mut facts = site.facts();
    let right = format!("{PIN}#");
    let presses = [(500, "246802#"), (3_500, right.as_str()), (6_500, "1"), (12_500, "3"), (15_000, "*")];
    let spec = session("ken", &format!("sip:ken@{DOMAIN};opaque=app:voicemail"), &presses);
    let outcome = call(&site, &front_end, spec);
    let log = site.gateway.process.output();
    assert_eq!((outcome.status, outcome.ended_by), (200, Some(EndedBy::Them)), "{outcome:?}\n{log}");
    let heard = outcome.heard.dominant_hz.unwrap_or_default();
    assert!((heard - 440.0).abs() < 5.0, "the message was not heard but {heard} Hz");
    let seen = site.block_on(facts_until(&mut facts, |fact| matches!(fact, LabFact::Ended { .. })));
    assert!(is_let_in_at_the_second_pin(&milestones(&seen), &message), "{seen:?}\n{log}");
    assert_eq!(ends(&seen), [EndReason::Finished]);
    assert!(!files.iter().any(|path| path.exists()), "what was deleted is still there");
    wait_for_indicator(&site, &mut told);
    for pin in [PIN, "246802"] {
        assert!(!log.contains(pin), "a PIN was printed:\n{log}");
    }
    let records = site.gateway.wait_for_records(2, PATIENCE);
    assert_eq!(records[1]["call_type"], "Subscriber Access", "{:#}", records[1]);
    site.block_on(front_end.close());
}

/// The Front End has answered the next NOTIFY of what waits in a mailbox.
fn wait_for_indicator(site: &Site, told: &mut Receiver<LabFact>) {
    let seen = site.block_on(facts_until(told, |fact| matches!(fact, LabFact::Notified { .. })));
    let log = site.gateway.process.output();
    assert!(
        matches!(seen.last(), Some(LabFact::Notified { mailbox, status: 200 }) if mailbox == "ken"),
        "{seen:?}\n{log}"
    );
}

#[test]
fn a_key_of_an_attendant_is_a_refer_to_the_caller_and_its_notify_lets_um_go() {
    let site = Site::start();
    let front_end = site.pool("pool01");
    for (on_refer, status, end) in [
        (OnRefer::Follow, 200, EndReason::Transferred),
        (OnRefer::Fail(486), 486, EndReason::TooManyFailures),
    ] {
        let mut facts = site.facts();
        // After a failure the menu comes again; nonsense twice more and UM hangs up.
        let uri = format!("sip:aa-main@{DOMAIN};opaque=app:exum:DP-Sip.{DOMAIN}");
        let spec = session("dana", &uri, &[(500, "1"), (6_000, "#"), (7_000, "#")]);
        let outcome = call(&site, &front_end, CallSpec { on_refer, ..spec });
        let log = site.gateway.process.output();
        assert_eq!((outcome.status, outcome.ended_by), (200, Some(EndedBy::Them)), "{outcome:?}\n{log}");
        assert_eq!(outcome.referred_to, [format!("<sip:ken@{DOMAIN}>")], "{log}");
        let seen = site.block_on(facts_until(&mut facts, |fact| matches!(fact, LabFact::Ended { .. })));
        let done = milestones(&seen);
        assert!(
            matches!(done[..], [Milestone::Transferring { .. }, Milestone::TransferEnded { status: told, .. }] if *told == status),
            "{done:?}\n{log}"
        );
        assert_eq!(ends(&seen), [end]);
    }
}

/// A telephone of the pool that keeps what it hears: a worker of another lab under the pool's name, called for a voice memo.
fn telephone(site: &Site) -> LabUm {
    let pool = MailboxServerConfig {
        name: format!("pool01.{DOMAIN}"),
        address: site.pool_address("pool01").into(),
        service: Ports::default(),
        workers: vec![Ports { tcp: None, tls: Some(5061) }],
        max_calls_allowed: 10,
        security: PlanSecurity::Secured,
        fault: Fault::None,
        manner: Manner::default(),
        worker_fault: Fault::None,
    };
    let config = LabUmConfig {
        mailbox_servers: vec![pool],
        pki: Some(site.pki.clone()),
        voicemail: site.gateway.folder.path().join("telephone"),
        seed: 23,
        ..LabUmConfig::default()
    };
    site.block_on(LabUm::start(config)).unwrap()
}

#[test]
fn um_plays_a_message_on_the_phone_that_is_named() {
    let site = Site::start();
    let front_end = site.pool("pool01");
    let message = left(&site, &front_end);
    // Nobody of the pool is connected any more: the gateway has to call.
    site.block_on(front_end.close());
    let telephone = telephone(&site);
    let mut heard = telephone.facts();
    let order = PlayOnPhone {
        server: format!("mbx01.{DOMAIN}"),
        mailbox: "ken".to_owned(),
        message: message.note.call_id.clone(),
        to: format!("sip:dana@{DOMAIN};opaque=app:voicemail;local-resource-path=voicememo"),
    };
    let outcome = site.block_on(site.lab().play_on_phone(&order, &um_ip_gateway(site.net))).unwrap();
    let log = site.gateway.process.output();
    assert_eq!((outcome.status, outcome.ended_by), (200, Some(EndedBy::Us)), "{outcome:?}\n{log}");
    let seen = site.block_on(facts_until(&mut heard, |fact| matches!(fact, LabFact::Stored(_))));
    let Some(LabFact::Stored(played)) = seen.last() else { panic!("nothing was kept") };
    let hz = played.note.dominant_hz.unwrap_or_default();
    assert!((hz - 440.0).abs() < 5.0, "{hz} Hz instead of the message; {:?}", played.note);
    let records = site.gateway.wait_for_records(2, PATIENCE);
    assert_eq!(records[1]["call_type"], "PlayOnPhone", "{:#}", records[1]);
    site.block_on(telephone.stop());
}
