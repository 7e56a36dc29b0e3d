//! Who may talk to whom, and with which protection. One pure function decides from the pool's level, the plan's
//! security, the transport in use and what the SDP says; it alone can build a [`Decision`], and a media plan needs
//! one, so skipping the check does not compile. Refuses to know SDP syntax, keys and sockets.

use serde::Serialize;

use crate::codes::{self, Code};
use crate::policy::{MediaBridge, Policy, PoolEncryption, VoipSecurity};
use crate::verdict::Refusal;

/// Protection of the signalling connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Signalling {
    /// TCP or UDP.
    Plain,
    /// Mutual TLS with a verified name.
    MutualTls,
}

/// What a session description says about protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum MediaSecurity {
    /// `RTP/SAVP` with usable keys.
    Required,
    /// `RTP/AVP` with usable keys.
    Optional,
    /// `RTP/AVP` without keys.
    None,
    /// `RTP/SAVP` without a usable key.
    Unusable,
    /// No description: a late offer is asked for.
    Absent,
}

/// Where the description (or the request for one) comes from. Not the direction of the call: in a late offer the
/// server's offer comes from [`Direction::FromServer`] although the gateway called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Direction {
    /// Pool, PBX: the side of the UM IP gateway.
    FromGateway,
    /// UM server.
    FromServer,
}

/// Which step of offer/answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Phase {
    /// First offer of the call, also a late one.
    Offer,
    /// An answer to an offer we relayed.
    Answer,
    /// An offer inside an established session (re-INVITE, UPDATE), or a re-INVITE without one.
    ReOffer,
}

/// Everything the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Level of the pool, when the gateway stands for one.
    pub pool: Option<PoolEncryption>,
    /// Security of the dial plan.
    pub plan: VoipSecurity,
    /// Connection on which the description came.
    pub transport: Signalling,
    /// What the description says.
    pub media: MediaSecurity,
    /// Who says it.
    pub direction: Direction,
    /// Which step it is.
    pub phase: Phase,
    /// Whether the plan allows transcryption.
    pub bridge: MediaBridge,
    /// Names for the words of a refusal.
    pub parties: Parties<'a>,
}

/// Names that a refusal mentions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parties<'a> {
    /// Pool FQDN, else the gateway's address.
    pub gateway: &'a str,
    /// Dial plan name.
    pub plan: &'a str,
    /// Server name, once there is one.
    pub server: &'a str,
}

/// Protection of one leg's media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LegMedia {
    /// RTP.
    Rtp,
    /// SRTP with SDES keys.
    Srtp,
}

/// A positive decision. Only [`decide`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    gateway_media: LegMedia,
    server_media: LegMedia,
    signalling: Signalling,
    placed_by: PlacedBy,
}

/// Whose leg A is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlacedBy {
    /// The UM IP gateway's.
    Gateway,
    /// The UM server's.
    Um,
}

impl Decision {
    /// Media toward the UM IP gateway: leg A, unless UM placed the call.
    pub fn gateway_media(&self) -> LegMedia {
        self.gateway_media
    }

    /// Media toward the UM server: leg B, unless UM placed the call.
    pub fn server_media(&self) -> LegMedia {
        self.server_media
    }

    /// Media of leg A.
    pub fn a_media(&self) -> LegMedia {
        match self.placed_by {
            PlacedBy::Gateway => self.gateway_media,
            PlacedBy::Um => self.server_media,
        }
    }

    /// Media of leg B.
    pub fn b_media(&self) -> LegMedia {
        match self.placed_by {
            PlacedBy::Gateway => self.server_media,
            PlacedBy::Um => self.gateway_media,
        }
    }

    /// The same decision for a call that UM places: leg A is the UM server's.
    #[must_use]
    pub fn placed_by_um(self) -> Self {
        Self { placed_by: PlacedBy::Um, ..self }
    }

    /// Protection that every signalling connection of the call needs, on both legs.
    pub fn b_transport(&self) -> Signalling {
        self.signalling
    }

    /// The same decision for a call both ends of which are on the UM IP gateway's side: a caller that UM handed over.
    #[must_use]
    pub fn between_gateways(self) -> Self {
        Self { server_media: self.gateway_media, ..self }
    }

    /// `TLS+SRTP`, `TLS+RTP`, `TCP+RTP`, or both sides when they differ.
    pub fn describe(&self) -> String {
        let one = |media| match (self.signalling, media) {
            (Signalling::MutualTls, LegMedia::Srtp) => "TLS+SRTP",
            (Signalling::MutualTls, LegMedia::Rtp) => "TLS+RTP",
            (Signalling::Plain, LegMedia::Rtp) => "TCP+RTP",
            (Signalling::Plain, LegMedia::Srtp) => "TCP+SRTP",
        };
        match self.gateway_media == self.server_media {
            true => one(self.gateway_media).to_owned(),
            false => format!("{}/{}", one(self.a_media()), one(self.b_media())),
        }
    }
}

impl<'a> Question<'a> {
    /// The question for a call between an IP gateway and a dial plan of `policy`.
    pub fn of(policy: &'a Policy, ip_gateway: usize, dial_plan: usize, said: Said) -> Option<Self> {
        let gateway = policy.ip_gateways.get(ip_gateway)?;
        let plan = policy.dial_plans.get(dial_plan)?;
        let pool = policy.pool_of(ip_gateway);
        Some(Self {
            pool: pool.map(|p| p.encryption),
            plan: plan.voip_security,
            transport: said.transport,
            media: said.media,
            direction: said.direction,
            phase: said.phase,
            bridge: plan.media_bridge,
            parties: Parties {
                gateway: pool.map_or(&gateway.name, |p| &p.fqdn),
                plan: &plan.name,
                server: "",
            },
        })
    }
}

/// The part of a question that comes from the wire.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Connection on which the description came.
    pub transport: Signalling,
    /// What it says.
    pub media: MediaSecurity,
    /// Who says it.
    pub direction: Direction,
    /// Which step it is.
    pub phase: Phase,
}

/// Decides one offer or answer.
///
/// # Errors
/// A [`Refusal`] with a `UMB-SEC…` code; its reply is `488 Incompatible security setting`.
pub fn decide(question: &Question<'_>) -> Result<Decision, Refusal> {
    check_levels(question)?;
    check_signalling(question)?;
    let gateway_media = gateway_media(question);
    let server_media = plan_media(question.plan);
    let speaker = match question.direction {
        Direction::FromGateway => gateway_media,
        Direction::FromServer => server_media,
    };
    check_media(question, speaker)?;
    Ok(Decision {
        gateway_media,
        server_media,
        signalling: plan_signalling(question.plan),
        placed_by: PlacedBy::Gateway,
    })
}

/// Whether a pool level and a plan fit by configuration alone: the table of `umbra check`.
pub fn fits(pool: PoolEncryption, plan: VoipSecurity) -> bool {
    use PoolEncryption as P;
    use VoipSecurity as V;
    matches!(
        (pool, plan),
        (P::RequireEncryption | P::SupportEncryption, V::Secured)
            | (P::SupportEncryption | P::DoNotSupportEncryption, V::SipSecured)
    )
}

/// Signalling that a plan demands on every connection of its calls.
pub fn plan_signalling(plan: VoipSecurity) -> Signalling {
    match plan {
        VoipSecurity::Unsecured => Signalling::Plain,
        VoipSecurity::SipSecured | VoipSecurity::Secured => Signalling::MutualTls,
    }
}

/// Media that a plan demands toward the UM server.
pub fn plan_media(plan: VoipSecurity) -> LegMedia {
    match plan {
        VoipSecurity::Secured => LegMedia::Srtp,
        VoipSecurity::Unsecured | VoipSecurity::SipSecured => LegMedia::Rtp,
    }
}

/// Media toward the gateway: the plan's, unless a bridge lets the pool keep its own.
fn gateway_media(question: &Question<'_>) -> LegMedia {
    match (question.bridge, question.pool) {
        (MediaBridge::Transcrypt, Some(PoolEncryption::RequireEncryption)) => LegMedia::Srtp,
        (MediaBridge::Transcrypt, Some(PoolEncryption::DoNotSupportEncryption)) => LegMedia::Rtp,
        _ => plan_media(question.plan),
    }
}

fn check_levels(question: &Question<'_>) -> Result<(), Refusal> {
    let Some(pool) = question.pool else { return Ok(()) };
    let bridged = question.bridge == MediaBridge::Transcrypt && question.plan != VoipSecurity::Unsecured;
    if fits(pool, question.plan) || bridged {
        return Ok(());
    }
    Err(refuse(codes::POOL_PLAN_MISMATCH, question, levels_text(pool, question)))
}

fn check_signalling(question: &Question<'_>) -> Result<(), Refusal> {
    let what = match (plan_signalling(question.plan), question.transport) {
        (Signalling::MutualTls, Signalling::Plain) => {
            format!(
                "dial plan {} is {} and needs mutual TLS; the request came without TLS",
                question.parties.plan,
                plan_word(question.plan)
            )
        }
        (Signalling::Plain, Signalling::MutualTls) => {
            format!("dial plan {} is Unsecured (TCP only); the request came over TLS", question.parties.plan)
        }
        _ => return Ok(()),
    };
    let code = match question.transport {
        Signalling::Plain => codes::TLS_REQUIRED,
        Signalling::MutualTls => codes::PLAN_TAKES_NO_TLS,
    };
    Err(refuse(code, question, what))
}

fn check_media(question: &Question<'_>, wanted: LegMedia) -> Result<(), Refusal> {
    use MediaSecurity as M;
    let fits = match (question.phase, wanted, question.media) {
        (Phase::Offer | Phase::ReOffer, _, M::Absent) => true,
        (Phase::Offer | Phase::ReOffer, LegMedia::Srtp, M::Required | M::Optional) => true,
        (Phase::Offer | Phase::ReOffer, LegMedia::Rtp, M::None | M::Optional) => true,
        // An answer names the profile in use: `RTP/AVP` with keys is an offerer's form only.
        (Phase::Answer, LegMedia::Srtp, M::Required) => true,
        (Phase::Answer, LegMedia::Rtp, M::None) => true,
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(refuse(media_code(question, wanted), question, media_text(question, wanted))),
    }
}

fn media_code(question: &Question<'_>, wanted: LegMedia) -> Code {
    match (question.phase, question.media, wanted) {
        (Phase::Answer, ..) => codes::ANSWER_INCOMPATIBLE,
        (Phase::ReOffer, ..) => codes::DOWNGRADE,
        (_, MediaSecurity::Unusable, _) => codes::NO_USABLE_KEYS,
        (_, _, LegMedia::Srtp) => codes::SRTP_REQUIRED,
        (_, _, LegMedia::Rtp) => codes::SRTP_NOT_TAKEN,
    }
}

fn levels_text(pool: PoolEncryption, question: &Question<'_>) -> String {
    let says = match pool {
        PoolEncryption::RequireEncryption => "requires SRTP",
        PoolEncryption::SupportEncryption => "supports SRTP over TLS",
        PoolEncryption::DoNotSupportEncryption => "does not support SRTP",
    };
    let Parties { gateway, plan, .. } = question.parties;
    format!("pool {gateway} {says}; dial plan {plan} is {}", plan_words(question.plan))
}

fn media_text(question: &Question<'_>, wanted: LegMedia) -> String {
    let speaker = match question.direction {
        Direction::FromGateway => question.parties.gateway,
        Direction::FromServer => question.parties.server,
    };
    let verb = match question.phase {
        Phase::Answer => "answered with",
        Phase::Offer => "offered",
        Phase::ReOffer => "offered, inside the call,",
    };
    let said = match question.media {
        MediaSecurity::Required => "SRTP only",
        MediaSecurity::Optional => "RTP with optional keys",
        MediaSecurity::None => "RTP only",
        MediaSecurity::Unusable => "SRTP without a usable key",
        MediaSecurity::Absent => "no session description",
    };
    let need = match wanted {
        LegMedia::Srtp => "SRTP",
        LegMedia::Rtp => "RTP",
    };
    format!(
        "{speaker} {verb} {said}; dial plan {} is {}, {need} is needed here",
        question.parties.plan,
        plan_words(question.plan)
    )
}

fn plan_words(plan: VoipSecurity) -> &'static str {
    match plan {
        VoipSecurity::Unsecured => "Unsecured (TCP, RTP only)",
        VoipSecurity::SipSecured => "SIPSecured (RTP only)",
        VoipSecurity::Secured => "Secured (SRTP only)",
    }
}

fn plan_word(plan: VoipSecurity) -> &'static str {
    match plan {
        VoipSecurity::Unsecured => "Unsecured",
        VoipSecurity::SipSecured => "SIPSecured",
        VoipSecurity::Secured => "Secured",
    }
}

fn refuse(code: Code, question: &Question<'_>, what: String) -> Refusal {
    let pool = question.pool.map_or_else(|| "none".to_owned(), |p| format!("{p:?}"));
    let Question { transport, media, direction, phase, .. } = question;
    Refusal::new(code, question.parties.gateway, what)
        .evidence(format!(
            "pool level {pool}, dial plan {} is {}",
            question.parties.plan,
            plan_word(question.plan)
        ))
        .evidence(format!("{phase:?} {direction:?} over {transport:?} says {media:?}"))
}

#[cfg(test)]
mod tests;
