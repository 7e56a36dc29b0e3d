//! `umbra lab call`: one call as a pool or IP-PBX of the lab file, by way of its UM IP gateway. Owns the words typed and the text printed; the call is
//! the lab's Front End's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lab::audio::read_wav;
use lab::frontend::{
    CallEnd, CallOutcome, CallSpec, Caller, CallerConfig, CallerError, EndedBy, OfferShape, Presses, Talk,
    TalkStart, Target, TlsTarget,
};
use lab::pki::{Pki, PkiError};
use lab::shell::UmTransport;
use serde::Serialize;

use super::{Named, on_runtime, open_pki};
use crate::cli::{Exit, Format, Screen, escaped, escaped_lines};
use crate::config::lab_file::{CallerSpec, LabFile, OFFERS};

/// Who calls when nobody is named.
const FROM: &str = "dana";
const TALK_DBFS: f64 = -15.0;
/// The caller stays so long after the last key, unless told otherwise.
const STAY: f64 = 5.0;
/// A call that goes on and on is given up this long after what was asked for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest talk, stay or wait.
const SECONDS_MAX: f64 = 3_600.0;
/// Between two keys, and what a comma stands for.
const KEY_SECONDS: f64 = 0.4;
const COMMA_SECONDS: f64 = 1.0;

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:
  umbra lab call ken --talk 3                       dana's call to ken, forwarded to voice mail
  umbra lab call ken --from ken --keys 135790#      ken's own mailbox
  umbra lab call ova --from ken --keys 135790#,,1   Outlook Voice Access; a comma waits a second
  umbra lab call aa-main --keys 1                   an attendant
  umbra lab call 88895 --as pbx.contoso.test --diversion 'sip:1003@pbx.contoso.test'
  umbra lab call ken --as pool03.contoso.test --expect 488",
    after_help = "Exit codes: 0 the expected status, and an answer that keeps the rules; 1 anything else; 69 the gateway cannot be reached; \
                  78 bad lab file."
)]
pub(super) struct CallArgs {
    /// A mailbox, access number or attendant of the lab file, a number, or a whole SIP URI, which is dialled as it stands
    to: String,
    #[command(flatten)]
    file: Named,
    /// Which [[caller]] of the lab file calls; the first one unless named
    #[arg(long = "as", value_name = "NAME")]
    caller: Option<String>,
    /// Who is in From: a user or a whole SIP URI
    #[arg(long, value_name = "WHO", default_value = FROM)]
    from: String,
    /// Diversion: a URI; for mailboxes that somebody else calls it is there by itself
    #[arg(long, value_name = "URI")]
    diversion: Vec<String>,
    /// What is offered, instead of what the caller's entry says: Lync2013, Lync2015, LyncOptional, LyncNone, Pbx, PbxLate
    #[arg(long, value_name = "SHAPE", value_parser = offer)]
    offer: Option<OfferShape>,
    /// Talk so many seconds after the beep, as a tone, then hang up
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with_all = ["play", "keys"])]
    talk: Option<f64>,
    /// The tone of --talk
    #[arg(long, value_name = "HZ", default_value_t = 440.0)]
    hz: f64,
    /// Play a WAV file (8 kHz mono) after the answer, then hang up
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    play: Option<PathBuf>,
    /// Keys to press after the answer; a comma waits a second
    #[arg(long, value_name = "KEYS", value_parser = keys)]
    keys: Option<String>,
    /// Stay so many seconds after the answer, or the last key
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    stay: Option<f64>,
    /// Give up so many seconds after the INVITE
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with_all = ["talk", "play", "keys", "stay"])]
    cancel: Option<f64>,
    /// The status that counts as success
    #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(100..=699))]
    expect: u16,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=SECONDS_MAX).contains(number));
    number.ok_or_else(|| format!("wanted: seconds, 0 to {SECONDS_MAX}"))
}

fn offer(text: &str) -> Result<OfferShape, String> {
    let hit = OFFERS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    hit.map(|(_, shape)| *shape)
        .ok_or_else(|| format!("wanted: one of {}", OFFERS.map(|(word, _)| word).join(", ")))
}

fn keys(text: &str) -> Result<String, String> {
    let is_key = |c: char| c.is_ascii_digit() || matches!(c, '*' | '#' | ',' | 'A'..='D');
    if text.chars().all(is_key) {
        Ok(text.to_owned())
    } else {
        Err("wanted: 0 to 9, *, #, A to D and commas".to_owned())
    }
}

pub(super) fn run(screen: &Screen, arguments: &CallArgs) -> Exit {
    let file = match arguments.file.load(screen) {
        Ok(file) => file,
        Err(exit) => return exit,
    };
    let wanted = arguments.caller.as_deref();
    let is_it = |caller: &&CallerSpec| {
        wanted.is_none_or(|name| {
            let short = caller.name.split('.').next().unwrap_or_default();
            caller.name.eq_ignore_ascii_case(name) || short.eq_ignore_ascii_case(name)
        })
    };
    let Some(caller) = file.callers.iter().find(is_it) else {
        let names: Vec<&str> = file.callers.iter().map(|caller| caller.name.as_str()).collect();
        let asked = wanted.map_or_else(String::new, |name| format!(" called {}", escaped(name)));
        screen.story(&format!("the lab file has no [[caller]]{asked}; there are: {}", names.join(", ")));
        return Exit::BadConfiguration;
    };
    let spec = match spec(arguments, &file, caller) {
        Ok(spec) => spec,
        Err(why) => {
            screen.story(&escaped_lines(&why));
            return Exit::Usage;
        }
    };
    on_runtime(screen, place(screen, &file, caller, spec, arguments.expect))
}

/// Why a caller of the lab file does not get as far as a call.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its certificate.
    #[error("lab certificates: {0}")]
    Pki(#[from] PkiError),
    /// The lab file names nobody to call.
    #[error("the lab file has no [um_ip_gateway]")]
    NoGateway,
    /// The gateway.
    #[error("{0}")]
    Caller(#[from] CallerError),
}

/// Connects a caller of a lab file to its UM IP gateway. The gateway listens for TLS on the port the file names, and for TCP on 5060 unless that is
/// its transport.
///
/// # Errors
/// No certificate, no connection.
pub async fn connect(
    file: &LabFile,
    caller: &CallerSpec,
    pki: Option<&Pki>,
    seed: u64,
) -> Result<Caller, ConnectError> {
    let gateway = file.gateway.as_ref().ok_or(ConnectError::NoGateway)?;
    let mut address = gateway.address;
    if caller.transport != gateway.transport {
        address.set_port(match caller.transport {
            UmTransport::Tcp => 5060,
            UmTransport::Tls => 5061,
        });
    }
    let tls = match (caller.transport, pki) {
        (UmTransport::Tls, Some(pki)) => Some(TlsTarget {
            identity: Some(pki.identity(&caller.name)?),
            roots: pki.roots(),
            expected_name: gateway.name.clone(),
        }),
        _ => None,
    };
    let config = CallerConfig {
        fqdn: caller.name.clone(),
        sip_domain: file.sip_domain.clone(),
        address: caller.address,
        seed,
    };
    Ok(Caller::connect(config, Target { address, tls }).await?)
}

async fn place(screen: &Screen, file: &LabFile, caller: &CallerSpec, spec: CallSpec, expect: u16) -> Exit {
    let pki = match caller.transport {
        UmTransport::Tcp => None,
        UmTransport::Tls => match open_pki(&file.pki) {
            Ok(pki) => Some(pki),
            Err(error) => return super::cannot(screen, &error),
        },
    };
    let unreachable = |why: &dyn std::fmt::Display| {
        screen.story(&escaped_lines(&format!("the gateway cannot be reached: {why}")));
        Exit::Unreachable
    };
    let connected = match connect(file, caller, pki.as_ref(), rand::random()).await {
        Ok(connected) => connected,
        Err(why) => return unreachable(&why),
    };
    let outcome = connected.place_call(spec).await;
    connected.close().await;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(why) => return unreachable(&why),
    };
    let placed = Placed::of(&outcome);
    match screen.form {
        Format::Json => screen.json(&placed),
        _ => screen.data(&placed.text()),
    }
    if outcome.status == expect && outcome.answer_fault.is_none() { Exit::Fine } else { Exit::Failed }
}

/// The call that the words ask for.
fn spec(arguments: &CallArgs, file: &LabFile, caller: &CallerSpec) -> Result<CallSpec, String> {
    let domain = &file.sip_domain;
    let from = if is_uri(&arguments.from) {
        arguments.from.clone()
    } else {
        format!("sip:{}@{domain}", arguments.from)
    };
    let Dialled { uri, mut diversion } = dialled(&arguments.to, &from, file, caller);
    if !arguments.diversion.is_empty() {
        diversion = arguments.diversion.iter().map(|uri| format!("<{uri}>")).collect();
    }
    let is_deposit = !diversion.is_empty();
    let says = match &arguments.play {
        None => None,
        Some(path) => Some(Arc::from(read_wav(path).map_err(|why| why.to_string())?)),
    };
    let nothing_asked = arguments.keys.is_none() && arguments.stay.is_none() && arguments.cancel.is_none();
    let talk = arguments.talk.or((says.is_none() && is_deposit && nothing_asked).then_some(2.0));
    let (presses, last_key) = presses(arguments.keys.as_deref().unwrap_or_default());
    let stays = last_key + arguments.stay.unwrap_or(STAY);
    let end = match (arguments.cancel, arguments.stay) {
        (Some(after), _) => CallEnd::CancelAfter(Duration::from_secs_f64(after)),
        (None, None) if talk.is_some() || says.is_some() => CallEnd::HangUpAfterTalk,
        _ => CallEnd::HangUpAfter(Duration::from_secs_f64(stays)),
    };
    let length = says.as_ref().map_or(0, |samples: &Arc<[i16]>| samples.len() as u64 / 8_000);
    let asked = Duration::from_secs_f64(stays + talk.unwrap_or_default()) + Duration::from_secs(length);
    Ok(CallSpec {
        shape: arguments.offer.unwrap_or(caller.offer),
        to: uri.split(';').next().unwrap_or_default().to_owned(),
        request_uri: uri,
        from_display: String::new(),
        from,
        diversion,
        talk: talk.map(|lasts| Talk {
            hz: arguments.hz,
            level_dbfs: TALK_DBFS,
            lasts: Duration::from_secs_f64(lasts),
            start: if is_deposit { TalkStart::AfterBeep } else { TalkStart::AfterAnswer(Duration::ZERO) },
        }),
        says,
        presses,
        end,
        time_limit: asked + PATIENCE,
        ..CallSpec::call_answering("", "", domain)
    })
}

fn is_uri(text: &str) -> bool {
    let scheme = text.split(':').next().unwrap_or_default().to_ascii_lowercase();
    text.contains(':') && matches!(scheme.as_str(), "sip" | "sips" | "tel")
}

/// What is dialled, in the form of the caller: a pool by the forms of Lync, an IP-PBX by number at the gateway.
#[derive(Debug, PartialEq, Eq)]
struct Dialled {
    uri: String,
    diversion: Vec<String>,
}

fn dialled(to: &str, from: &str, file: &LabFile, caller: &CallerSpec) -> Dialled {
    let (domain, um) = (&file.sip_domain, &file.um);
    let plain = |uri: String| Dialled { uri, diversion: Vec::new() };
    if is_uri(to) {
        return plain(to.to_owned());
    }
    if caller.transport == UmTransport::Tcp {
        let gateway = file.gateway.as_ref().map_or("", |gateway| gateway.name.as_str());
        return plain(format!("sip:{to}@{gateway};user=phone"));
    }
    let context = |plan: Option<&str>| {
        let plan = um.dial_plans.iter().find(|known| plan == Some(known.name.as_str()));
        plan.map_or_else(String::new, |plan| format!(":{}", plan.phone_context))
    };
    let is_to = |name: &String| name.eq_ignore_ascii_case(to);
    if let Some(plan) = um.dial_plans.iter().find(|plan| plan.access_numbers.iter().any(is_to)) {
        return plain(format!("sip:{to}@{domain};opaque=app:exum{}", context(Some(&plan.name))));
    }
    if let Some(attendant) = um.attendants.iter().find(|a| is_to(&a.name) || a.pilots.iter().any(is_to)) {
        let context = context(attendant.dial_plan.as_deref());
        return plain(format!("sip:{to}@{domain};opaque=app:exum{context}"));
    }
    let mailbox = um.mailboxes.iter().find(|m| is_to(&m.alias) || m.extension.as_ref().is_some_and(is_to));
    let address =
        mailbox.and_then(|mailbox| mailbox.sip.clone()).unwrap_or_else(|| format!("sip:{to}@{domain}"));
    let diversion =
        if from.eq_ignore_ascii_case(&address) { Vec::new() } else { vec![format!("<{address}>")] };
    Dialled { uri: format!("{address};opaque=app:voicemail"), diversion }
}

/// When to press which keys, and when the last one is over.
fn presses(text: &str) -> (Vec<Presses>, f64) {
    let mut at = 1.0;
    let mut all = Vec::new();
    for group in text.split(',') {
        if !group.is_empty() {
            all.push(Presses::at(Duration::from_secs_f64(at), group));
            at += group.len() as f64 * KEY_SECONDS;
        }
        at += COMMA_SECONDS;
    }
    (all, if text.is_empty() { 0.0 } else { at })
}

/// What came of the call.
#[derive(Debug, Serialize)]
struct Placed {
    status: u16,
    reason: String,
    provisional: Vec<u16>,
    setup_ms: Option<u128>,
    call_id: String,
    media: Option<&'static str>,
    codec: Option<String>,
    packets_heard: u64,
    packets_refused: u64,
    packets_sent: u64,
    heard_dbfs: Option<f64>,
    heard_hz: Option<f64>,
    beep_after_s: Option<f64>,
    referred_to: Vec<String>,
    ended_by: Option<&'static str>,
    lasted_s: Option<f64>,
    answer_fault: Option<String>,
    warning: Option<String>,
    ms_diagnostics: Option<String>,
}

impl Placed {
    fn of(outcome: &CallOutcome) -> Self {
        let (is_answered, heard) = (outcome.answered(), &outcome.heard);
        Self {
            status: outcome.status,
            reason: outcome.reason.clone(),
            provisional: outcome.provisional.clone(),
            setup_ms: outcome.setup.map(|setup| setup.as_millis()),
            call_id: outcome.call_id.clone(),
            media: outcome.media.map(|media| media.name()),
            codec: outcome.codec.clone(),
            packets_heard: heard.packets,
            packets_refused: heard.rejected,
            packets_sent: heard.sent,
            heard_dbfs: is_answered.then_some(heard.level_dbfs),
            heard_hz: heard.dominant_hz,
            beep_after_s: heard.beep_at.map(|at| at.as_secs_f64()),
            referred_to: outcome.referred_to.clone(),
            ended_by: outcome.ended_by.map(|who| match who {
                EndedBy::Us => "the caller",
                EndedBy::Them => "UM",
                EndedBy::ConnectionLost => "a lost connection",
            }),
            lasted_s: outcome.lasted.map(|lasted| lasted.as_secs_f64()),
            answer_fault: outcome.answer_fault.clone(),
            warning: outcome.header("Warning").map(str::to_owned),
            ms_diagnostics: outcome.header("ms-diagnostics").map(str::to_owned),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |word: &str, rest: String| text.push_str(&format!("{word:<12} {}\n", escaped(&rest)));
        let status = match self.status {
            0 => "no final response".to_owned(),
            status => format!("{status} {}", self.reason),
        };
        let setup = self.setup_ms.map_or_else(String::new, |ms| format!(" after {ms} ms"));
        row("answer", format!("{status}{setup}"));
        if let (Some(media), Some(codec)) = (self.media, &self.codec) {
            row("media", format!("{media} {codec}, {} packets sent", self.packets_sent));
            let beep = self.beep_after_s.map_or_else(String::new, |at| format!(", beep after {at:.1} s"));
            let level = self.heard_dbfs.unwrap_or(-100.0);
            let refused = match self.packets_refused {
                0 => String::new(),
                count => format!(", {count} refused"),
            };
            row("heard", format!("{} packets{refused}, {level:.0} dBFS{beep}", self.packets_heard));
        }
        for to in &self.referred_to {
            row("referred to", to.clone());
        }
        if let (Some(who), Some(lasted)) = (self.ended_by, self.lasted_s) {
            row("ended", format!("by {who} after {lasted:.1} s"));
        }
        for (word, rest) in
            [("fault", &self.answer_fault), ("Warning", &self.warning), ("diagnostics", &self.ms_diagnostics)]
        {
            if let Some(rest) = rest {
                row(word, rest.clone());
            }
        }
        row("Call-ID", self.call_id.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[lab]
sip_domain = "contoso.test"
[um_ip_gateway]
name = "umbra.contoso.test"
address = "127.0.0.1"
[[caller]]
name = "pool01.contoso.test"
address = "127.0.0.2"
[[caller]]
name = "pbx.contoso.test"
address = "127.0.0.3"
transport = "TCP"
[[dial_plan]]
name = "DP-Sip"
voip_security = "Secured"
access_telephone_numbers = ["ova"]
[[mailbox]]
alias = "ken"
extension = "1001"
dial_plan = "DP-Sip"
[[auto_attendant]]
name = "AA-Main"
dial_plan = "DP-Sip"
"#;

    #[test]
    fn what_is_dialled_takes_the_form_of_lync_or_of_a_pbx() {
        let file = crate::config::lab_file::compile(std::path::Path::new("lab.toml"), FILE).unwrap();
        let dial = |to: &str, from: &str, caller: usize| {
            let Dialled { uri, diversion } = dialled(to, from, &file, &file.callers[caller]);
            (uri, diversion.concat())
        };
        let dana = "sip:dana@contoso.test";
        for (to, from, caller, uri, diversion) in [
            ("ken", dana, 0, "sip:ken@contoso.test;opaque=app:voicemail", "<sip:ken@contoso.test>"),
            ("1001", dana, 0, "sip:ken@contoso.test;opaque=app:voicemail", "<sip:ken@contoso.test>"),
            ("ken", "sip:ken@contoso.test", 0, "sip:ken@contoso.test;opaque=app:voicemail", ""),
            ("ova", dana, 0, "sip:ova@contoso.test;opaque=app:exum:DP-Sip.contoso.test", ""),
            ("aa-main", dana, 0, "sip:aa-main@contoso.test;opaque=app:exum:DP-Sip.contoso.test", ""),
            ("88895", dana, 1, "sip:88895@umbra.contoso.test;user=phone", ""),
            ("tel:+14255550100", dana, 0, "tel:+14255550100", ""),
        ] {
            assert_eq!(dial(to, from, caller), (uri.to_owned(), diversion.to_owned()), "{to} by {from}");
        }
    }

    #[test]
    fn a_comma_waits_a_second() {
        let (all, last) = presses("12#,,1");
        let at: Vec<f64> = all.iter().map(|press| press.after.as_secs_f64()).collect();
        assert_eq!(all.iter().map(|press| press.keys.len()).collect::<Vec<_>>(), [3, 1]);
        assert!((at[0] - 1.0).abs() < 1e-9 && (at[1] - 4.2).abs() < 1e-9, "{at:?}");
        assert!(last > at[1]);
        assert!(keys("12x").is_err() && keys("12#,*A").is_ok());
    }
}
