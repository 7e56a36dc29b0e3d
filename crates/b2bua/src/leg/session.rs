//! The session timer of one leg (RFC 4028): which interval holds, who refreshes it, when that is due and when the
//! session is over. Owns the arithmetic and the words in headers; refuses to know calls, timers and what a refresh is
//! made of.

use std::time::{Duration, Instant};

use sip::{HeaderId, Message, Method, Refresher, SessionExpires};

use crate::policy::SessionRules;

/// No interval may be shorter (RFC 4028 §4).
pub(crate) const MIN_SE_SECS: u32 = 90;
/// A session is given up at most this long before its interval is over (RFC 4028 §10).
const GIVE_UP_SECS_MAX: u32 = 32;
/// A peer may raise the interval this often in one call, else a 422 to every request would go on for ever.
const RAISES_MAX: u8 = 3;
/// The longest interval a 422 may ask for: a day.
const INTERVAL_SECS_MAX: u32 = 86_400;

/// Who keeps a session alive.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum RefreshDuty {
    /// We do.
    Ours,
    /// The peer does.
    Theirs,
}

/// What both ends of a leg agreed on.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct SessionTimer {
    /// Session interval.
    pub secs: u32,
    /// Whose turn it is.
    pub refresh: RefreshDuty,
}

impl SessionTimer {
    /// What our 2xx to a request of the peer grants (RFC 4028 §9, table 2): `None` for a session without timer.
    pub fn granted(request: &Message, rules: &SessionRules) -> Option<Self> {
        let least = min_se(request).unwrap_or(0).max(rules.min_se_secs);
        let Some(asked) = asked(request) else {
            // A peer that only supports timers may be given one; refreshing it is then our work.
            let secs = rules.expires_secs.filter(|_| supports_timer(request))?;
            return Some(Self { secs: secs.max(least), refresh: RefreshDuty::Ours });
        };
        if !supports_timer(request) {
            // A proxy asked for it. The peer cannot refresh, and a 422 would say nothing to it.
            return (asked.secs >= MIN_SE_SECS)
                .then_some(Self { secs: asked.secs, refresh: RefreshDuty::Ours });
        }
        // §9: the interval may become shorter, never longer and never less than Min-SE.
        let secs = rules.expires_secs.map_or(asked.secs, |own| asked.secs.min(own.max(least)));
        let refresh = match asked.refresher {
            Some(Refresher::Uas) => RefreshDuty::Ours,
            Some(Refresher::Uac) | None => RefreshDuty::Theirs,
        };
        Some(Self { secs, refresh })
    }

    /// What a peer's 2xx to a request of ours says (RFC 4028 §7.2).
    pub fn agreed(response: &Message) -> Option<Self> {
        let said = asked(response)?;
        let refresh = match said.refresher {
            Some(Refresher::Uas) => RefreshDuty::Theirs,
            // Without the parameter nobody would refresh; one refresh too many harms nobody.
            Some(Refresher::Uac) | None => RefreshDuty::Ours,
        };
        Some(Self { secs: said.secs.max(1), refresh })
    }

    /// Session-Expires of our 2xx.
    pub fn as_server(&self) -> String {
        let who = match self.refresh {
            RefreshDuty::Ours => Refresher::Uas,
            RefreshDuty::Theirs => Refresher::Uac,
        };
        SessionExpires { secs: self.secs, refresher: Some(who) }.to_string()
    }

    /// Session-Expires of a request of ours: whoever refreshes goes on doing so (RFC 4028 §7.4).
    pub fn as_client(&self) -> String {
        let who = match self.refresh {
            RefreshDuty::Ours => Refresher::Uac,
            RefreshDuty::Theirs => Refresher::Uas,
        };
        SessionExpires { secs: self.secs, refresher: Some(who) }.to_string()
    }

    /// Until our refresh goes out: half the interval (RFC 4028 §7.2).
    pub fn refresh_after(&self) -> Duration {
        Duration::from_millis(u64::from(self.secs) * 500)
    }

    /// Until the session counts as dead: somewhat before the interval is over (RFC 4028 §10).
    pub fn over_after(&self) -> Duration {
        let secs = self.secs - (self.secs / 3).min(GIVE_UP_SECS_MAX);
        Duration::from_secs(u64::from(secs.max(1)))
    }
}

/// How we refresh toward a peer.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum RefreshBy {
    /// It did not say that it takes UPDATE.
    #[default]
    Invite,
    /// UPDATE without a description.
    Update,
}

/// The session timer of one leg, and what was learned on the way to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// In force; `None` when the leg has none.
    pub timer: Option<SessionTimer>,
    /// When the leg is given up unless it is refreshed.
    pub over_at: Option<Instant>,
    /// The method the peer takes.
    pub by: RefreshBy,
    /// The largest Min-SE of a 422 (RFC 4028 §7.3: it must come with every later request).
    min_se: Option<u32>,
    raises: u8,
}

impl Session {
    /// Lines of a request that refreshes this session or asks for one.
    pub fn request_lines(&self, rules: &SessionRules) -> Vec<(HeaderId, String)> {
        let interval = match &self.timer {
            Some(timer) => Some(self.raised(*timer).as_client()),
            // Who refreshes is the server's choice the first time (RFC 4028 §7.1).
            None => rules.expires_secs.map(|secs| secs.max(self.min_se.unwrap_or(0)).to_string()),
        };
        let Some(interval) = interval else { return Vec::new() };
        let least = rules.min_se_secs.max(self.min_se.unwrap_or(0));
        vec![(HeaderId::SessionExpires, interval), (HeaderId::MinSe, least.to_string())]
    }

    /// Takes the Min-SE of a 422. `false`: asking again would not help.
    pub fn raise(&mut self, response: &Message, rules: &SessionRules) -> bool {
        let asked = self.timer.map(|timer| self.raised(timer).secs).or(rules.expires_secs).unwrap_or(0);
        let asked = asked.max(self.min_se.unwrap_or(0));
        let wanted = min_se(response).filter(|wanted| *wanted > asked && *wanted <= INTERVAL_SECS_MAX);
        if wanted.is_none() || self.raises >= RAISES_MAX {
            return false;
        }
        self.raises += 1;
        self.min_se = wanted;
        true
    }

    /// We answer a request that opens or refreshes the session: from now on it lasts as long as what this gives.
    pub fn grant(&mut self, now: Instant, request: &Message, rules: &SessionRules) -> Option<SessionTimer> {
        self.learn(request);
        self.timer = SessionTimer::granted(request, rules);
        self.begin(now);
        self.timer
    }

    /// A 2xx of the peer to a request of ours that opens or refreshes the session.
    pub fn agree(&mut self, now: Instant, response: &Message) {
        self.learn(response);
        // A peer that leaves the header out of an answer may still count on the refreshes it had from us.
        let kept = self.timer.filter(|timer| timer.refresh == RefreshDuty::Ours);
        self.timer = SessionTimer::agreed(response).or(kept);
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        self.over_at = self.timer.map(|timer| now + timer.over_after());
    }

    /// When something is to be done about it: our refresh, or its end.
    pub fn due_at(&self) -> Option<Instant> {
        let (timer, over_at) = (self.timer?, self.over_at?);
        match timer.refresh {
            RefreshDuty::Ours => Some(over_at - (timer.over_after() - timer.refresh_after())),
            RefreshDuty::Theirs => Some(over_at),
        }
    }

    /// Learns from a message of the peer whether it takes UPDATE (RFC 3311 §4).
    pub fn learn(&mut self, message: &Message) {
        if *message.method() == Method::Update && message.is_request() {
            self.by = RefreshBy::Update;
        }
        if message.header(HeaderId::Allow).is_some() {
            let takes_update = names(message, HeaderId::Allow, b"UPDATE");
            self.by = if takes_update { RefreshBy::Update } else { RefreshBy::Invite };
        }
    }

    fn raised(&self, timer: SessionTimer) -> SessionTimer {
        SessionTimer { secs: timer.secs.max(self.min_se.unwrap_or(0)), ..timer }
    }
}

/// A request whose interval is refused with 422 (RFC 4028 §9): only a peer that knows timers understands that.
pub(crate) fn is_interval_too_small(request: &Message, rules: &SessionRules) -> bool {
    supports_timer(request) && asked(request).is_some_and(|asked| asked.secs < rules.min_se_secs)
}

/// Whether a message lists the option tag.
pub(crate) fn supports_timer(message: &Message) -> bool {
    names(message, HeaderId::Supported, b"timer") || names(message, HeaderId::Require, b"timer")
}

/// Whether a comma-separated header names a token.
pub(crate) fn names(message: &Message, id: HeaderId, token: &[u8]) -> bool {
    message
        .values(id)
        .flat_map(|list| list.split(|b| *b == b','))
        .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
}

fn asked(message: &Message) -> Option<SessionExpires> {
    SessionExpires::parse(&message.value_bytes(HeaderId::SessionExpires)?).ok()
}

fn min_se(message: &Message) -> Option<u32> {
    // RFC 4028 §5: delta-seconds and generic parameters, as in Session-Expires.
    Some(SessionExpires::parse(&message.value_bytes(HeaderId::MinSe)?).ok()?.secs)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::RefreshDuty::{Ours, Theirs};
    use super::*;
    use crate::policy::Allowed;

    const RULES: SessionRules =
        SessionRules { expires_secs: Some(1800), min_se_secs: 90, route_set_update: Allowed::Yes };

    fn message(first: &str, lines: &str) -> Message {
        let text = format!(
            "{first}\r\nVia: SIP/2.0/TLS h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 2 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text), &sip::Limits::default()).unwrap()
    }

    fn request(lines: &str) -> Message {
        message("INVITE sip:b@h SIP/2.0", lines)
    }

    fn response(status: u16, lines: &str) -> Message {
        message(&format!("SIP/2.0 {status} X"), lines)
    }

    #[test]
    fn who_refreshes_as_server_follows_the_table_of_rfc_4028_section_9() {
        let cases: [(&str, Option<(u32, RefreshDuty)>); 11] = [
            // The peer knows timers and leaves the choice, or has chosen.
            ("Supported: timer\r\nSession-Expires: 1800\r\n", Some((1800, Theirs))),
            ("Supported: 100rel, timer\r\nSession-Expires: 1800;refresher=uac\r\n", Some((1800, Theirs))),
            ("k: timer\r\nx: 1800;refresher=uas\r\n", Some((1800, Ours))),
            ("Require: timer\r\nSession-Expires: 600;refresher=uas\r\n", Some((600, Ours))),
            // Longer than ours: shortened, but not below the request's Min-SE.
            ("Supported: timer\r\nSession-Expires: 7200\r\n", Some((1800, Theirs))),
            ("Supported: timer\r\nSession-Expires: 7200\r\nMin-SE: 3600\r\n", Some((3600, Theirs))),
            // It knows timers and asks for none: ours, and our work.
            ("Supported: timer\r\n", Some((1800, Ours))),
            ("Supported: timer\r\nMin-SE: 4000\r\n", Some((4000, Ours))),
            // A proxy asks on behalf of a peer that knows no timers.
            ("Session-Expires: 1200\r\n", Some((1200, Ours))),
            ("Session-Expires: 20\r\n", None),
            // Nobody speaks of it.
            ("", None),
        ];
        for (lines, wanted) in cases {
            let granted = SessionTimer::granted(&request(lines), &RULES);
            assert_eq!(granted.map(|timer| (timer.secs, timer.refresh)), wanted, "{lines}");
        }
    }

    #[test]
    fn a_gateway_without_an_interval_of_its_own_grants_what_is_asked_and_asks_for_nothing() {
        let rules = SessionRules { expires_secs: None, ..RULES };
        let asked = request("Supported: timer\r\nSession-Expires: 7200\r\n");
        assert_eq!(SessionTimer::granted(&asked, &rules), Some(SessionTimer { secs: 7200, refresh: Theirs }));
        assert_eq!(SessionTimer::granted(&request("Supported: timer\r\n"), &rules), None);
        assert!(Session::default().request_lines(&rules).is_empty());
    }

    #[test]
    fn who_refreshes_as_client_follows_the_answer() {
        let cases = [
            ("Session-Expires: 1800;refresher=uac\r\nRequire: timer\r\n", Some((1800, Ours))),
            ("Session-Expires: 900;refresher=uas\r\n", Some((900, Theirs))),
            ("Session-Expires: 900\r\n", Some((900, Ours))),
            ("Session-Expires: 0;refresher=uas\r\n", Some((1, Theirs))),
            ("Session-Expires: soon\r\n", None),
            ("", None),
        ];
        for (lines, wanted) in cases {
            let agreed = SessionTimer::agreed(&response(200, lines));
            assert_eq!(agreed.map(|timer| (timer.secs, timer.refresh)), wanted, "{lines}");
        }
    }

    #[test]
    fn the_refresher_parameter_names_the_same_side_in_both_roles() {
        let cases = [
            (Ours, "1800;refresher=uas", "1800;refresher=uac"),
            (Theirs, "1800;refresher=uac", "1800;refresher=uas"),
        ];
        for (refresh, server, client) in cases {
            let timer = SessionTimer { secs: 1800, refresh };
            assert_eq!((timer.as_server().as_str(), timer.as_client().as_str()), (server, client));
        }
    }

    #[test]
    fn refreshes_go_out_at_half_time_and_a_silent_session_is_given_up_before_its_end() {
        // interval, refresh, end: a third of it, 32 s at most, before the interval is over (RFC 4028 §10).
        for (secs, half_ms, over) in [(1800, 900_000, 1768), (90, 45_000, 60), (30, 15_000, 20), (1, 500, 1)]
        {
            let timer = SessionTimer { secs, refresh: Ours };
            assert_eq!(timer.refresh_after(), Duration::from_millis(half_ms));
            assert_eq!(timer.over_after(), Duration::from_secs(over));
            assert!(timer.refresh_after() < timer.over_after());
        }
    }

    #[test]
    fn a_422_raises_the_interval_and_its_min_se_comes_with_every_later_request() {
        let mut session = Session::default();
        assert!(session.raise(&response(422, "Min-SE: 3600\r\n"), &RULES));
        let lines = session.request_lines(&RULES);
        let values: Vec<&str> = lines.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["3600", "3600"]);
        session.timer = Some(SessionTimer { secs: 1000, refresh: Ours });
        assert!(
            session.request_lines(&RULES).contains(&(HeaderId::SessionExpires, "3600;refresher=uac".into()))
        );
    }

    #[test]
    fn a_422_that_asks_for_nothing_more_or_for_too_much_is_not_followed() {
        let mut session = Session::default();
        for lines in ["", "Min-SE: 1800\r\n", "Min-SE: 90\r\n", "Min-SE: 4000000000\r\n", "Min-SE: x\r\n"] {
            assert!(!session.raise(&response(422, lines), &RULES), "{lines}");
        }
        for secs in [2000, 2001, 2002] {
            assert!(session.raise(&response(422, &format!("Min-SE: {secs}\r\n")), &RULES));
        }
        assert!(!session.raise(&response(422, "Min-SE: 2003\r\n"), &RULES), "not for ever");
    }

    #[test]
    fn only_a_peer_that_knows_timers_is_told_that_its_interval_is_too_small() {
        let too_small = |lines: &str| is_interval_too_small(&request(lines), &RULES);
        assert!(too_small("Supported: timer\r\nSession-Expires: 89\r\n"));
        assert!(!too_small("Supported: timer\r\nSession-Expires: 90\r\n"));
        assert!(!too_small("Session-Expires: 89\r\n"));
        assert!(!too_small("Supported: timer\r\n"));
    }

    #[test]
    fn update_is_used_toward_a_peer_that_allows_it_and_not_toward_another() {
        let mut session = Session::default();
        assert_eq!(session.by, RefreshBy::Invite, "nothing said");
        session.learn(&response(200, "Allow: INVITE, ACK, UPDATE\r\nAllow: BYE\r\n"));
        assert_eq!(session.by, RefreshBy::Update);
        session.learn(&response(200, ""));
        assert_eq!(session.by, RefreshBy::Update, "an answer without Allow takes nothing back");
        session.learn(&response(200, "Allow: INVITE, ACK, BYE\r\n"));
        assert_eq!(session.by, RefreshBy::Invite);
    }
}
