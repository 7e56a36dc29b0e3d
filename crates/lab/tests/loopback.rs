//! The lab on real loopback sockets, without a gateway: the Front End calls workers, services and Call Routers directly.

#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, where a panic is a failed test

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use umbra_lab::frontend::{
    CallEnd, CallSpec, Caller, CallerConfig, CallerError, EndedBy, OfferShape, Target, TlsTarget,
};
use umbra_lab::pki::{CertSpec, KeyKind, Naming, Pki};
use umbra_lab::shell::{LabUmConfig, ListenRole, PlayOnPhone, UmIpGateway, UmTransport};
use umbra_lab::um::{
    AnswerRules, CallRouterConfig, Fault, LabFact, MailboxConfig, MailboxServerConfig, Manner, MediaKind,
    PlanSecurity, Ports,
};
use umbra_lab::{LabUm, audio};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MAILBOX_SERVER: &str = "mbx01.contoso.test";
const CALL_ROUTER: &str = "cas01.contoso.test";
const PATIENCE: Duration = Duration::from_secs(20);
const ANY: Ports = Ports { tcp: Some(0), tls: Some(0) };

struct Stage {
    lab: LabUm,
    pki: Arc<Pki>,
    folder: tempfile::TempDir,
}

async fn stage(security: PlanSecurity, answer: AnswerRules, fault: Fault) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let pki = Arc::new(Pki::open(&folder.path().join("pki")).unwrap());
    let lab = LabUm::start(LabUmConfig {
        call_routers: vec![CallRouterConfig {
            name: CALL_ROUTER.to_owned(),
            address: LOOPBACK,
            ports: ANY,
            manner: Manner::default(),
            fault: Fault::None,
        }],
        mailbox_servers: vec![MailboxServerConfig {
            name: MAILBOX_SERVER.to_owned(),
            address: LOOPBACK,
            service: ANY,
            workers: vec![ANY],
            max_calls_allowed: 100,
            security,
            fault: Fault::None,
            manner: Manner::default(),
            worker_fault: fault,
        }],
        mailboxes: vec![MailboxConfig {
            alias: "ken".to_owned(),
            sip: Some("sip:ken@contoso.test".to_owned()),
            ..MailboxConfig::default()
        }],
        answer,
        pki: Some(pki.clone()),
        voicemail: folder.path().join("voicemail"),
        seed: 7,
        ..LabUmConfig::default()
    })
    .await
    .unwrap();
    Stage { lab, pki, folder }
}

impl Stage {
    fn tls(&self, role: ListenRole, name: &str) -> Target {
        let listening = self.lab.listening();
        let entry = listening.iter().find(|l| l.role == role).unwrap();
        let identity =
            self.pki.ca().issue(&CertSpec::host("pool01.contoso.test").key(KeyKind::EcdsaP256)).unwrap();
        Target {
            address: entry.tls.unwrap(),
            tls: Some(TlsTarget {
                identity: Some(identity),
                roots: self.pki.roots(),
                expected_name: name.to_owned(),
            }),
        }
    }

    fn tcp(&self, role: ListenRole) -> Target {
        let listening = self.lab.listening();
        let entry = listening.iter().find(|l| l.role == role).unwrap();
        Target { address: entry.tcp.unwrap(), tls: None }
    }
}

fn front_end() -> CallerConfig {
    CallerConfig {
        fqdn: "pool01.contoso.test".to_owned(),
        sip_domain: "contoso.test".to_owned(),
        address: LOOPBACK,
        seed: 11,
    }
}

fn deposit(shape: OfferShape) -> CallSpec {
    let mut spec = CallSpec::call_answering("ken", "dana", "contoso.test");
    spec.shape = shape;
    if let Some(talk) = &mut spec.talk {
        talk.lasts = Duration::from_secs(1);
    }
    spec
}

async fn fact<T>(facts: &mut Receiver<LabFact>, wanted: impl Fn(LabFact) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(facts.recv().await.unwrap()) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the fact comes")
}

fn stored(fact: LabFact) -> Option<umbra_lab::um::StoredMessage> {
    match fact {
        LabFact::Stored(message) => Some(*message),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_left_over_tls_and_srtp_is_stored_with_its_tone() {
    let stage = stage(PlanSecurity::Secured, AnswerRules::default(), Fault::None).await;
    let mut facts = stage.lab.facts();
    let caller =
        Caller::connect(front_end(), stage.tls(ListenRole::Worker(0), MAILBOX_SERVER)).await.unwrap();
    for shape in [OfferShape::Lync2013Multipart, OfferShape::Lync2015] {
        let outcome = caller.place_call(deposit(shape)).await.unwrap();
        assert_eq!(
            (outcome.status, outcome.answer_fault.clone()),
            (200, None),
            "{shape:?} {:?}",
            outcome.header("warning")
        );
        assert_eq!((outcome.media, outcome.ended_by), (Some(MediaKind::Srtp), Some(EndedBy::Us)));
        assert_eq!(outcome.heard.rejected, 0);
        assert!(outcome.heard.beep_at.is_some(), "{:?}", outcome.heard);
        let hz = outcome.heard.dominant_hz.unwrap();
        assert!((audio::BEEP_HZ - hz).abs() < 5.0, "{hz}");
        assert!(outcome.heard.greeting_dbfs > -40.0, "{:?}", outcome.heard);
        let message = fact(&mut facts, stored).await;
        assert!((message.note.dominant_hz.unwrap() - 440.0).abs() < 4.0, "{:?}", message.note);
        assert!((0.8..2.5).contains(&message.note.duration_s), "{:?}", message.note);
        assert_eq!((message.note.mailbox.as_str(), message.note.security.as_str()), ("ken", "Secured"));
        let samples = audio::read_wav(&message.wav).unwrap();
        assert_eq!(samples.len() as f64 / 8_000.0, message.note.duration_s);
    }
    caller.close().await;
    stage.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_calls_and_late_offers_work_over_tcp() {
    let stage = stage(PlanSecurity::Unsecured, AnswerRules::default(), Fault::None).await;
    let mut facts = stage.lab.facts();
    let caller = Caller::connect(front_end(), stage.tcp(ListenRole::Worker(0))).await.unwrap();
    let (pbx, late) = tokio::join!(
        caller.place_call(deposit(OfferShape::PbxTcp)),
        caller.place_call(deposit(OfferShape::LateOffer))
    );
    for outcome in [pbx.unwrap(), late.unwrap()] {
        assert_eq!((outcome.status, outcome.media), (200, Some(MediaKind::Rtp)), "{outcome:?}");
        let message = fact(&mut facts, stored).await;
        assert!((message.note.dominant_hz.unwrap() - 440.0).abs() < 4.0, "{:?}", message.note);
        assert_eq!(message.note.security, "Unsecured");
    }
    caller.close().await;
    stage.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_the_recording_and_the_worker_hangs_up() {
    let rules = AnswerRules { recording_idle_timeout: Duration::from_millis(600), ..AnswerRules::default() };
    let stage = stage(PlanSecurity::SipSecured, rules, Fault::None).await;
    let mut facts = stage.lab.facts();
    let caller =
        Caller::connect(front_end(), stage.tls(ListenRole::Worker(0), MAILBOX_SERVER)).await.unwrap();
    let mut spec = deposit(OfferShape::LyncNone);
    spec.end = CallEnd::WaitForBye;
    let outcome = caller.place_call(spec).await.unwrap();
    assert_eq!((outcome.status, outcome.ended_by), (200, Some(EndedBy::Them)));
    let message = fact(&mut facts, stored).await;
    assert_eq!(
        (message.note.end, message.note.security.as_str()),
        (umbra_lab::um::EndReason::Silence, "SIPSecured")
    );
    caller.close().await;
    stage.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_and_services_redirect_in_exchange_spelling_and_answer_options() {
    let stage = stage(PlanSecurity::Secured, AnswerRules::default(), Fault::None).await;
    for (role, name) in [(ListenRole::CallRouter, CALL_ROUTER), (ListenRole::UmService, MAILBOX_SERVER)] {
        let caller = Caller::connect(front_end(), stage.tls(role, name)).await.unwrap();
        assert_eq!(caller.options(&format!("sip:{name}")).await.unwrap(), 200);
        let outcome = caller.place_call(deposit(OfferShape::Lync2015)).await.unwrap();
        assert_eq!((outcome.status, outcome.redirects_seen), (302, 1));
        let names: Vec<&str> = outcome.headers.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names[..5], ["FROM", "TO", "CSEQ", "CALL-ID", "VIA"]);
        let contact = outcome.header("contact").unwrap();
        assert!(contact.starts_with(&format!("<sip:ken@{MAILBOX_SERVER}:")), "{contact}");
        assert!(contact.contains(&format!(";user=phone;transport=Tls;maddr={MAILBOX_SERVER}>")), "{contact}");
        caller.close().await;
    }
    stage.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_gives_up_while_it_rings_leaves_a_missed_call() {
    let stage = stage(PlanSecurity::Secured, AnswerRules::default(), Fault::RingsForever).await;
    let mut facts = stage.lab.facts();
    let caller =
        Caller::connect(front_end(), stage.tls(ListenRole::Worker(0), MAILBOX_SERVER)).await.unwrap();
    let mut spec = deposit(OfferShape::Lync2015);
    spec.end = CallEnd::CancelAfter(Duration::from_millis(300));
    let outcome = caller.place_call(spec).await.unwrap();
    assert_eq!((outcome.status, outcome.ended_by), (487, None));
    assert!(outcome.provisional.contains(&180), "{:?}", outcome.provisional);
    let missed = fact(&mut facts, |f| match f {
        LabFact::Missed { missed, json } => Some((missed, json)),
        _ => None,
    })
    .await;
    assert_eq!(missed.0.mailbox, "ken");
    assert_eq!(missed.1, stage.folder.path().join("voicemail/ken/missed-0001.json"));
    caller.close().await;
    stage.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_does_not_fit_the_plan_is_refused_with_488() {
    let stage = stage(PlanSecurity::Secured, AnswerRules::default(), Fault::None).await;
    let caller =
        Caller::connect(front_end(), stage.tls(ListenRole::Worker(0), MAILBOX_SERVER)).await.unwrap();
    let outcome = caller.place_call(deposit(OfferShape::LyncNone)).await.unwrap();
    assert_eq!(outcome.status, 488);
    assert!(outcome.header("Warning").unwrap().contains("Secured"));
    caller.close().await;
    stage.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_wrong_names_do_not_get_through_tls() {
    let mut stage = stage(PlanSecurity::Secured, AnswerRules::default(), Fault::None).await;
    let wrong_name = stage.tls(ListenRole::Worker(0), "mbx02.contoso.test");
    assert!(matches!(Caller::connect(front_end(), wrong_name).await, Err(CallerError::Tls(_))));

    let foreign = umbra_lab::pki::LabCa::create("foreign root").unwrap();
    let stranger = foreign.issue(&CertSpec::host("pool01.contoso.test").naming(Naming::SubjectOnly)).unwrap();
    for identity in [None, Some(stranger)] {
        let mut target = stage.tls(ListenRole::Worker(0), MAILBOX_SERVER);
        if let Some(tls) = &mut target.tls {
            tls.identity = identity;
        }
        let mut facts = stage.lab.facts();
        // With TLS 1.3 the client may learn of the refusal only after its own handshake.
        if let Ok(caller) = Caller::connect(front_end(), target).await {
            assert_eq!(caller.options("sip:x").await.unwrap_or(0), 0);
            caller.close().await;
        }
        let why = fact(&mut facts, |f| match f {
            LabFact::ConnectionFailed { why, .. } => Some(why),
            _ => None,
        })
        .await;
        assert!(why.contains("TLS handshake"), "{why}");
    }
    stage.lab.set_fault(MAILBOX_SERVER, Fault::Dead).await.unwrap();
    let target = stage.tls(ListenRole::Worker(0), MAILBOX_SERVER);
    assert!(matches!(Caller::connect(front_end(), target.clone()).await, Err(CallerError::Connect(_))));
    stage.lab.set_fault(MAILBOX_SERVER, Fault::None).await.unwrap();
    Caller::connect(front_end(), target).await.unwrap().close().await;
    stage.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_requests_get_their_responses_back() {
    let stage = stage(PlanSecurity::Unsecured, AnswerRules::default(), Fault::None).await;
    let caller = Caller::connect(front_end(), stage.tcp(ListenRole::UmService)).await.unwrap();
    let raw = "OPTIONS sip:um SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKraw\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:um>\r\nCall-ID: raw\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 0\r\nContent-Length: 0\r\n\r\n";
    let got = caller.send_raw(Bytes::from(raw), Duration::from_millis(500)).await.unwrap();
    assert_eq!(got.len(), 1);
    assert!(got[0].starts_with(b"SIP/2.0 200"));
    caller.close().await;
    stage.lab.stop().await;
}

/// There is no gateway here: the worker itself is called, and takes it for a voice memo.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_played_on_the_phone_that_is_named_and_counts_as_heard() {
    let stage = stage(PlanSecurity::Secured, AnswerRules::default(), Fault::None).await;
    let mut facts = stage.lab.facts();
    let caller =
        Caller::connect(front_end(), stage.tls(ListenRole::Worker(0), MAILBOX_SERVER)).await.unwrap();
    caller.place_call(deposit(OfferShape::Lync2015)).await.unwrap();
    caller.close().await;
    let left = fact(&mut facts, stored).await;
    let listening = stage.lab.listening();
    let worker = listening.iter().find(|l| l.role == ListenRole::Worker(0)).unwrap();
    let gateway = UmIpGateway {
        name: MAILBOX_SERVER.to_owned(),
        address: worker.tls.unwrap(),
        transport: UmTransport::Tls,
    };
    let order = PlayOnPhone {
        server: MAILBOX_SERVER.to_owned(),
        mailbox: "ken".to_owned(),
        message: left.note.call_id.clone(),
        to: "sip:dana@contoso.test;opaque=app:voicemail;local-resource-path=voicememo".to_owned(),
    };
    let mut others = stage.lab.facts();
    let outcome = stage.lab.play_on_phone(&order, &gateway).await.unwrap();
    assert_eq!(
        (outcome.status, outcome.media, outcome.ended_by),
        (200, Some(MediaKind::Srtp), Some(EndedBy::Us))
    );
    let heard = fact(&mut facts, |f| match f {
        LabFact::Waiting(waiting) if waiting.new == 0 => Some(waiting),
        _ => None,
    })
    .await;
    assert_eq!((heard.mailbox.as_str(), heard.old), ("ken", 1));
    let played = fact(&mut others, stored).await;
    assert_eq!(played.note.mailbox, "dana");
    assert!(
        (played.note.dominant_hz.unwrap() - 440.0).abs() < 4.0,
        "the message was played: {:?}",
        played.note
    );
    let unknown = PlayOnPhone { message: "none".to_owned(), ..order };
    assert!(stage.lab.play_on_phone(&unknown, &gateway).await.is_err());
    stage.lab.stop().await;
}
