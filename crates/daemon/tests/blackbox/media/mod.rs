//! Media of whole calls through the real binary, with everything that may go wrong around them: strangers, injected and
//! damaged packets, descriptions that would weaken a call, lost digits, new keys.
//!
//! Every probe here has been seen to fail: it is a function over a [`Relay`], which is the gateway, rtpengine (Debian's, in
//! user space; where it is installed), or a stand-in that breaks one rule on purpose. What the gateway must never do, the
//! others are caught doing by the same lines of code.
//!
//! Sizes of a release by `UMBRA_PROBE_SECONDS`, `UMBRA_PROBE_CALLS`, `UMBRA_INJECTED`, `UMBRA_DIGITS`.

mod bad_tags;
mod delay;
mod digits;
mod downgrade;
mod end;
mod first_words;
mod injected;
mod kept;
#[path = "../../../../../benches/src/bin/relay/ng.rs"]
mod ng;
mod rekey;
mod relays;
mod stranger;
pub mod tones;

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::stage::{GATEWAYS, SERVERS, Stage};
use crate::wire::{Carrier, Dialog, Wire, tag, value};
use end::End;

/// RTP ports of a relay that has enough of them.
const PORTS: Range<u16> = 20_000..20_400;

/// Whoever relays the media of calls.
trait Relay {
    fn name(&self) -> String;
    /// Ports for media.
    fn ports(&self) -> Range<u16>;
    /// Where its ports are.
    fn address(&self) -> Ipv4Addr;
    /// Where the two ends of a call are at home.
    fn homes(&self) -> [Ipv4Addr; 2];
    /// Where somebody is who has no part in anything.
    fn elsewhere(&self) -> Ipv4Addr;
    /// Sets a call up; both ends know afterwards where to send.
    fn begins(&mut self, number: u32, a: &mut End, b: &mut End);
    /// Ends it.
    fn ends(&mut self, number: u32);
}

/// The gateway, with a caller on one connection and a server on another.
struct Umbra {
    stage: Stage,
    ports: Range<u16>,
    phone: Wire,
    server: Option<Wire>,
    calls: Vec<(u32, Dialog, Dialog)>,
    placed: u32,
}

impl Umbra {
    /// Over TCP without SRTP, or over TLS with it.
    fn start(is_sealed: bool) -> Self {
        Self::start_on(is_sealed, PORTS)
    }

    /// With these ports for media.
    fn start_on(is_sealed: bool, ports: Range<u16>) -> Self {
        Self::start_as(is_sealed, ports, |config| config)
    }

    /// With the configuration as this changes it.
    fn start_as(is_sealed: bool, ports: Range<u16>, change: impl FnOnce(String) -> String) -> Self {
        let carrier = if is_sealed { Carrier::Tls } else { Carrier::Tcp };
        let stage = Stage::start(carrier, |config| {
            let config = config
                .replace("\"SIPSecured\"", "\"Secured\"")
                .replace("max_calls_allowed = 40", &format!("max_calls_allowed = {}", ports.len() / 4))
                .replace("[[mailbox_server]]\n", "[[mailbox_server]]\nmax_calls_allowed = 400\n")
                .replace("20000-31999", &format!("{}-{}", ports.start, ports.end - 1))
                .replace("level = \"trace\"", "level = \"info\"");
            change(config)
        });
        let mut phone = stage.peer(GATEWAYS[0]);
        // A connection that says nothing is not kept for as long as some probes take to their first call.
        phone.asks(&Dialog::begun("alive"), "OPTIONS", 1, "");
        phone.hears("SIP/2.0 ");
        Self { stage, ports, phone, server: None, calls: Vec::new(), placed: 0 }
    }

    /// The server's connection; the first call makes it.
    fn server(&mut self) -> &mut Wire {
        self.server.get_or_insert_with(|| self.stage.called())
    }

    /// A call that stands, and both dialogs of it.
    fn calls(&mut self, call_id: &str, a: &mut End, b: &mut End) -> (Dialog, Dialog) {
        let dialogs = self.is_answered(call_id, a, b);
        self.acknowledges(&dialogs.0);
        dialogs
    }

    /// One of which the caller has just heard the 200.
    fn is_answered(&mut self, call_id: &str, a: &mut End, b: &mut End) -> (Dialog, Dialog) {
        let mut dialog = Dialog::begun(call_id);
        self.phone.asks_with(&dialog, "INVITE", 1, "", &a.describe());
        let invite = self.server().hears("INVITE ");
        b.agree(&invite);
        self.server().answers(&invite, "200 OK", &b.describe());
        let answer = self.phone.hears("SIP/2.0 200 ");
        a.agree(&answer);
        dialog.theirs = tag(&value(&answer, "To"));
        (dialog, Dialog::served(&invite))
    }

    fn acknowledges(&mut self, dialog: &Dialog) {
        self.phone.asks(dialog, "ACK", 1, "");
        self.server().hears("ACK ");
    }

    fn hangs_up(&mut self, caller: &Dialog, cseq: u32) {
        self.phone.asks(caller, "BYE", cseq, "");
        self.server().serves("BYE");
        self.phone.hears("SIP/2.0 200 ");
    }
}

impl Relay for Umbra {
    fn name(&self) -> String {
        String::from("umbra")
    }

    fn ports(&self) -> Range<u16> {
        self.ports.clone()
    }

    fn address(&self) -> Ipv4Addr {
        self.stage.umbra.address
    }

    fn homes(&self) -> [Ipv4Addr; 2] {
        [self.stage.home(GATEWAYS[0]), self.stage.home(SERVERS[0])]
    }

    fn elsewhere(&self) -> Ipv4Addr {
        self.stage.net.host(66)
    }

    fn begins(&mut self, number: u32, a: &mut End, b: &mut End) {
        // A Call-ID serves once.
        self.placed += 1;
        let (caller, served) = self.calls(&format!("media-{}", self.placed), a, b);
        self.calls.push((number, caller, served));
    }

    fn ends(&mut self, number: u32) {
        let at = self.calls.iter().position(|(known, ..)| *known == number).unwrap();
        let (_, caller, _) = self.calls.swap_remove(at);
        self.hangs_up(&caller, 90);
    }
}
