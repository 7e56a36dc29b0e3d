//! The eight calls: what each shows, how it is placed, in which order. Owns the script; refuses to judge what came of it.

use std::time::Duration;

use lab::frontend::{
    CallEnd, CallOutcome, CallSpec, Caller, CallerError, OfferShape, Presses, Talk, TalkStart,
};
use lab::um::Fault;
use tokio::task::JoinHandle;

use super::DemoError;
use super::config::{ATTENDANT, DOMAIN, GATEWAY, KEN_PIN, MAILBOX_SERVERS, PBX_PILOT, PLANS, ROUTER};
use super::facts::{answered, notified, redirected, stored};
use super::site::Site;

/// What a call shows.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Shows {
    /// TLS and SRTP on both legs, two redirects.
    Secured,
    /// TLS and RTP.
    SipSecured,
    /// TCP and RTP.
    Plain,
    /// The first Mailbox server is dead.
    FailOver,
    /// The caller gives up before the answer.
    Missed,
    /// Pool and plan do not fit.
    Refusal,
    /// Outlook Voice Access, with a PIN.
    VoiceAccess,
    /// An auto attendant, whose key is a REFER.
    Attendant,
}

/// One call of the demo.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) number: u8,
    pub(super) shows: Shows,
    pub(super) name: &'static str,
    pub(super) story: &'static str,
    /// Exchange's word for the plan.
    pub(super) plan_security: &'static str,
    /// Tone the caller sends: none of the greeting's, each call its own.
    pub(super) hz: f64,
}

/// In the order shown.
pub(super) const SCENES: [Scene; 8] = [
    Scene {
        number: 1,
        shows: Shows::Secured,
        name: "call answering",
        story: "dana → ken, two redirects",
        plan_security: "Secured",
        hz: 440.0,
    },
    Scene {
        number: 2,
        shows: Shows::SipSecured,
        name: "call answering",
        story: "dana → lee, TLS with plain RTP",
        plan_security: "SIPSecured",
        hz: 620.0,
    },
    Scene {
        number: 3,
        shows: Shows::Plain,
        name: "plain gateway",
        story: "IP-PBX 2002 → 1003 over TCP",
        plan_security: "Unsecured",
        hz: 880.0,
    },
    Scene {
        number: 4,
        shows: Shows::FailOver,
        name: "fail-over",
        story: "first Mailbox server is dead",
        plan_security: "Secured",
        hz: 1_000.0,
    },
    Scene {
        number: 5,
        shows: Shows::Missed,
        name: "missed call",
        story: "caller hangs up during set-up",
        plan_security: "Secured",
        hz: 0.0,
    },
    Scene {
        number: 6,
        shows: Shows::Refusal,
        name: "refusal (expected)",
        story: "pool Required × plan SIPSecured",
        plan_security: "SIPSecured",
        hz: 0.0,
    },
    Scene {
        number: 7,
        shows: Shows::VoiceAccess,
        name: "voice access",
        story: "ken, PIN by keys: hears message 1",
        plan_security: "Secured",
        hz: 0.0,
    },
    Scene {
        number: 8,
        shows: Shows::Attendant,
        name: "auto attendant",
        story: "dana presses 1: REFER to ken",
        plan_security: "Secured",
        hz: 0.0,
    },
];

/// How long the caller talks.
const TALK: Duration = Duration::from_millis(2_500);
/// The same in `--quick`.
const TALK_QUICK: Duration = Duration::from_millis(600);
const LEVEL_DBFS: f64 = -15.0;
/// Keys begin this long after the answer.
const FIRST_KEY: Duration = Duration::from_millis(300);
/// By then the message has been played, and the caller leaves by both menus.
const LISTENS: Duration = Duration::from_millis(7_500);
/// The missed call rings this long.
const RINGS: Duration = Duration::from_millis(500);
/// No call of the demo lasts longer.
const CALL_MAX: Duration = Duration::from_secs(12);
/// Nor one in which keys are pressed.
const KEYS_MAX: Duration = Duration::from_secs(20);
/// Patience for one step of the script.
const STEP_MAX: Duration = Duration::from_secs(5);

/// How much of the demo is run.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Length {
    /// All eight calls.
    Whole,
    /// The first call, with a short message.
    Quick,
}

/// A call and what came of it.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) scene: &'static Scene,
    pub(super) outcome: Result<CallOutcome, CallerError>,
    /// Server whose turn it was and which was dead; fail-over only.
    pub(super) dead_server: Option<&'static str>,
    /// How long the caller talked after the beep.
    pub(super) talked: Duration,
}

type Running = JoinHandle<Result<CallOutcome, CallerError>>;

/// Places call 1 alone, or all eight, as much at once as their order allows.
pub(super) async fn place_all(site: &mut Site, length: Length) -> Result<Vec<Placed>, DemoError> {
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = &SCENES;
    let one = start(site, first, length);
    site.facts.wait_for(1, STEP_MAX, redirected).await;
    if length == Length::Quick {
        let placed = vec![Placed { talked: TALK_QUICK, ..finish(first, one).await? }];
        settle(site, 1, 1).await;
        return Ok(placed);
    }
    let two = start(site, second, length);
    let three = start(site, third, length);
    let six = start(site, sixth, length);
    site.facts.wait_for(3, STEP_MAX, answered).await;
    let five = missed(site, fifth).await?;
    let mut placed = vec![finish(first, one).await?, finish(second, two).await?, finish(third, three).await?];
    placed.push(fail_over(site, fourth).await?);
    placed.push(five);
    placed.push(finish(sixth, six).await?);
    site.facts.wait_for(4, STEP_MAX, stored).await;
    let (seven, eight) = (start(site, seventh, length), start(site, eighth, length));
    placed.push(finish(seventh, seven).await?);
    placed.push(finish(eighth, eight).await?);
    // Ken's two messages, and one of them heard.
    settle(site, 4, 3).await;
    Ok(placed)
}

/// Waits until messages are on disk, Ken's pool was told of them, and the gateway holds no call.
async fn settle(site: &Site, messages: usize, notifications: usize) {
    site.facts.wait_for(messages, STEP_MAX, stored).await;
    site.facts.wait_for(notifications, STEP_MAX, |fact| notified(fact, "ken")).await;
    let until = tokio::time::Instant::now() + STEP_MAX;
    while tokio::time::Instant::now() < until {
        match site.status().await {
            Some(status) if status.calls > 0 => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return,
        }
    }
}

/// Workers of the server whose turn it is ring without end, and the caller loses patience.
async fn missed(site: &mut Site, scene: &'static Scene) -> Result<Placed, DemoError> {
    let server = in_turn(site);
    site.lab.set_worker_fault(server, Fault::RingsForever).await?;
    let placed = finish(scene, start(site, scene, Length::Whole)).await?;
    site.lab.set_worker_fault(server, Fault::None).await?;
    Ok(placed)
}

/// The server whose turn it is dies; the call router does not know.
async fn fail_over(site: &mut Site, scene: &'static Scene) -> Result<Placed, DemoError> {
    let server = in_turn(site);
    site.lab.set_fault(server, Fault::Dead).await?;
    let placed = finish(scene, start(site, scene, Length::Whole)).await?;
    site.lab.set_fault(server, Fault::None).await?;
    Ok(Placed { dead_server: Some(server), ..placed })
}

/// The Mailbox server that the Call Router will name next.
fn in_turn(site: &Site) -> &'static str {
    MAILBOX_SERVERS[site.facts.redirects_of(ROUTER) % MAILBOX_SERVERS.len()]
}

fn start(site: &Site, scene: &Scene, length: Length) -> Running {
    let (caller, mut spec): (Caller, CallSpec) = match scene.shows {
        Shows::Secured | Shows::FailOver => (site.pool(0), deposit("ken", OfferShape::Lync2015, scene)),
        Shows::SipSecured => (site.pool(1), deposit("lee", OfferShape::LyncOptional, scene)),
        Shows::Plain => (site.pbx(), from_pbx(scene)),
        Shows::Missed => {
            let spec = deposit("ken", OfferShape::Lync2015, scene);
            (site.pool(0), CallSpec { talk: None, end: CallEnd::CancelAfter(RINGS), ..spec })
        }
        Shows::Refusal => (site.pool(2), deposit("lee", OfferShape::Lync2015, scene)),
        Shows::VoiceAccess => {
            let presses = vec![Presses::at(FIRST_KEY, &format!("{KEN_PIN}#1")), Presses::at(LISTENS, "**")];
            (site.pool(0), keys("ken", &format!("sip:ken@{DOMAIN};opaque=app:voicemail"), presses, scene))
        }
        Shows::Attendant => {
            let (user, plan) = (ATTENDANT.2, PLANS[0].0);
            let contact = format!("sip:{user}@{DOMAIN};opaque=app:exum:{plan}.{DOMAIN}");
            (site.pool(0), keys("dana", &contact, vec![Presses::at(FIRST_KEY, "1")], scene))
        }
    };
    if let (Length::Quick, Some(talk)) = (length, &mut spec.talk) {
        talk.lasts = TALK_QUICK;
    }
    tokio::spawn(async move { caller.place_call(spec).await })
}

async fn finish(scene: &'static Scene, running: Running) -> Result<Placed, DemoError> {
    let outcome = running.await.map_err(|_| DemoError::Interrupted)?;
    Ok(Placed { scene, outcome, dead_server: None, talked: TALK })
}

fn deposit(alias: &str, shape: OfferShape, scene: &Scene) -> CallSpec {
    let talk = Talk { hz: scene.hz, level_dbfs: LEVEL_DBFS, lasts: TALK, start: TalkStart::AfterBeep };
    CallSpec {
        shape,
        talk: Some(talk),
        time_limit: CALL_MAX,
        from_display: String::from("Dana"),
        ..CallSpec::call_answering(alias, "dana", DOMAIN)
    }
}

/// A call in which keys are pressed, and that UM ends.
fn keys(from: &str, request_uri: &str, presses: Vec<Presses>, scene: &Scene) -> CallSpec {
    CallSpec {
        request_uri: request_uri.to_owned(),
        to: request_uri.split(';').next().unwrap_or_default().to_owned(),
        from: format!("sip:{from}@{DOMAIN}"),
        from_display: String::from(from),
        diversion: Vec::new(),
        talk: None,
        presses,
        end: CallEnd::WaitForBye,
        time_limit: KEYS_MAX,
        ..deposit("ken", OfferShape::Lync2015, scene)
    }
}

fn from_pbx(scene: &Scene) -> CallSpec {
    CallSpec {
        request_uri: format!("sip:{PBX_PILOT}@{GATEWAY};user=phone"),
        to: format!("sip:{PBX_PILOT}@{GATEWAY}"),
        from: format!("sip:2002@pbx.{DOMAIN}"),
        from_display: String::from("2002"),
        diversion: vec![format!("\"Mia\"<sip:1003@pbx.{DOMAIN}>;privacy=off;reason=no-answer;screen=yes")],
        ..deposit("mia", OfferShape::PbxTcp, scene)
    }
}
