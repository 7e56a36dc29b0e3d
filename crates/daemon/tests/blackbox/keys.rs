//! Foreign telephones that press keys: SIPp behind the IP-PBX and baresip (TLS, SRTP) in a pool ring Outlook Voice Access and an auto
//! attendant through the running gateway, type PINs as events of RFC 4733, and are handed on by REFER.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use lab::LabUmConfig;
use lab::um::{EndReason, LabFact, Milestone};

use tokio::sync::broadcast::Receiver;

use crate::baresip::{CONTROL_PORT, Phone};
use crate::harness::{Process, peers_present};
use crate::media::tones::windows_of;
use crate::names::NameServer;
use crate::site::{FQDN, PBX_HOST, PIN, Site};
use crate::voice::{PATIENCE, ends, facts_until, is_let_in_at_the_second_pin, left, milestones};

/// `AccessTelephoneNumbers` of the IP-PBX's plan.
const VOICE_ACCESS: &str = "+14255550100";
/// `PilotIdentifierList` of its attendant.
const ATTENDANT: &str = "+14255550199";
/// Ken's extension.
const KEN: &str = "6095";
const WRONG_PIN: &str = "246802";

/// A site whose IP-PBX has a number for voice access and one for an attendant.
fn site() -> Site {
    let objects = |config: String| {
        let plan = "phone_context = \"DP-Pbx.contoso.com\"\n";
        assert!(config.contains(plan));
        let numbers = format!("{plan}access_telephone_numbers = [\"{VOICE_ACCESS}\"]\n");
        config.replace(plan, &numbers)
            + &format!(
                "\n[[auto_attendant]]\nname = \"aa-main\"\ndial_plan = \"DP-Pbx\"\npilot_identifiers = [\"{ATTENDANT}\"]\n"
            )
    };
    let numbers = |mut lab: LabUmConfig, _| {
        lab.access_numbers = vec![VOICE_ACCESS.to_owned()];
        lab.attendants[0].pilots = vec![ATTENDANT.to_owned()];
        lab
    };
    Site::start_changed(objects, numbers)
}

/// Presses these keys, in one go: SIPp begins each such action with the numbers and times of the first.
fn press(keys: &str) -> String {
    format!("  <nop><action><exec play_dtmf=\"{keys}\"/></action></nop>\n")
}

/// Runs SIPp as Ken's telephone until UM has hung up.
fn sipp(site: &Site, called: &str, what_follows: &str) {
    let folder = site.gateway.folder.path();
    let scenario = include_str!("sipp/keys.xml").replace("<!-- WHAT FOLLOWS -->\n", what_follows);
    std::fs::write(folder.join("keys.xml"), scenario.replace("CALLED", called).replace("CALLER", KEN))
        .unwrap();
    let (here, there) = (site.net.host(PBX_HOST).to_string(), format!("{}:5060", site.gateway.address));
    let mut command = Command::new("sipp");
    command.args([
        "-sf",
        "keys.xml",
        "-t",
        "t1",
        "-m",
        "1",
        "-mp",
        "18000",
        "-nostdin",
        "-trace_err",
        "-trace_msg",
    ]);
    command
        .args(["-i", &here, "-mi", &here, "-timeout", "60s", "-timeout_error", &there])
        .current_dir(folder);
    let mut telephone = Process::start("keys", &mut command, folder);
    let code = telephone.wait(Duration::from_secs(90));
    assert_eq!(code, 0, "{}\n{}", telephone.output(), site.gateway.process.output());
}

#[test]
fn a_telephone_of_sipp_types_a_wrong_and_the_right_pin_and_is_played_its_message() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let site = site();
    let front_end = site.pool("pool01");
    let message = left(&site, &front_end);
    let mut facts = site.facts();
    sipp(&site, VOICE_ACCESS, &press(&format!("{WRONG_PIN}#{PIN}#1**")));
    let log = site.gateway.process.output();
    let seen = site.block_on(facts_until(&mut facts, |fact| matches!(fact, LabFact::Ended { .. })));
    assert!(is_let_in_at_the_second_pin(&milestones(&seen), &message), "{seen:?}\n{log}");
    assert_eq!(ends(&seen), [EndReason::Finished]);
    let records = site.gateway.wait_for_records(2, PATIENCE);
    assert_eq!(
        (&records[1]["call_type"], &records[1]["dial_plan"]),
        (&"Subscriber Access".into(), &"DP-Pbx".into())
    );
    for pin in [PIN, WRONG_PIN] {
        assert!(!log.contains(pin), "a PIN was printed:\n{log}");
    }
    site.block_on(front_end.close());
}

#[test]
fn a_key_that_sipp_presses_in_an_attendant_brings_it_a_refer() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let site = site();
    let mut facts = site.facts();
    sipp(&site, ATTENDANT, &(press("1") + include_str!("sipp/refer.xml")));
    let seen = site.block_on(facts_until(&mut facts, |fact| matches!(fact, LabFact::Ended { .. })));
    let done = milestones(&seen);
    assert!(
        matches!(done[..], [Milestone::Transferring { .. }, Milestone::TransferEnded { status: 200, .. }]),
        "{done:?}\n{}",
        site.gateway.process.output()
    );
    assert_eq!(ends(&seen), [EndReason::Transferred]);
    let records = site.gateway.wait_for_records(1, PATIENCE);
    assert_eq!(records[0]["call_type"], "Auto Attendant", "{:#}", records[0]);
}

/// baresip in pool01, told by its control connection what to do.
struct Telephone {
    phone: Phone,
    process: Process,
    control: TcpStream,
}

impl Telephone {
    fn of(user: &str, site: &Site) -> Self {
        // What it says inside a call goes to the gateway's Contact.
        let names = NameServer::start();
        names.knows_address(FQDN, site.gateway.address);
        let phone = Phone::in_pool(site, user, Some(names.address));
        let mut process = phone.start(&site.pki, &[]);
        process.wait_for_port(phone.address.into(), CONTROL_PORT);
        let control = TcpStream::connect((phone.address, CONTROL_PORT)).unwrap();
        Self { phone, process, control }
    }

    /// One command: JSON in a netstring.
    fn tell(&mut self, command: &str, what: &str) {
        let json = serde_json::json!({ "command": command, "params": what }).to_string();
        write!(self.control, "{}:{json},", json.len()).unwrap();
    }

    fn dial(&mut self, uri: &str) {
        self.tell("dial", uri);
    }

    fn press(&mut self, keys: &str) {
        self.tell("sndcode", keys);
    }

    /// Presses these keys a moment after such a fact, and tells what happened until then.
    fn press_after(
        &mut self,
        site: &Site,
        facts: &mut Receiver<LabFact>,
        moment: Duration,
        keys: &str,
        is_it: impl Fn(&LabFact) -> bool,
    ) -> Vec<LabFact> {
        let seen = site.block_on(facts_until(facts, is_it));
        std::thread::sleep(moment);
        self.press(keys);
        seen
    }
}

fn is_answered(fact: &LabFact) -> bool {
    matches!(fact, LabFact::Answered { .. })
}

#[test]
fn baresip_types_its_pin_hears_its_message_and_deletes_it() {
    if !peers_present(&["baresip"]) {
        return;
    }
    let site = Site::start();
    let front_end = site.pool("pool01");
    let message = left(&site, &front_end);
    let mut facts = site.facts();
    let mut telephone = Telephone::of("ken", &site);
    telephone.dial("sip:ken@contoso.com;opaque=app:voicemail");
    let moment = Duration::from_millis(700);
    telephone.press_after(&site, &mut facts, moment, &format!("{PIN}#"), is_answered);
    let is = |fact: &LabFact, wanted: fn(&Milestone) -> bool| matches!(fact, LabFact::Did { milestone, .. } if wanted(milestone));
    telephone.press_after(&site, &mut facts, moment, "1", |fact| {
        is(fact, |m| matches!(m, Milestone::LoggedOn { mailbox } if mailbox == "ken"))
    });
    // Two seconds of tone, and what is said before it.
    let playing = telephone.press_after(&site, &mut facts, Duration::from_secs(6), "3", |fact| {
        is(fact, |m| matches!(m, Milestone::Played { .. }))
    });
    assert!(
        matches!(milestones(&playing)[..], [Milestone::Played { message: played, .. }] if *played == message.note.call_id),
        "{playing:?}"
    );
    telephone.press_after(&site, &mut facts, moment, "*", |fact| matches!(fact, LabFact::Deleted { .. }));
    std::thread::sleep(moment);
    telephone.press("*");
    let seen = site.block_on(facts_until(&mut facts, |fact| matches!(fact, LabFact::Ended { .. })));
    assert_eq!(ends(&seen), [EndReason::Finished], "{seen:?}");
    assert!(!message.wav.exists(), "what was deleted is still there");
    // Its recording is whole when it is gone.
    telephone.tell("quit", "");
    telephone.process.wait(PATIENCE);
    let windows = windows_of(&telephone.phone.recording(), 440.0);
    assert!(
        windows >= 15,
        "of two seconds of the message {windows} tenths were heard\n{}",
        telephone.process.output()
    );
    let log = site.gateway.process.output();
    assert!(!log.contains(PIN), "a PIN was printed:\n{log}");
    let records = site.gateway.wait_for_records(2, PATIENCE);
    assert_eq!(records[1]["call_type"], "Subscriber Access", "{:#}", records[1]);
    site.block_on(front_end.close());
}

#[test]
fn an_attendant_hands_baresip_on_by_refer_and_lets_go_when_it_says_so() {
    if !peers_present(&["baresip"]) {
        return;
    }
    let site = Site::start();
    let mut facts = site.facts();
    let mut telephone = Telephone::of("dana", &site);
    telephone.dial("sip:aa-main@contoso.com;opaque=app:exum:DP-Sip.contoso.com");
    telephone.press_after(&site, &mut facts, Duration::from_millis(700), "1", is_answered);
    let is_over = |fact: &LabFact| matches!(fact, LabFact::Ended { why: EndReason::Transferred, .. });
    let seen = site.block_on(facts_until(&mut facts, is_over));
    let done = milestones(&seen);
    let log = site.gateway.process.output();
    assert!(
        matches!(done[..], [Milestone::Transferring { to }, Milestone::TransferEnded { status: 200, .. }] if to == "sip:ken@contoso.com"),
        "{done:?}\n{}\n{log}",
        telephone.process.output()
    );
    let answered: Vec<_> = seen.iter().filter(|fact| is_answered(fact)).collect();
    assert_eq!(answered.len(), 1, "baresip called whom it was handed to: {seen:?}");
}
