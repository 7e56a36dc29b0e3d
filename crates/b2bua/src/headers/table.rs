//! The header table: what becomes of each known header on each passage. Owns the data that the code runs on and
//! `umbra quirks --headers` prints; refuses to know configuration and peers.
//!
//! Three profile families share it: nothing documented tells pools, PBXs and their generations apart here, except that
//! `Ms-*` headers are Lync's ([`Action::Microsoft`]).

use serde::Serialize;
use sip::HeaderId;

/// What becomes of a header.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Action {
    /// Passes byte for byte.
    Copy,
    /// Passes byte for byte with the body it describes, and not without it.
    WithBody,
    /// Each leg has its own.
    Own,
    /// Passes byte for byte, repaired only where it is malformed.
    Repair,
    /// Stated anew entry by entry: what is well-formed, byte for byte, and nothing else.
    Regenerate,
    /// Means something in one dialog only; the transfer code says it in the words of the other.
    Translate,
    /// `Ms-*` of the Lync dialect: passes where the pool side speaks it, else as an unknown header.
    Microsoft,
    /// About this connection only: stops, unless the quirk `ms-hop-by-hop` is off.
    HopByHop,
    /// Stops here.
    Drop,
}

/// On which way a header is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Passage {
    /// The INVITE of a caller's side, on its way into the header set toward UM.
    Invite,
    /// A request in or out of dialog, from the caller's side (A) to UM (B).
    RequestToB,
    /// A request in or out of dialog, from UM to the caller's side.
    RequestToA,
    /// A response of the caller's side.
    ResponseToB,
    /// A response of UM.
    ResponseToA,
    /// An INVITE with which UM places a call, on its way into the header set toward the UM IP gateway.
    OutCall,
}

impl Passage {
    /// Every passage, in the order of the table's columns.
    pub const ALL: [Passage; 6] = [
        Self::Invite,
        Self::RequestToB,
        Self::RequestToA,
        Self::ResponseToB,
        Self::ResponseToA,
        Self::OutCall,
    ];
}

/// One line of the table.
#[derive(Copy, Clone, Debug)]
pub struct Row {
    /// The header.
    pub id: HeaderId,
    /// On each passage.
    pub actions: [Action; Passage::ALL.len()],
    /// Why, where it is not obvious.
    pub why: &'static str,
}

use Action::{Copy as Pass, Drop as Stop, HopByHop, Microsoft, Own, Regenerate, Repair, Translate, WithBody};

type Actions = [Action; Passage::ALL.len()];

/// One leg's business in every passage.
const OWN: Actions = [Own; 6];
/// Stops everywhere.
const STOP: Actions = [Stop; 6];
/// Says something about the call: passes in requests.
const REQUEST: Actions = [Pass, Pass, Pass, Stop, Stop, Pass];
/// Has its meaning in requests other than INVITE.
const IN_DIALOG: Actions = [Stop, Pass, Pass, Stop, Stop, Stop];
/// Belongs to responses.
const RESPONSE: Actions = [Stop, Stop, Stop, Pass, Pass, Stop];
/// Belongs to requests other than INVITE, and to responses.
const BOTH: Actions = [Stop, Pass, Pass, Pass, Pass, Stop];
/// Describes a body; the INVITE's is written anew.
const BODY: Actions = [Own, WithBody, WithBody, WithBody, WithBody, Own];
/// Lync's dialect.
const MICROSOFT: Actions = [Microsoft; 6];
/// Connection business.
const HOP: Actions = [HopByHop; 6];

const DIALOG: &str = "names a dialog, transaction or hop of one leg";
const BODY_OWN: &str = "computed from the body that is sent";
const EXTENSION: &str = "each leg offers and demands what this gateway does there";
const TIMER: &str = "the session timer is kept per leg (RFC 4028)";
const AUTH: &str = "credentials and challenges are between neighbours";
const BORDER: &str = "stops at the border";
const IDENTITY: &str =
    "one sip and one tel identity (RFC 3325 §9.1), entry by entry; what does not parse does not cross";

/// The table.
pub fn rows() -> &'static [Row] {
    ROWS
}

const fn row(id: HeaderId, actions: Actions, why: &'static str) -> Row {
    Row { id, actions, why }
}

#[rustfmt::skip]
static ROWS: &[Row] = &[
    row(HeaderId::Via, OWN, DIALOG),
    row(HeaderId::From, OWN, "value of the caller, tag of the leg"),
    row(HeaderId::To, OWN, "value of the caller, tag of the leg"),
    row(HeaderId::CallId, OWN, DIALOG),
    row(HeaderId::CSeq, OWN, DIALOG),
    row(HeaderId::MaxForwards, OWN, "carried over minus one"),
    row(HeaderId::Contact, OWN, DIALOG),
    row(HeaderId::Route, OWN, DIALOG),
    row(HeaderId::RecordRoute, OWN, DIALOG),
    row(HeaderId::ContentType, OWN, BODY_OWN),
    row(HeaderId::ContentLength, OWN, BODY_OWN),
    row(HeaderId::ContentDisposition, BODY, BODY_OWN),
    row(HeaderId::ContentEncoding, BODY, BODY_OWN),
    row(HeaderId::ContentLanguage, BODY, BODY_OWN),
    row(HeaderId::ContentId, BODY, BODY_OWN),
    row(HeaderId::MimeVersion, BODY, BODY_OWN),
    row(HeaderId::Allow, OWN, EXTENSION),
    row(HeaderId::AllowEvents, RESPONSE, "tells what a 489 would have taken"),
    row(HeaderId::Supported, OWN, EXTENSION),
    row(HeaderId::Require, OWN, EXTENSION),
    row(HeaderId::ProxyRequire, STOP, EXTENSION),
    row(HeaderId::Unsupported, RESPONSE, ""),
    row(HeaderId::Accept, BOTH, ""),
    row(HeaderId::AcceptEncoding, RESPONSE, ""),
    row(HeaderId::AcceptLanguage, RESPONSE, ""),
    row(HeaderId::AcceptContact, REQUEST, ""),
    row(HeaderId::RejectContact, REQUEST, ""),
    row(HeaderId::RequestDisposition, REQUEST, ""),
    row(HeaderId::Expires, BOTH, "of a subscription or message; that of an INVITE is this gateway's"),
    row(HeaderId::MinExpires, RESPONSE, ""),
    row(HeaderId::SessionExpires, OWN, TIMER),
    row(HeaderId::MinSe, OWN, TIMER),
    row(HeaderId::RSeq, OWN, DIALOG),
    row(HeaderId::RAck, OWN, DIALOG),
    row(HeaderId::Event, IN_DIALOG, ""),
    row(HeaderId::SubscriptionState, IN_DIALOG, ""),
    row(HeaderId::ReferTo, [Stop, Translate, Translate, Stop, Stop, Stop], "its Replaces names a dialog of one leg"),
    row(HeaderId::ReferSub, BOTH, ""),
    row(HeaderId::ReferredBy, [Regenerate, Regenerate, Regenerate, Stop, Stop, Regenerate], "the referrer without cid: the body part it points to does not cross"),
    row(HeaderId::Replaces, [Translate, Translate, Translate, Stop, Stop, Translate], DIALOG),
    row(HeaderId::Join, STOP, DIALOG),
    row(HeaderId::Diversion, [Repair, Stop, Stop, Stop, Stop, Repair], "UM decides by it; quoting is repaired (quirk diversion-quoting)"),
    row(HeaderId::HistoryInfo, [Regenerate, Stop, Stop, Stop, Stop, Regenerate], "entries that parse; redirects inside this gateway add none, UM's own stay behind it"),
    row(HeaderId::PAssertedIdentity, [Regenerate, Regenerate, Regenerate, Stop, Stop, Regenerate], IDENTITY),
    row(HeaderId::PPreferredIdentity, STOP, "a wish of a user agent to its first proxy (RFC 3325 §9.2)"),
    row(HeaderId::RemotePartyId, REQUEST, "the IP-PBX word for the calling party"),
    row(HeaderId::Privacy, REQUEST, ""),
    row(HeaderId::Identity, STOP, "signs values that differ on the other leg"),
    row(HeaderId::Reason, [Pass; 6], ""),
    row(HeaderId::Warning, RESPONSE, ""),
    row(HeaderId::RetryAfter, RESPONSE, ""),
    row(HeaderId::UserAgent, STOP, "names a product of one leg"),
    row(HeaderId::Server, OWN, "names this product"),
    row(HeaderId::Subject, REQUEST, ""),
    row(HeaderId::Organization, REQUEST, ""),
    row(HeaderId::Priority, REQUEST, ""),
    row(HeaderId::Date, STOP, ""),
    row(HeaderId::Timestamp, OWN, DIALOG),
    row(HeaderId::InReplyTo, REQUEST, ""),
    row(HeaderId::ReplyTo, REQUEST, ""),
    row(HeaderId::AlertInfo, REQUEST, ""),
    row(HeaderId::CallInfo, REQUEST, ""),
    row(HeaderId::ErrorInfo, STOP, "points into the network behind the sender"),
    row(HeaderId::Path, STOP, DIALOG),
    row(HeaderId::ServiceRoute, STOP, DIALOG),
    row(HeaderId::Authorization, STOP, AUTH),
    row(HeaderId::ProxyAuthorization, STOP, AUTH),
    row(HeaderId::WwwAuthenticate, STOP, AUTH),
    row(HeaderId::ProxyAuthenticate, STOP, AUTH),
    row(HeaderId::AuthenticationInfo, STOP, AUTH),
    row(HeaderId::UserToUser, REQUEST, ""),
    row(HeaderId::MsDiagnostics, [Pass; 6], "tells why"),
    row(HeaderId::MsClientDiagnostics, [Pass; 6], "tells why"),
    row(HeaderId::MsDiagnosticsPublic, [Pass; 6], "tells why"),
    row(HeaderId::MsSensitivity, MICROSOFT, ""),
    row(HeaderId::MsUserLogonData, STOP, BORDER),
    row(HeaderId::MsSubnet, STOP, BORDER),
    row(HeaderId::MsEndpointLocationData, STOP, BORDER),
    row(HeaderId::MsConversationId, MICROSOFT, ""),
    row(HeaderId::MsExchangeCommand, MICROSOFT, ""),
    row(HeaderId::MsMrasAddress, MICROSOFT, ""),
    row(HeaderId::MsKeepAlive, HOP, "about one connection (quirk ms-hop-by-hop)"),
    row(HeaderId::MsFe, HOP, "names one Front End (quirk ms-hop-by-hop)"),
    row(HeaderId::ProxyConnection, STOP, "about one connection"),
    row(HeaderId::PChargingVector, STOP, "charging data of one network"),
];

/// The table by passage and `HeaderId` number, made at compile time. What no row names would stop; a test keeps the
/// rows complete.
static ACTIONS: [[Action; HeaderId::COUNT]; Passage::ALL.len()] = by_number();

const fn by_number() -> [[Action; HeaderId::COUNT]; Passage::ALL.len()] {
    let mut all = [[Stop; HeaderId::COUNT]; Passage::ALL.len()];
    let mut at = 0;
    while at < ROWS.len() {
        let mut passage = 0;
        while passage < Passage::ALL.len() {
            all[passage][ROWS[at].id as usize] = ROWS[at].actions[passage];
            passage += 1;
        }
        at += 1;
    }
    all
}

/// What the table says of a known header; `None` for [`HeaderId::Other`].
pub(super) fn action(id: HeaderId, passage: Passage) -> Option<Action> {
    ACTIONS[passage as usize].get(id as usize).copied()
}
