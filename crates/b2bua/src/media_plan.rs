//! Offer and answer through the gateway: what each leg has been told, what both have settled, and the
//! relay plan that follows. Owns session descriptions and our own keys of one call. Refuses to know
//! which message carried a description; a [`Decision`] must be at hand before anything is written.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use relay::Side;
use sdp::{
    AcceptedAudio, Anchor, AnswerError, AnswerMedia, CodecPolicy, CryptoLine, DefaultCandidate, Ice, IceForm,
    IceLines, Numbering, Numbers, OfferError, OfferMedia, OfferSpec, OriginSeed, PayloadType, Profile,
    Session, Suite,
};

use crate::engine::MediaPorts;
use crate::engine::keys::KeySource;
use crate::leg::LegPeer;
use crate::policy::{IcePolicy, MediaMode, Policy, RtcpMode};
use crate::profile::{Dialect, Digits};
use crate::quirks::{Quirk, QuirkSet};
use crate::security::{self, Decision, LegMedia};

/// Clock of the events that digits are turned into.
const EVENT_CLOCK_HZ: u32 = 8_000;
/// Tag of the one line we offer.
const OWN_TAG: u32 = 1;
/// Payload number of telephone-event in an offer that is ours alone.
const TELEPHONE_EVENT: u8 = 101;
/// Of G.711, and of nearly all speech.
const DEFAULT_CLOCK_HZ: u32 = 8_000;
/// Payload types from here on mean what a description says.
const DYNAMIC_TYPES_FROM: u8 = 96;

/// Why a description cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MediaFault {
    /// The offer.
    #[error("offer: {0}")]
    Offer(#[from] OfferError),
    /// The answer.
    #[error("answer: {0}")]
    Answer(#[from] AnswerError),
    /// Its media would be where those of its sender may not be.
    #[error("media address {0} is in none of its `media_networks`")]
    Foreign(IpAddr),
    /// This gateway has no media address that could speak with it.
    #[error("media address {0} is of a family that there is none of here")]
    Family(IpAddr),
    /// No port, key or codec of our own.
    #[error("{0}")]
    Own(&'static str),
}

/// One offer on its way through the gateway: what came, and what we made of it.
pub(crate) struct Exchange {
    /// Who offered.
    pub from: Side,
    /// The offer as it came; `None` when it is ours (late offer).
    offer: Option<Arc<Session>>,
    /// What we sent to the other side.
    relayed: Session,
    /// The same, byte for byte.
    told: Bytes,
    /// Our key in `relayed`.
    key: Option<CryptoLine>,
}

/// What a leg has settled.
#[derive(Clone)]
struct Settled {
    rtp: SocketAddr,
    rtcp: SocketAddr,
    mux: bool,
    /// Of the codecs both sides described; which they are stands in the peer's description.
    formats: Vec<Numbers>,
    direction: sdp::Direction,
    keys: Option<Keys>,
}

/// Both directions of a sealed leg.
#[derive(Clone)]
struct Keys {
    theirs: CryptoLine,
    ours: CryptoLine,
}

/// One leg's descriptions.
#[derive(Clone)]
struct LegState {
    session_id: u64,
    version: u64,
    /// The last description they sent that was accepted.
    remote: Option<Arc<Session>>,
    /// The last description we sent them that was accepted.
    told: Option<Bytes>,
    settled: Option<Settled>,
    /// What payload types meant in earlier descriptions of either side and mean for ever (RFC 3264 §8.3.2).
    former: Vec<PayloadType>,
    /// What its checks carry; `None` where ICE is not used.
    ice: Option<Box<Ice>>,
    /// An address of the family its media is of, or that its messages come from.
    near: Option<IpAddr>,
    /// How its digits travel.
    digits: Digits,
    quirks: QuirkSet,
    /// Where its media may be; empty = anywhere.
    networks: Arc<[relay::Network]>,
}

/// Media of one call.
pub(crate) struct CallMedia {
    ports: MediaPorts,
    policy: Arc<Policy>,
    a: LegState,
    b: LegState,
    reports: Option<relay::Reports>,
}

impl CallMedia {
    /// Media anchored at the gateway's address on `ports`.
    pub fn new(policy: &Arc<Policy>, ports: MediaPorts, keys: &mut KeySource) -> Self {
        let (a, b) = (LegState::new(keys), LegState::new(keys));
        let reports = (policy.gateway.rtcp == RtcpMode::Generate).then(|| keys.reports(DEFAULT_CLOCK_HZ));
        Self { ports, policy: policy.clone(), a, b, reports }
    }

    /// Who is on a side.
    pub fn speaks(&mut self, side: Side, peer: &LegPeer) {
        let leg = self.leg_mut(side);
        leg.quirks = peer.dialect.quirks;
        leg.digits = peer.dialect.digits;
        leg.networks = peer.media_networks.clone();
        leg.near.get_or_insert(peer.address);
    }

    /// Where somebody on that side will be, as far as one can tell before it has spoken.
    pub fn expects(&mut self, side: Side, near: Option<IpAddr>) {
        self.leg_mut(side).near = near;
    }

    /// These media with somebody new on one side: what they would be, before anything is settled. The other side is
    /// offered a fresh key of ours, since what is sealed for it comes from somebody else now.
    pub fn fork(&self, fresh: Side, keys: &mut KeySource) -> Self {
        let mut fork = Self {
            ports: self.ports,
            policy: self.policy.clone(),
            a: self.a.clone(),
            b: self.b.clone(),
            reports: self.reports,
        };
        *fork.leg_mut(fresh) = LegState::new(keys);
        fork.leg_mut(!fresh).forget_keys();
        fork
    }

    /// Takes one side as it stands in other media of the same call.
    pub fn adopt(&mut self, side: Side, from: &Self) {
        *self.leg_mut(side) = from.leg(side).clone();
        self.leg_mut(side).forget_keys();
    }

    /// Nothing goes to or comes from that side any more: its far end is gone.
    pub fn silence(&mut self, side: Side) {
        if let Some(settled) = &mut self.leg_mut(side).settled {
            settled.direction = sdp::Direction::Inactive;
        }
    }

    /// Turns an offer of `from` into ours for the other side.
    pub fn relay_offer(
        &mut self,
        from: Side,
        mut offer: Session,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<(Bytes, Exchange), MediaFault> {
        let policy = self.policy.clone();
        offer.keep_formats(codecs_of(&policy));
        self.relay_offer_with(from, Arc::new(offer), codecs_of(&policy), decision, keys)
    }

    /// As [`Self::relay_offer`], for an answer that becomes the offer of a late-offer call: one codec
    /// only, because its sender cannot be told again which one the other side chose.
    pub fn relay_settled(
        &mut self,
        from: Side,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<(Bytes, Exchange), MediaFault> {
        let answer = self.leg(from).remote.clone().ok_or(MediaFault::Own("no description to offer"))?;
        let first = answer.audio().and_then(|audio| audio.formats.iter().find(|f| !f.is_auxiliary()));
        let name = first.map(|f| f.name.clone()).ok_or(MediaFault::Own("no codec to offer"))?;
        self.relay_offer_with(from, answer, CodecPolicy { names: &[name] }, decision, keys)
    }

    fn relay_offer_with(
        &mut self,
        from: Side,
        offer: Arc<Session>,
        codecs: CodecPolicy<'_>,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<(Bytes, Exchange), MediaFault> {
        self.check_place(from, &offer)?;
        let (media, key) = self.offered_media(!from, &offer, decision, keys)?;
        let mux = self.leg(!from).settled.as_ref().is_some_and(|settled| settled.mux);
        let anchor = self.anchor(!from, &offer, mux)?;
        let origin = self.leg_mut(!from).next_origin();
        let leg = self.leg(!from);
        let before = leg.told_session();
        let bound = match self.policy.gateway.media_mode {
            MediaMode::Anchored => leg.bound(before.as_ref()),
            MediaMode::Unanchored => Vec::new(),
        };
        let events = (self.leg(from).digits == Digits::Info).then(|| offer.with_events());
        let carried = events.as_ref().unwrap_or(&offer);
        let (bytes, relayed) =
            sdp::relay_offer(carried, before.as_ref(), &bound, &anchor, codecs, &media, &origin)?;
        let told = bytes.clone();
        Ok((bytes, Exchange { from, offer: Some(offer), relayed: relayed.session, told, key }))
    }

    /// An offer of our own toward `to`, when the other side brought none.
    pub fn own_offer(
        &mut self,
        to: Side,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<(Bytes, Exchange), MediaFault> {
        if let Some(known) = self.leg(!to).remote.clone() {
            let policy = self.policy.clone();
            return self.relay_offer_with(!to, known, codecs_of(&policy), decision, keys);
        }
        if self.policy.gateway.media_mode == MediaMode::Unanchored {
            return Err(MediaFault::Own("an offer without media of our own is not possible"));
        }
        let (media, key) = self.own_media(to, decision, keys)?;
        let (rtp_port, rtcp_port) = self.ports_of(to);
        let mut spec = OfferSpec::new(self.media_address(to), rtp_port);
        spec.rtcp_port = rtcp_port;
        spec.formats = own_formats(&self.policy.gateway.codecs);
        spec.origin = self.leg_mut(to).next_origin();
        spec.ice = self.leg(to).ice_lines();
        if let OfferMedia::Sealed(lines) = media {
            spec.profile = Profile::RtpSavp;
            spec.crypto = lines;
        }
        let bytes = sdp::write_offer(&spec);
        let relayed = Session::parse(&bytes).map_err(|_| MediaFault::Own("no codec to offer"))?;
        let told = bytes.clone();
        Ok((bytes, Exchange { from: !to, offer: None, relayed, told, key }))
    }

    /// What a leg was told last, offered once more: same version, nothing changes (RFC 3264 §8).
    pub fn repeated_offer(&self, to: Side) -> Option<(Bytes, Exchange)> {
        let leg = self.leg(to);
        let told = leg.told.clone()?;
        let relayed = Session::parse(&told).ok()?;
        let key = leg.settled.as_ref().and_then(|s| s.keys.as_ref()).map(|k| k.ours.clone());
        Some((told.clone(), Exchange { from: !to, offer: None, relayed, told, key }))
    }

    /// Takes the answer to what we sent; settles the answering leg.
    pub fn settle_answer(&mut self, exchange: &Exchange, mut answer: Session) -> Result<(), MediaFault> {
        let accepted = sdp::check_answer(&exchange.relayed, &answer)?;
        self.check_place(!exchange.from, &answer)?;
        let offered = exchange.relayed.audio().and_then(|audio| audio.connection);
        if offered.is_some_and(|ours| !is_reachable(ours, accepted.rtp.ip())) {
            return Err(MediaFault::Family(accepted.rtp.ip()));
        }
        answer.keep_formats(codecs_of(&self.policy));
        let mux = answer.audio().is_some_and(|audio| audio.rtcp_mux);
        if answer.audio().is_none_or(|audio| audio.ice.is_none()) {
            self.leg_mut(!exchange.from).ice = None;
        }
        let settled = Settled::of_answer(accepted, &exchange.relayed, mux, exchange.key.clone());
        self.leg_mut(!exchange.from).settle(settled, Arc::new(answer), &exchange.told);
        Ok(())
    }

    /// Writes our answer toward the offering side from what the other side settled; settles that leg too.
    pub fn answer_offerer(
        &mut self,
        exchange: &Exchange,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<Bytes, MediaFault> {
        let offer = exchange.offer.clone().ok_or(MediaFault::Own("there is no offer to answer"))?;
        self.answer(exchange.from, offer, &|_| true, decision, keys)
    }

    /// Answers an offer of `side` here, because the other side cannot be asked: with what that side agreed to before.
    pub fn answer_here(
        &mut self,
        side: Side,
        mut offer: Session,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<Bytes, MediaFault> {
        let agreed = self.leg(!side).settled.as_ref().map(|s| s.formats.clone());
        let agreed = agreed.ok_or(MediaFault::Own("nothing was agreed yet"))?;
        self.check_place(side, &offer)?;
        offer.keep_formats(codecs_of(&self.policy));
        let is_agreed = |number| agreed.iter().any(|numbers| numbers.sent == number);
        self.answer(side, Arc::new(offer), &is_agreed, decision, keys)
    }

    fn answer(
        &mut self,
        side: Side,
        offer: Arc<Session>,
        may_pass: &dyn Fn(u8) -> bool,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<Bytes, MediaFault> {
        let audio = offer.audio().ok_or(MediaFault::Offer(OfferError::NoAudio))?;
        let (rtp, rtcp) = audio.remote().ok_or(MediaFault::Offer(OfferError::NoAddress))?;
        let other = self.leg(!side).remote.clone().ok_or(MediaFault::Own("nothing was answered"))?;
        let sealed = match media_of(decision, side) {
            LegMedia::Rtp => None,
            LegMedia::Srtp => Some(self.answering_keys(side, audio, &other, keys)?),
        };
        let media =
            sealed.as_ref().map_or(AnswerMedia::Clear, |k| AnswerMedia::Sealed { line: k.ours.clone() });
        let is_anchored = self.policy.gateway.media_mode == MediaMode::Anchored;
        let mux = is_anchored && audio.rtcp_mux && !audio.formats.iter().any(looks_like_rtcp);
        let ice = self.answering_ice(side, audio, keys);
        let anchor = Anchor { ice, ..self.anchor(side, &other, mux)? };
        let origin = self.leg_mut(side).next_origin();
        let numbering = if is_anchored { Numbering::OfOffer } else { Numbering::OfAnswer };
        let (bytes, ours) =
            sdp::relay_answer_within(&offer, &other, may_pass, numbering, &anchor, &media, &origin)?;
        let direction = audio.direction.within(ours.direction.mirrored());
        let formats = sdp::agreed_numbers(&ours.formats, &audio.formats);
        let settled = Settled { rtp, rtcp, mux, formats, direction, keys: sealed };
        self.leg_mut(side).settle(settled, offer, &bytes);
        self.leg_mut(side).ice = match anchor.ice {
            IceLines::Lite(ours) => Some(ours),
            IceLines::Silent | IceLines::Mismatch => None,
        };
        Ok(bytes)
    }

    // The same peer key keeps our key (RFC 4568 §7.1.4: a new key would reset the rollover counter).
    fn answering_keys(
        &self,
        side: Side,
        audio: &sdp::Audio,
        other: &Session,
        keys: &mut KeySource,
    ) -> Result<Keys, MediaFault> {
        let suites = &self.policy.gateway.srtp.suites;
        let picked = match self.leg(side).quirks.has(Quirk::MkiLessCrypto) {
            true => sdp::pick_crypto(audio, suites),
            false => sdp::pick_crypto_as_offered(audio, suites),
        };
        let theirs = picked.ok_or(MediaFault::Answer(AnswerError::CryptoNotOffered))?;
        if self.policy.gateway.media_mode == MediaMode::Unanchored {
            let answered = other.audio().and_then(|audio| audio.crypto.first().cloned());
            let ours = answered.ok_or(MediaFault::Answer(AnswerError::CryptoLine))?;
            return Ok(Keys { theirs, ours });
        }
        let kept = self.leg(side).settled.as_ref().and_then(|s| s.keys.as_ref());
        let kept = kept
            .filter(|k| k.theirs.key == theirs.key && k.theirs.suite == theirs.suite)
            .map(|k| k.ours.clone());
        let fresh = || keys.crypto_line(theirs.tag, theirs.suite);
        let mut ours = kept.or_else(fresh).ok_or(MediaFault::Own("no key could be made"))?;
        ours.tag = theirs.tag;
        Ok(Keys { theirs, ours })
    }

    // The same name and password as long as the peer keeps its own; others are a new beginning (RFC 8445 §9).
    fn answering_ice(&self, side: Side, audio: &sdp::Audio, keys: &mut KeySource) -> IceLines {
        let gateway = &self.policy.gateway;
        let Some(theirs) = audio
            .ice
            .as_ref()
            .filter(|_| gateway.ice == IcePolicy::Answer && gateway.media_mode == MediaMode::Anchored)
        else {
            return IceLines::Silent;
        };
        if theirs.default == DefaultCandidate::Missing {
            return IceLines::Mismatch;
        }
        let leg = self.leg(side);
        let before = leg.remote.as_ref().and_then(|session| session.audio()?.ice.as_ref());
        let kept = leg.ice.clone().filter(|_| before.is_some_and(|before| before.goes_on(theirs)));
        IceLines::Lite(kept.unwrap_or_else(|| Box::new(keys.ice(theirs))))
    }

    // Media that is not anchored is between the peers, and so are its keys.
    fn offered_media(
        &self,
        to: Side,
        offer: &Session,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<(OfferMedia, Option<CryptoLine>), MediaFault> {
        let is_sealed = media_of(decision, to) == LegMedia::Srtp;
        if !is_sealed || self.policy.gateway.media_mode == MediaMode::Anchored {
            return self.own_media(to, decision, keys);
        }
        let lines = offer.audio().map(|audio| audio.crypto.clone()).unwrap_or_default();
        Ok((OfferMedia::Sealed(lines), None))
    }

    // A leg that has our key already is offered the same one again: nothing changes for its peer.
    fn own_media(
        &self,
        to: Side,
        decision: &Decision,
        keys: &mut KeySource,
    ) -> Result<(OfferMedia, Option<CryptoLine>), MediaFault> {
        if media_of(decision, to) == LegMedia::Rtp {
            return Ok((OfferMedia::Clear, None));
        }
        let in_use = self.leg(to).settled.as_ref().and_then(|s| s.keys.as_ref()).map(|k| k.ours.clone());
        let first = self.policy.gateway.srtp.suites.first();
        let fresh = || keys.crypto_line(OWN_TAG, *first?);
        let line = in_use.or_else(fresh).ok_or(MediaFault::Own("no key could be made"))?;
        Ok((OfferMedia::Sealed(vec![line.clone()]), Some(line)))
    }

    /// Whether what leg A agreed to still fits what leg B agreed to since: every codec the caller may send is
    /// taken, and both sides mean the same directions.
    pub fn legs_agree(&self) -> bool {
        let (Some(a), Some(b)) = (&self.a.settled, &self.b.settled) else { return true };
        let all_pass = self.a.crossing(&self.b).all(|(_, sent)| sent.is_some());
        all_pass && a.direction == b.direction.mirrored()
    }

    /// What is taken from a side, and under which numbers it goes to the other one.
    fn formats(&self, from: Side) -> relay::Formats {
        let mut formats = relay::Formats::none();
        for (heard, sent) in self.leg(from).crossing(self.leg(!from)) {
            match sent {
                Some(sent) => formats.pass(heard, sent),
                None => formats.keep(heard),
            }
        }
        formats
    }

    /// Whether digits in INFO from the other side become events on this one, and events of it digits in INFO.
    pub fn turns_digits(&self, side: Side) -> bool {
        self.events(side).is_some()
    }

    // Where the other side has its digits in INFO, and only this one takes events.
    fn events(&self, side: Side) -> Option<relay::Events> {
        let (leg, other) = (self.leg(side), self.leg(!side));
        let is_wanted = other.digits == Digits::Info && leg.digits == Digits::Pass;
        let (heard, sent) = leg.event_numbers().filter(|_| is_wanted && other.event_numbers().is_none())?;
        Some(relay::Events { heard, sent, seed: leg.session_id as u32 })
    }

    /// The plan, once both legs have settled.
    pub fn plan(&self) -> Option<relay::Plan> {
        let gateway = &self.policy.gateway;
        if gateway.media_mode == MediaMode::Unanchored {
            return None;
        }
        let plan = |side| {
            let plan = self.leg(side).plan(gateway.srtp.provider, self.formats(side))?;
            Some(relay::LegPlan { events: self.events(side), ..plan })
        };
        let (a, b) = (plan(Side::A)?, plan(Side::B)?);
        let clock_hz = self.codec_in_use().map_or(DEFAULT_CLOCK_HZ, |codec| codec.clock);
        let reports = self.reports.map(|reports| relay::Reports { clock_hz, ..reports });
        Some(relay::Plan { a, b, inactivity: gateway.media_inactivity, reports })
    }

    /// Name of the codec in use, for the record.
    pub fn codec(&self) -> Option<String> {
        self.codec_in_use().map(|codec| codec.name.clone())
    }

    fn codec_in_use(&self) -> Option<&PayloadType> {
        let remote = self.b.remote.as_ref().or(self.a.remote.as_ref())?;
        formats_of(remote).find(|format| !format.is_auxiliary())
    }

    // Where the peer of `side` shall send: here, or where the other peer said when media is not anchored.
    fn anchor(&self, side: Side, other: &Session, rtcp_mux: bool) -> Result<Anchor, MediaFault> {
        if self.policy.gateway.media_mode == MediaMode::Unanchored {
            let (rtp, rtcp) =
                other.audio().and_then(sdp::Audio::remote).ok_or(MediaFault::Offer(OfferError::NoAddress))?;
            let (rtp_port, rtcp_port, ice) = (rtp.port(), rtcp.port(), IceLines::Silent);
            return Ok(Anchor { address: rtp.ip(), rtp_port, rtcp_port, rtcp_mux, ice });
        }
        let (rtp_port, rtcp_port) = self.ports_of(side);
        let ice = self.leg(side).ice_lines();
        Ok(Anchor { address: self.media_address(side), rtp_port, rtcp_port, rtcp_mux, ice })
    }

    // Of the family of that side, if there is one.
    fn media_address(&self, side: Side) -> IpAddr {
        let gateway = &self.policy.gateway;
        let near = self.leg(side).near.unwrap_or(gateway.advertised);
        let like = gateway.media_addresses.like(near);
        like.or_else(|| gateway.media_addresses.all().next()).unwrap_or(gateway.advertised)
    }

    // Takes a description of a side by its addresses: they may be its, and ours may speak with them.
    fn check_place(&mut self, side: Side, description: &Session) -> Result<(), MediaFault> {
        self.leg(side).check_networks(description)?;
        let Some((rtp, _)) = description.audio().and_then(sdp::Audio::remote) else { return Ok(()) };
        if rtp.ip().is_unspecified() || self.policy.gateway.media_mode == MediaMode::Unanchored {
            return Ok(());
        }
        if self.policy.gateway.media_addresses.like(rtp.ip()).is_none() {
            return Err(MediaFault::Family(rtp.ip()));
        }
        self.leg_mut(side).near = Some(rtp.ip());
        Ok(())
    }

    fn ports_of(&self, side: Side) -> (u16, u16) {
        match side {
            Side::A => (self.ports.a_rtp, self.ports.a_rtcp),
            Side::B => (self.ports.b_rtp, self.ports.b_rtcp),
        }
    }

    fn leg(&self, side: Side) -> &LegState {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    fn leg_mut(&mut self, side: Side) -> &mut LegState {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }
}

impl LegState {
    fn new(keys: &mut KeySource) -> Self {
        Self {
            session_id: keys.session_id(),
            version: 0,
            remote: None,
            told: None,
            settled: None,
            former: Vec::new(),
            ice: None,
            near: None,
            digits: Digits::Pass,
            quirks: QuirkSet::NONE,
            networks: Arc::default(),
        }
    }

    // An address of no host (RFC 3264 §8.4: the old way to hold) gets no packet.
    fn check_networks(&self, description: &Session) -> Result<(), MediaFault> {
        let Some((rtp, rtcp)) = description.audio().and_then(sdp::Audio::remote) else { return Ok(()) };
        let is_allowed = |address: &IpAddr| {
            address.is_unspecified() || self.networks.iter().any(|network| network.contains(*address))
        };
        match [rtp.ip(), rtcp.ip()].into_iter().find(|address| !is_allowed(address)) {
            Some(foreign) if !self.networks.is_empty() => Err(MediaFault::Foreign(foreign)),
            _ => Ok(()),
        }
    }

    // In an offer of ours to a leg that uses it; it is never offered first.
    fn ice_lines(&self) -> IceLines {
        self.ice.clone().map_or(IceLines::Silent, IceLines::Lite)
    }

    fn ice_credentials(&self) -> Option<relay::IceCredentials> {
        let ours = self.ice.as_ref()?;
        match ours.form {
            IceForm::Fragments => {
                let theirs = self.remote.as_ref()?.audio()?.ice.as_ref()?;
                relay::IceCredentials::fragments(&ours.name, &theirs.name, ours.password())
            }
            IceForm::Candidates => {
                let (name, password) = ours.octets()?;
                relay::IceCredentials::candidate(&name, &password)
            }
        }
    }

    fn forget_keys(&mut self) {
        if let Some(settled) = &mut self.settled {
            settled.keys = None;
        }
    }

    fn told_session(&self) -> Option<Session> {
        self.told.as_ref().and_then(|told| Session::parse(told).ok())
    }

    // The numbers of events that both ends of the leg agreed to.
    fn event_numbers(&self) -> Option<(u8, u8)> {
        let told = self.told_session()?;
        let events =
            formats_of(&told).filter(|format| format.is("telephone-event") && format.clock == EVENT_CLOCK_HZ);
        let agreed = &self.settled.as_ref()?.formats;
        let mut both = events.filter_map(|ours| agreed.iter().find(|numbers| numbers.heard == ours.pt));
        both.next().map(|numbers| (numbers.heard, numbers.sent))
    }

    /// The formats whose numbers mean something on this leg, those it was told last first.
    fn bound<'a>(&'a self, told: Option<&'a Session>) -> Vec<&'a PayloadType> {
        let described = [told, self.remote.as_deref()].into_iter().flatten();
        described.flat_map(formats_of).chain(&self.former).collect()
    }

    /// Both sides have described their part. What numbers meant before is kept in mind.
    fn settle(&mut self, settled: Settled, remote: Arc<Session>, told: &Bytes) {
        if self.told.as_ref().is_some_and(|before| before != told) {
            let before = self.told_session();
            let news = Session::parse(told).ok();
            let is_said = |format: &PayloadType| {
                let now = [news.as_ref(), Some(&*remote)].into_iter().flatten().flat_map(formats_of);
                now.chain(&self.former).any(|known| known.pt == format.pt)
            };
            let lost = self.bound(before.as_ref()).into_iter().filter(|f| f.pt >= DYNAMIC_TYPES_FROM);
            let lost: Vec<PayloadType> = lost.filter(|format| !is_said(format)).cloned().collect();
            for format in lost {
                if self.former.iter().all(|known| known.pt != format.pt) {
                    self.former.push(format);
                }
            }
        }
        self.settled = Some(settled);
        self.remote = Some(remote);
        // Copied: the buffer it was printed into is larger.
        self.told = Some(Bytes::copy_from_slice(told));
    }

    /// Each number heard here with that of the same codec on the other leg, if it has agreed to it too.
    fn crossing<'a>(&'a self, other: &'a LegState) -> impl Iterator<Item = (u8, Option<u8>)> + 'a {
        let agreed = self.settled.iter().flat_map(|settled| &settled.formats);
        agreed.filter_map(move |numbers| {
            let codec = self.codec(numbers.sent)?;
            Some((numbers.heard, other.number_of(codec, numbers.heard)))
        })
    }

    fn codec(&self, theirs: u8) -> Option<&PayloadType> {
        self.remote.as_deref().and_then(|remote| formats_of(remote).find(|format| format.pt == theirs))
    }

    /// The number under which this leg is sent a codec, `preferred` if it has several.
    fn number_of(&self, codec: &PayloadType, preferred: u8) -> Option<u8> {
        let (settled, remote) = (self.settled.as_ref()?, self.remote.as_deref()?);
        let is_agreed = |number: u8| settled.formats.iter().any(|numbers| numbers.sent == number);
        let same = || formats_of(remote).filter(|f| is_agreed(f.pt) && f.same_codec(codec)).map(|f| f.pt);
        same().find(|number| *number == preferred).or_else(|| same().next())
    }

    fn next_origin(&mut self) -> OriginSeed {
        self.version += 1;
        OriginSeed { session_id: self.session_id, version: self.version }
    }

    fn plan(&self, provider: relay::Provider, formats: relay::Formats) -> Option<relay::LegPlan> {
        let settled = self.settled.as_ref()?;
        let protection = match &settled.keys {
            None => relay::Protection::Clear,
            Some(keys) => relay::Protection::Sealed {
                inbound: key_params(&keys.theirs, provider)?,
                outbound: key_params(&keys.ours, provider)?,
            },
        };
        Some(relay::LegPlan {
            remote_rtp: settled.rtp,
            remote_rtcp: settled.rtcp,
            rtcp_mux: settled.mux,
            protection,
            direction: seen_from_here(settled.direction),
            latch: relay::LatchRule { networks: self.networks.to_vec(), ..relay::LatchRule::default() },
            formats,
            ice: self.ice_credentials(),
            events: None,
        })
    }
}

impl Settled {
    fn of_answer(accepted: AcceptedAudio, offer: &Session, mux: bool, ours: Option<CryptoLine>) -> Self {
        let offered = offer.audio().map(|audio| audio.formats.as_slice()).unwrap_or_default();
        let keys = accepted.crypto.zip(ours).map(|(theirs, ours)| Keys { theirs, ours });
        Self {
            rtp: accepted.rtp,
            rtcp: accepted.rtcp,
            mux: mux && offers_mux(offer),
            formats: sdp::agreed_numbers(offered, &accepted.formats),
            direction: accepted.direction,
            keys,
        }
    }
}

/// Whether packets from our address get to theirs; an address of no host gets none anyway.
fn is_reachable(ours: IpAddr, theirs: IpAddr) -> bool {
    theirs.is_unspecified() || ours.is_ipv4() == theirs.is_ipv4()
}

/// What a description says about protection, in the words of [`security::decide`].
pub(crate) fn said(session: &Session) -> security::MediaSecurity {
    match session.audio().map(sdp::Audio::security) {
        Some(sdp::MediaSecurity::Required) => security::MediaSecurity::Required,
        Some(sdp::MediaSecurity::Optional) => security::MediaSecurity::Optional,
        Some(sdp::MediaSecurity::None) => security::MediaSecurity::None,
        Some(sdp::MediaSecurity::Unusable(_)) | None => security::MediaSecurity::Unusable,
    }
}

/// The same of an offer, with the quirks that are on for its sender.
pub(crate) fn offered(offer: &Session, dialect: Dialect) -> security::MediaSecurity {
    match said(offer) {
        // RFC 4568 knows crypto lines on secure profiles only.
        security::MediaSecurity::Optional if !dialect.has(Quirk::OptionalSrtp) => {
            security::MediaSecurity::None
        }
        other => other,
    }
}

/// The quirks that reading and answering this offer takes.
pub(crate) fn quirks_in(offer: &Session, dialect: Dialect, suites: &[Suite]) -> QuirkSet {
    let mut acted = QuirkSet::NONE;
    let Some(audio) = offer.audio() else { return acted };
    if audio.security() == sdp::MediaSecurity::Optional && dialect.has(Quirk::OptionalSrtp) {
        acted.add(Quirk::OptionalSrtp);
    }
    let first = sdp::pick_crypto_as_offered(audio, suites);
    if first != sdp::pick_crypto(audio, suites) && dialect.has(Quirk::MkiLessCrypto) {
        acted.add(Quirk::MkiLessCrypto);
    }
    acted
}

/// The protection a decision gives a leg of a call that came from a gateway.
fn media_of(decision: &Decision, side: Side) -> LegMedia {
    match side {
        Side::A => decision.a_media(),
        Side::B => decision.b_media(),
    }
}

fn codecs_of(policy: &Policy) -> CodecPolicy<'_> {
    CodecPolicy { names: &policy.gateway.codecs }
}

fn formats_of(session: &Session) -> impl Iterator<Item = &PayloadType> {
    session.audio().into_iter().flat_map(|audio| &audio.formats)
}

/// A marked packet of these cannot be told from RTCP on one port (RFC 5761 §4).
fn looks_like_rtcp(format: &PayloadType) -> bool {
    (64..=95).contains(&format.pt)
}

fn offers_mux(session: &Session) -> bool {
    session.audio().is_some_and(|audio| audio.rtcp_mux)
}

fn own_formats(codecs: &[String]) -> Vec<PayloadType> {
    let known = [PayloadType::pcmu(), PayloadType::pcma()];
    let mut formats: Vec<PayloadType> =
        codecs.iter().filter_map(|n| known.iter().find(|k| k.is(n)).cloned()).collect();
    if formats.is_empty() {
        formats = known.to_vec();
    }
    formats.push(PayloadType::comfort_noise());
    formats.push(PayloadType::telephone_event(TELEPHONE_EVENT));
    formats
}

// Their sending is our receiving.
fn seen_from_here(theirs: sdp::Direction) -> relay::Direction {
    match theirs {
        sdp::Direction::SendRecv => relay::Direction::SendRecv,
        sdp::Direction::SendOnly => relay::Direction::RecvOnly,
        sdp::Direction::RecvOnly => relay::Direction::SendOnly,
        sdp::Direction::Inactive => relay::Direction::Inactive,
    }
}

fn key_params(line: &CryptoLine, provider: relay::Provider) -> Option<relay::KeyParams> {
    let suite = match line.suite {
        Suite::AesCm128HmacSha1_80 => relay::Suite::AesCm128HmacSha1_80,
        Suite::AesCm128HmacSha1_32 => relay::Suite::AesCm128HmacSha1_32,
        Suite::AeadAes128Gcm => relay::Suite::AeadAes128Gcm,
        Suite::AeadAes256Gcm => relay::Suite::AeadAes256Gcm,
    };
    let mki = match &line.mki {
        Some(mki) => Some(relay::Mki::new(mki.as_bytes()).ok()?),
        None => None,
    };
    let key = relay::MasterKey::from_inline(suite, line.key.as_bytes())?;
    let lifetime = line.lifetime.map_or(relay::LIFETIME_PACKETS_MAX, sdp::Lifetime::packets);
    Some(relay::KeyParams { mki, lifetime, provider, ..relay::KeyParams::new(suite, key) })
}
