//! The list behind `umbra quirks`: quirks first, then what another setting switches, then rules. Owns the words only.

use serde::Serialize;

use super::Quirk;
use crate::profile::Profile;

/// One line of the list.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name, stable.
    pub name: &'static str,
    /// Peers it is about.
    pub peers: &'static [Profile],
    /// What this gateway does.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
    /// Where that is known from.
    pub source: &'static str,
    /// What is counted when it acts (`umbra_events_total{kind="…"}`); empty when nothing is.
    pub counter: &'static str,
    /// How it is switched.
    pub switch: Switch,
}

/// How an entry is switched.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "by", rename_all = "snake_case")]
pub enum Switch {
    /// A quirk: `[quirks] disable` for everybody, `quirks_off` for one peer.
    Quirk,
    /// Another key of the configuration.
    Setting(&'static str),
    /// A rule that cannot be switched off, for this reason.
    Rule(&'static str),
}

/// The whole list.
pub fn all() -> &'static [Entry] {
    ENTRIES
}

/// The line of a quirk.
pub fn entry(quirk: Quirk) -> &'static Entry {
    &ENTRIES[quirk as usize]
}

const SEEN: &str = "seen in public traces or field reports";
const CALLERS: &[Profile] = &Profile::GATEWAYS;
const LYNC: &[Profile] = &Profile::POOLS;
const UM: &[Profile] = &Profile::SERVERS;
const EVERYBODY: &[Profile] = &Profile::ALL;

// The first lines stand in the order of `Quirk::ALL`.
static ENTRIES: &[Entry] = &[
    Entry {
        name: "diversion-quoting",
        peers: CALLERS,
        what: "malformed quoting in Diversion is repaired on the way to UM; a well-formed value passes byte for byte",
        why: "UM refuses the call over a quote that does not close",
        source: SEEN,
        counter: "quirk_diversion_quoting",
        switch: Switch::Quirk,
    },
    Entry {
        name: "183-for-180-with-sdp",
        peers: CALLERS,
        what: "a 180 to 182 of UM that carries a description reaches the caller as 183",
        why: "UCMA applications do not cope with a description in a 180",
        source: SEEN,
        counter: "quirk_183_for_180_with_sdp",
        switch: Switch::Quirk,
    },
    Entry {
        name: "first-progress",
        peers: CALLERS,
        what: "a 183 of our own when no server rang or answered by 0.8 × routing.a_leg_answer_max",
        why: "Lync's fast fail-over moves on after 10 s without a provisional answer other than 100",
        source: SEEN,
        counter: "quirk_first_progress",
        switch: Switch::Quirk,
    },
    Entry {
        name: "ms-headers",
        peers: LYNC,
        what: "Ms-* headers pass between the pool and UM whatever headers.unknown says",
        why: "UM and Lync speak to each other in headers that no public document lists completely",
        source: SEEN,
        counter: "quirk_ms_headers",
        switch: Switch::Quirk,
    },
    Entry {
        name: "ms-hop-by-hop",
        peers: EVERYBODY,
        what: "ms-keep-alive and ms-fe of a peer stop here; off: they pass like other Ms-* headers",
        why: "they are about one connection or one Front End and mean nothing behind this hop",
        source: SEEN,
        counter: "quirk_ms_hop_by_hop",
        switch: Switch::Quirk,
    },
    Entry {
        name: "optional-srtp",
        peers: EVERYBODY,
        what: "an RTP/AVP offer with a=crypto lines means that SRTP is welcome and RTP accepted; off: it is plain RTP",
        why: "SupportEncryption is offered this way; RFC 4568 itself knows crypto lines on secure profiles only",
        source: "documented: [MS-SDPEXT]",
        counter: "quirk_optional_srtp",
        switch: Switch::Quirk,
    },
    Entry {
        name: "mki-less-crypto",
        peers: EVERYBODY,
        what: "of the crypto lines offered, the first without MKI is answered; off: the first usable one",
        why: "the same key comes with and without MKI, and packets without it are shorter and understood by all",
        source: SEEN,
        counter: "quirk_mki_less_crypto",
        switch: Switch::Quirk,
    },
    Entry {
        name: "server-auth-client",
        peers: EVERYBODY,
        what: "a certificate with the server purpose only is accepted from a peer that connects to us",
        why: "certificates of Lync and Exchange servers often carry no other purpose",
        source: SEEN,
        counter: "quirk_server_auth_client",
        switch: Switch::Quirk,
    },
    Entry {
        name: "common-name",
        peers: EVERYBODY,
        what: "the common name of the subject counts when the certificate has no dNSName",
        why: "Lync and Exchange name servers in the subject; RFC 5922 §7.1 allows it as the last resort",
        source: "documented",
        counter: "quirk_common_name",
        switch: Switch::Quirk,
    },
    Entry {
        name: "wildcard-san",
        peers: EVERYBODY,
        what: "*.domain among the subject alternative names stands for one label; a deviation from RFC 5922 §7.2",
        why: "such certificates are in use on UM servers and work there, unlike wildcard subjects",
        source: SEEN,
        counter: "quirk_wildcard_san",
        switch: Switch::Quirk,
    },
    Entry {
        name: "correlation-header",
        peers: UM,
        what: "leg B carries the Call-ID of leg A, so that capture tools join both legs",
        why: "sngrep and Homer look for it",
        source: "documented by these tools",
        counter: "",
        switch: Switch::Setting("observe.correlation_header"),
    },
    Entry {
        name: "unsolicited-mwi",
        peers: UM,
        what: "a message-summary NOTIFY without a subscription goes to the user's pool",
        why: "UM reports message waiting that way",
        source: "documented",
        counter: "mwi_forwarded",
        switch: Switch::Setting("ip_gateway.message_waiting_indicator_allowed"),
    },
    Entry {
        name: "border-headers",
        peers: EVERYBODY,
        what: "ms-user-logon-data, ms-subnet and ms-endpoint-location-data stop here in both directions",
        why: "they tell who logged on where",
        source: "inferred from their content",
        counter: "",
        switch: Switch::Rule("they are personal data that UM has no use for"),
    },
    Entry {
        name: "benotify-unanswered",
        peers: LYNC,
        what: "BENOTIFY is never answered",
        why: "that is its definition",
        source: "documented: [MS-SIP]",
        counter: "one_way_requests",
        switch: Switch::Rule("its sender has no transaction that an answer could reach"),
    },
    Entry {
        name: "last-alternative",
        peers: LYNC,
        what: "of a multipart/alternative body the last usable description counts",
        why: "Lync clients put the description for old ICE first",
        source: "documented: RFC 2046 §5.1.4",
        counter: "",
        switch: Switch::Rule("the order of alternatives is the standard's"),
    },
    Entry {
        name: "encryption-attribute",
        peers: LYNC,
        what: "a=encryption:required, optional and rejected are read together with profile and crypto lines",
        why: "older clients say so what newer ones say by the profile",
        source: "documented: [MS-SDPEXT]",
        counter: "",
        switch: Switch::Rule("without it an offer that demands SRTP could be answered in clear"),
    },
    Entry {
        name: "tcp-rtp-savp",
        peers: LYNC,
        what: "the profile TCP/RTP/SAVP is read as RTP/SAVP",
        why: "an older form of the same offer",
        source: "documented: [MS-SDPEXT]",
        counter: "",
        switch: Switch::Rule("read otherwise, the offer could only be refused"),
    },
    Entry {
        name: "session-timer-answers",
        peers: LYNC,
        what: "a refresh that speaks of the session timer is answered with its headers",
        why: "without them the pool ends the call at 30 minutes",
        source: "seen; RFC 4028 §9",
        counter: "",
        switch: Switch::Rule("the standard asks for it"),
    },
    Entry {
        name: "unknown-in-dialog",
        peers: EVERYBODY,
        what: "in-dialog requests of methods this gateway does not know are carried to the other leg",
        why: "Lync and UM use methods of their own inside a call",
        source: SEEN,
        counter: "",
        switch: Switch::Rule("the other leg's refusal is as good as ours and truer"),
    },
    Entry {
        name: "redirect-port",
        peers: UM,
        what: "the port of a redirect's Contact is obeyed, whatever worker_ports says",
        why: "documents disagree about the ports of UM workers",
        source: "documented, contradictorily",
        counter: "",
        switch: Switch::Rule("there is no better source; host and transport are checked on every hop"),
    },
    Entry {
        name: "original-diversion",
        peers: CALLERS,
        what: "of several Diversion entries the last one tells whose mailbox is meant",
        why: "UM goes by the original diversion",
        source: SEEN,
        counter: "",
        switch: Switch::Rule("UM would still decide its way; records and routing would only differ from it"),
    },
    Entry {
        name: "wildcard-subject",
        peers: EVERYBODY,
        what: "a certificate whose subject is a wildcard is refused",
        why: "deposits seem to work with it, message waiting and Play-on-Phone silently break",
        source: SEEN,
        counter: "",
        switch: Switch::Rule("accepting it would hide a fault that shows elsewhere"),
    },
];
