//! How a server goes about what calls do not depend on: texts, redirects, what comes before an answer, crypto lines, timers, reports, worker
//! processes. Each is a knob with a default of ours; what versions of Exchange are known to differ in is in [`Manner::of`].

use std::time::Duration;

use sdp::Suite;

use super::Allowed;

/// What UM says it is, as it was seen (Exchange 2013); of other versions no text is known.
pub const SERVER_HEADER: &str = "RTCC/4.0.0.0 MSExchangeUM/15.00.1497.000";
/// Suites that a lab endpoint knows.
pub const SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];

/// Versions of Exchange that have a UM.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Version {
    /// No Call Router: the UM service itself redirects to its workers. No missed-call notifications.
    E2010,
    /// Call Router, UM service, workers.
    #[default]
    E2013,
    /// The same; nothing that tells it from 2013 on the wire is documented.
    E2016,
}

/// How a server behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// `SERVER` of every response; `None` = there is none.
    pub server_text: Option<String>,
    /// Whom a Call Router names.
    pub redirects_to: RedirectsTo,
    /// The Contact of a redirect.
    pub contact: ContactShape,
    /// What a caller hears before 200, where anything is to be heard.
    pub first_word: FirstWord,
    /// Crypto suites: which are taken, and which is offered first.
    pub suites: Vec<Suite>,
    /// Whether offers of this side carry an MKI, as Lync's do (`|2^31|1:1`). An answer has what was offered.
    pub mki: Allowed,
    /// Session interval (RFC 4028) granted to callers that support it; `None` = no session timer.
    pub session_expires: Option<Duration>,
    /// Whether there are RTCP reports.
    pub rtcp: Allowed,
    /// What becomes of a Diversion whose quoting is malformed.
    pub malformed_diversion: MalformedDiversion,
    /// Status of a call beyond `MaxCallsAllowed`, or at a server that takes none. What Exchange sends is not documented.
    pub full_status: u16,
    /// Whether owners hear of calls that left nothing.
    pub missed_calls: Allowed,
    /// When a worker process makes place for the next; `None` = never.
    pub recycling: Option<Recycling>,
    /// Of a hosted UM its tenants: the Request-URI must name one of them (none = anybody's), or the server itself. `None` = a server of the site, to
    /// which Call Routers redirect.
    pub tenants: Option<Vec<String>>,
}

/// Whom a Call Router names in its 302.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum RedirectsTo {
    /// The UM service of a Mailbox server, which redirects again: two hops.
    #[default]
    Service,
    /// A worker: one hop.
    Worker,
}

/// The Contact of a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactShape {
    /// `;user=phone`
    pub user_phone: Allowed,
    /// `;maddr=` with the host again.
    pub maddr: Allowed,
    /// `;ms-fe=` with this name.
    pub ms_fe: Option<String>,
}

/// A provisional response.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum FirstWord {
    /// 180 Ringing.
    #[default]
    Ringing,
    /// 183 Session Progress.
    Progress,
}

/// What becomes of a Diversion whose quoting is malformed.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum MalformedDiversion {
    /// It is understood.
    #[default]
    Repaired,
    /// The call is refused, as was seen; the status, 400, is ours.
    Refused,
}

/// When a worker process makes place for the next, as UM recycles its processes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Recycling {
    /// After so many calls; `None` = however many.
    pub calls: Option<u32>,
    /// After so long; `None` = however long.
    pub period: Option<Duration>,
    /// What becomes of its calls.
    pub old_calls: OldCalls,
}

/// What becomes of the calls of a worker process that is recycled.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum OldCalls {
    /// They go on.
    #[default]
    GoOn,
    /// They get BYE.
    Cut,
}

impl Default for ContactShape {
    fn default() -> Self {
        ContactShape { user_phone: Allowed::Yes, maddr: Allowed::Yes, ms_fe: None }
    }
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            server_text: Some(SERVER_HEADER.to_owned()),
            redirects_to: RedirectsTo::default(),
            contact: ContactShape::default(),
            first_word: FirstWord::default(),
            suites: SUITES.to_vec(),
            mki: Allowed::No,
            session_expires: None,
            rtcp: Allowed::Yes,
            malformed_diversion: MalformedDiversion::default(),
            full_status: 503,
            missed_calls: Allowed::Yes,
            recycling: None,
            tenants: None,
        }
    }
}

impl Manner {
    /// As a version of Exchange is known to behave.
    pub fn of(version: Version) -> Self {
        let missed_calls = if version == Version::E2010 { Allowed::No } else { Allowed::Yes };
        Manner { malformed_diversion: MalformedDiversion::Refused, missed_calls, ..Manner::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_differ_in_what_is_known_of_them_alone() {
        let [old, middle, new] = [Version::E2010, Version::E2013, Version::E2016].map(Manner::of);
        assert_eq!(middle, new);
        assert_eq!(Manner { missed_calls: Allowed::Yes, ..old }, middle);
    }
}
