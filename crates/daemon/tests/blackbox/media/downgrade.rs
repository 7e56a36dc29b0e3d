//! Descriptions that would make a call weaker than its dial plan demands (SRTP), in every place where one may stand, and clear
//! packets on a sealed leg. No message of the gateway may describe RTP without protection, no clear packet may pass.

use std::time::{Duration, Instant};

use super::end::{End, INJECTED, SPEECH, rtp};
use super::{PORTS, Relay, Umbra};
use crate::wire::{Dialog, Polled, Wire, tag, value};

const BOUNDARY: &str = "between-parts";
/// For what should not come.
const GLANCE: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_millis(500);
/// Until something must have come of an offer.
const LONGEST: Duration = Duration::from_secs(15);
const CLEAR_PACKETS: u16 = 20;

/// What a message describes that is weaker than SRTP with a key, in any of its parts.
fn weak(message: &str) -> Vec<String> {
    let mut found: Vec<(String, bool)> = Vec::new();
    for line in message.lines().map(str::trim_end) {
        if let Some(media) = line.strip_prefix("m=") {
            found.push((media.to_owned(), false));
        } else if line.starts_with("a=crypto:")
            && let Some((_, has_key)) = found.last_mut()
        {
            *has_key = true;
        }
    }
    let is_weak = |(media, has_key): &(String, bool)| {
        let words: Vec<&str> = media.split(' ').collect();
        words.get(1) != Some(&"0")
            && !(words.get(2).is_some_and(|profile| profile.ends_with("RTP/SAVP")) && *has_key)
    };
    found.into_iter().filter(is_weak).map(|(media, _)| media).collect()
}

/// The description with its protection taken away.
fn stripped(description: &str) -> String {
    let kept = description.lines().filter(|line| !line.starts_with("a=crypto:"));
    kept.map(|line| format!("{}\r\n", line.replace("RTP/SAVP", "RTP/AVP"))).collect()
}

/// The profile alone: keys are there, and nobody has to use them.
fn optional(description: &str) -> String {
    description.replace("RTP/SAVP", "RTP/AVP")
}

/// SAVP without a key.
fn keyless(description: &str) -> String {
    stripped(description).replace("RTP/AVP", "RTP/SAVP")
}

fn multipart(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| {
        format!("--{BOUNDARY}\r\nContent-Type: application/sdp\r\nContent-Disposition: session; handling=optional\r\n\r\n{part}\r\n")
    });
    format!("{}--{BOUNDARY}--\r\n", parts.collect::<String>())
}

/// As it is.
fn whole(description: &str) -> String {
    description.to_owned()
}

fn last_part_weaker(description: &str) -> String {
    multipart(&[description, &stripped(description)])
}

fn first_part_weaker(description: &str) -> String {
    multipart(&[&stripped(description), description])
}

fn nothing(_: &str) -> String {
    String::new()
}

/// What becomes of a description.
type Change = fn(&str) -> String;

/// Descriptions that demand no protection, or name no key.
const WEAK: [(&str, Change); 2] = [("RTP/AVP", stripped), ("RTP/SAVP without a key", keyless)];
/// Those that a careful reader finds something good in: taken or not, the gateway says nothing weak.
const MIXED: [(&str, Change); 3] = [
    ("RTP/AVP with keys", optional),
    ("last part weaker", last_part_weaker),
    ("first part weaker", first_part_weaker),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Caller = 0,
    Server = 1,
}

/// A gateway whose every word is judged.
struct Court {
    umbra: Umbra,
    ends: [End; 2],
    number: u32,
    cseq: u32,
    faults: Vec<String>,
    /// What is tried.
    name: String,
    /// What a server describes in an 18x before it answers.
    early: Option<Change>,
    judged: usize,
}

impl Court {
    fn opens() -> Self {
        let umbra = Umbra::start(true);
        let ends = End::pair(umbra.homes(), 0, [true; 2]);
        Self {
            umbra,
            ends,
            number: 0,
            cseq: 1,
            faults: Vec::new(),
            name: String::new(),
            early: None,
            judged: 0,
        }
    }

    /// Fresh ends, and a dialog of the caller's that is about to begin.
    fn begins(&mut self, name: String) -> Dialog {
        self.number += 1;
        (self.cseq, self.name) = (1, name);
        self.ends = End::pair(self.umbra.homes(), self.number, [true; 2]);
        Dialog::begun(&format!("weak-{}", self.number))
    }

    fn accuses(&mut self, why: String) {
        self.faults.push(format!("{}: {why}", self.name));
    }

    fn wire(&mut self, who: Who) -> &mut Wire {
        match who {
            Who::Caller => &mut self.umbra.phone,
            Who::Server => self.umbra.server(),
        }
    }

    /// The next message there, if one comes so soon. What is no part of the matter is answered; all is judged.
    fn next(&mut self, who: Who, longest: Duration) -> Option<String> {
        if who == Who::Server && self.umbra.server.is_none() {
            // The first call makes the connection.
            self.umbra.stage.um.set_nonblocking(true).unwrap();
            let accepted = self.umbra.stage.um.accept();
            self.umbra.stage.um.set_nonblocking(false).unwrap();
            let Ok((stream, _)) = accepted else { return None };
            stream.set_nonblocking(false).unwrap();
            self.umbra.server = Some(self.umbra.stage.taken(stream));
        }
        let Polled::Message(bytes) = self.wire(who).poll(longest) else { return None };
        let message = String::from_utf8_lossy(&bytes).into_owned();
        self.judged += 1;
        for media in weak(&message) {
            self.accuses(format!("{media} in\n{message}"));
        }
        if message.starts_with("OPTIONS ") || message.starts_with("BYE ") {
            self.wire(who).answers(&message, "200 OK", "");
        }
        Some(message)
    }

    /// Says an offer (or, with an empty body, asks for one) and sees it through: the other end answers `answer` of its own
    /// description, and an offer that comes back is answered with `late` of it. The final status, and the answered dialogs.
    fn offers(
        &mut self,
        who: Who,
        dialog: &Dialog,
        method: &str,
        body: &str,
        answer: Change,
        late: Change,
    ) -> (u16, Dialog, Dialog) {
        let (other, cseq) = (if who == Who::Caller { Who::Server } else { Who::Caller }, self.cseq);
        self.wire(who).asks_with(dialog, method, cseq, kind(body), body);
        let (mut dialog, mut served) = (dialog.clone(), Dialog::begun(""));
        let until = Instant::now() + LONGEST;
        while Instant::now() < until {
            if let Some(request) = self.next(other, GLANCE)
                && ["INVITE ", "UPDATE "].iter().any(|offering| request.starts_with(offering))
            {
                if request.contains("a=crypto:") {
                    self.ends[other as usize].agree(&request);
                }
                let described = self.ends[other as usize].describe();
                if let Some(early) = self.early {
                    self.wire(other).answers(&request, "183 Session Progress", &early(&described));
                }
                self.wire(other).answers(&request, "200 OK", &answer(&described));
                served = Dialog::served(&request);
            }
            let Some(response) = self.next(who, GLANCE) else { continue };
            if !response.starts_with("SIP/2.0 ")
                || response.starts_with("SIP/2.0 1")
                || !value(&response, "CSeq").ends_with(method)
            {
                continue;
            }
            let status: u16 = response[8..11].parse().unwrap();
            dialog.theirs = tag(&value(&response, "To"));
            if status < 300 && response.contains("a=crypto:") {
                self.ends[who as usize].agree(&response);
            }
            if method == "INVITE" {
                let is_late = body.is_empty() && status < 300;
                let described =
                    if is_late { late(&self.ends[who as usize].describe()) } else { String::new() };
                self.wire(who).asks_with(&dialog, "ACK", cseq, kind(&described), &described);
            }
            self.cseq += 1;
            return (status, dialog, served);
        }
        panic!("{}: nothing came of it\n{}", self.name, self.umbra.stage.umbra.process.output());
    }

    /// A call that stands, sealed on both legs.
    fn stands(&mut self, name: String) -> (Dialog, Dialog) {
        let dialog = self.begins(name);
        let offer = self.ends[0].describe();
        let (status, dialog, served) = self.offers(Who::Caller, &dialog, "INVITE", &offer, whole, nothing);
        assert_eq!(status, 200, "{}", self.name);
        (dialog, served)
    }

    /// Takes what is left on both connections.
    fn settles(&mut self) {
        for who in [Who::Caller, Who::Server] {
            while self.next(who, GLANCE).is_some() {}
        }
    }

    /// Clear packets of both ends come out nowhere; sealed ones do where the call still stands.
    fn passes_no_clear_packet(&mut self, stands: bool) {
        for (from, to) in [(0, 1), (1, 0)] {
            if !self.ends[from].is_agreed() {
                continue;
            }
            for count in 0..CLEAR_PACKETS {
                let end = &self.ends[from];
                let clear = rtp(SPEECH, end.sequence.wrapping_add(count), 160, end.ssrc, INJECTED);
                let _closed = end.rtp.send_to(&clear, end.relay().0);
            }
            let number = self.ends[from].tally.sent;
            self.ends[from].speaks();
            let has_come = self.ends[to].hears(number, if stands { PATIENCE } else { GLANCE });
            if stands && !has_come {
                self.accuses(format!("sealed packets of end {from} pass no longer"));
            }
        }
        for side in [0, 1] {
            let tally = self.ends[side].tally.clone();
            if tally.foreign > 0 {
                self.accuses(format!("clear packets came out: {tally:?}"));
            }
        }
    }

    fn hangs_up(&mut self, dialog: &Dialog) {
        let cseq = self.cseq + 20;
        self.wire(Who::Caller).asks(dialog, "BYE", cseq, "");
        std::thread::sleep(GLANCE);
        self.settles();
    }

    fn refuses(&mut self, status: u16) {
        if status < 300 {
            self.accuses(format!("taken with {status}"));
        }
    }
}

fn kind(body: &str) -> &'static str {
    match body.starts_with("--") {
        true => "Content-Type: multipart/alternative;boundary=\"between-parts\"\r\n",
        false => "",
    }
}

fn first_offers_and_answers(court: &mut Court) {
    for (name, change) in WEAK.into_iter().chain(MIXED) {
        let dialog = court.begins(format!("first offer, {name}"));
        let offer = change(&court.ends[0].describe());
        let (status, dialog, _) = court.offers(Who::Caller, &dialog, "INVITE", &offer, whole, nothing);
        if WEAK.iter().any(|(known, _)| *known == name) {
            court.refuses(status);
        }
        court.passes_no_clear_packet(status < 300);
        if status < 300 {
            court.hangs_up(&dialog);
        }
        court.settles();
    }
    for (name, change) in WEAK.into_iter().chain([MIXED[0]]) {
        for is_late in [false, true] {
            let dialog = court.begins(format!("answer, {name}, late offer {is_late}"));
            let offer = if is_late { String::new() } else { court.ends[0].describe() };
            let (status, dialog, _) = court.offers(Who::Caller, &dialog, "INVITE", &offer, change, whole);
            court.refuses(status);
            court.settles();
            court.passes_no_clear_packet(false);
            if status < 300 {
                court.hangs_up(&dialog);
            }
        }
    }
}

fn early_answers(court: &mut Court) {
    for (name, change) in WEAK.into_iter().chain([MIXED[0]]) {
        for is_better in [false, true] {
            let answer = if is_better { whole } else { change };
            court.early = Some(change);
            let dialog = court.begins(format!("18x, {name}, then a better answer {is_better}"));
            let offer = court.ends[0].describe();
            let (status, dialog, _) = court.offers(Who::Caller, &dialog, "INVITE", &offer, answer, nothing);
            court.early = None;
            if !is_better {
                court.refuses(status);
            }
            court.settles();
            court.passes_no_clear_packet(false);
            if status < 300 {
                court.hangs_up(&dialog);
            }
        }
    }
}

fn late_answers(court: &mut Court) {
    for (name, change) in WEAK.into_iter().chain(MIXED) {
        let dialog = court.begins(format!("answer in the ACK, {name}"));
        court.offers(Who::Caller, &dialog, "INVITE", "", whole, change);
        court.settles();
        court.passes_no_clear_packet(false);
        court.hangs_up(&dialog);
    }
}

fn offers_inside(court: &mut Court) {
    for (name, change) in WEAK.into_iter().chain(MIXED) {
        for (who, method) in [
            (Who::Caller, "INVITE"),
            (Who::Caller, "UPDATE"),
            (Who::Server, "INVITE"),
            (Who::Server, "UPDATE"),
        ] {
            let (caller, served) = court.stands(format!("{method} of the {who:?} inside, {name}"));
            let dialog = if who == Who::Caller { caller.clone() } else { served };
            let offer = change(&court.ends[who as usize].describe());
            let (status, ..) = court.offers(who, &dialog, method, &offer, whole, nothing);
            if WEAK.iter().any(|(known, _)| *known == name) {
                court.refuses(status);
            }
            court.settles();
            // Refused or taken, the call stands, as sealed as before.
            court.passes_no_clear_packet(true);
            court.hangs_up(&caller);
        }
    }
}

fn answers_inside(court: &mut Court) {
    for (name, change) in WEAK.into_iter().chain([MIXED[0]]) {
        for who in [Who::Caller, Who::Server] {
            for is_late in [false, true] {
                for is_asker in [false, true] {
                    // Who offers has no answer to weaken.
                    if is_asker && !is_late {
                        continue;
                    }
                    let what = if is_asker { "in the ACK" } else { "in the 200" };
                    let (caller, served) = court
                        .stands(format!("{who:?} asks inside, offer brought {}, {what} {name}", !is_late));
                    let dialog = if who == Who::Caller { caller.clone() } else { served };
                    let offer = if is_late { String::new() } else { court.ends[who as usize].describe() };
                    let (answer, late): (Change, Change) =
                        if is_asker { (whole, change) } else { (change, whole) };
                    let (status, ..) = court.offers(who, &dialog, "INVITE", &offer, answer, late);
                    if !is_asker {
                        court.refuses(status);
                    }
                    court.settles();
                    court.passes_no_clear_packet(false);
                    court.hangs_up(&caller);
                }
            }
        }
    }
}

fn all_stay_sealed(what: fn(&mut Court)) {
    let mut court = Court::opens();
    what(&mut court);
    println!("{} calls, {} messages judged", court.number, court.judged);
    assert!(court.faults.is_empty(), "{}", court.faults.join("\n\n"));
}

#[test]
fn no_first_offer_and_no_answer_to_it_makes_a_sealed_call_weaker() {
    all_stay_sealed(first_offers_and_answers);
}

#[test]
fn no_early_answer_makes_a_sealed_call_weaker() {
    all_stay_sealed(early_answers);
}

#[test]
fn no_answer_in_an_ack_makes_a_sealed_call_weaker() {
    all_stay_sealed(late_answers);
}

#[test]
fn no_offer_inside_a_sealed_call_makes_it_weaker() {
    all_stay_sealed(offers_inside);
}

#[test]
fn no_answer_inside_a_sealed_call_makes_it_weaker() {
    all_stay_sealed(answers_inside);
}

#[test]
fn the_judge_sees_what_is_weaker() {
    let [mut end, _] = End::pair([std::net::Ipv4Addr::LOCALHOST; 2], 0, [true; 2]);
    let strong = end.describe();
    assert_eq!(weak(&strong), [""; 0]);
    for (_, change) in WEAK.into_iter().chain(MIXED) {
        assert_eq!(weak(&change(&strong)).len(), 1, "{}", change(&strong));
    }
    let refused = strong.replace(&format!("m=audio {}", end.rtp.local_addr().unwrap().port()), "m=audio 0");
    assert_eq!(weak(&stripped(&refused)), [""; 0]);
}

#[test]
fn the_probe_sees_a_gateway_whose_plan_does_without_srtp() {
    let mut court = Court::opens();
    court.umbra = Umbra::start_as(true, PORTS, |config| {
        config.replace("voip_security = \"Secured\"", "voip_security = \"SIPSecured\"")
    });
    let dialog = court.begins("a weaker plan".to_owned());
    let offer = stripped(&court.ends[0].describe());
    let (status, ..) = court.offers(Who::Caller, &dialog, "INVITE", &offer, stripped, nothing);
    court.refuses(status);
    let faults = court.faults.join("\n");
    assert!(faults.contains("RTP/AVP") && faults.contains("taken with 200"), "{faults}");
}
