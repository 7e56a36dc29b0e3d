//! SDP of the lab: the offers of a Front End or PBX, and the answers of a UM worker. Owns what is offered and accepted; refuses to know calls
//! and sockets. Keys are handed in as random bytes.

use std::net::IpAddr;

use bytes::Bytes;
use relay::{KeyParams, MasterKey, Mki, Protection};
use sdp::{
    AnswerError, Audio, CryptoLine, KeySalt, MediaSecurity, OfferSpec, OriginSeed, Profile, Session, Suite,
};
use thiserror::Error;

use crate::audio::Law;
use crate::frontend::OfferShape;
use crate::media::{EventTypes, LocalMedia, MediaPlan};
use crate::um::{Allowed, MediaKind, PlanSecurity, SUITES};

/// Bytes of an SDES master key and salt.
pub const KEY_BYTES: usize = 30;
/// Tag of the plain crypto line in Lync's offers.
const LYNC_TAG: u32 = 2;
/// Value and length of the MKI in Lync's offers.
const LYNC_MKI: &str = "1:1";
const BOUNDARY: &str = "b7f3c1d2-0a4e-4c55-9d61-1f2e3a4b5c6d";

/// Fresh key material for one leg.
#[derive(Clone)]
pub struct FreshKey(pub [u8; KEY_BYTES]);

impl std::fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FreshKey(redacted)")
    }
}

/// Why no media could be agreed.
#[derive(Clone, Debug, Eq, PartialEq, Error)]
pub enum NegotiationError {
    /// There is no usable description.
    #[error("no usable SDP: {0}")]
    Description(String),
    /// The plan's security and the offer do not fit.
    #[error("dial plan is {plan}, the offer is {offer}")]
    Security {
        /// Exchange's word.
        plan: &'static str,
        /// What was offered.
        offer: String,
    },
    /// No G.711.
    #[error("neither PCMU nor PCMA is offered")]
    Codec,
    /// The answer breaks a rule.
    #[error("the answer is wrong: {0}")]
    Answer(#[from] AnswerError),
    /// A key or suite that we cannot use.
    #[error("no usable crypto line")]
    Crypto,
}

/// What both sides agreed on.
#[derive(Debug)]
pub struct Agreed {
    /// For the media endpoint.
    pub plan: MediaPlan,
    /// RTP or SRTP.
    pub kind: MediaKind,
    /// Codec.
    pub law: Law,
}

/// A body with its type.
#[derive(Clone, Debug)]
pub struct Body {
    /// Content-Type.
    pub content_type: String,
    /// Bytes.
    pub bytes: Bytes,
}

/// The SDP in a body, multipart or not.
pub fn read_session(content_type: &[u8], body: &[u8]) -> Result<Session, NegotiationError> {
    let chosen =
        sdp::choose_body(content_type, body).map_err(|why| NegotiationError::Description(why.to_string()))?;
    Session::parse(chosen).map_err(|why| NegotiationError::Description(why.to_string()))
}

/// What a side makes of crypto lines.
#[derive(Clone, Copy, Debug)]
pub struct CryptoRules<'r> {
    /// Suites it takes; the first is the one that it offers.
    pub suites: &'r [Suite],
    /// Whether its own offers carry an MKI.
    pub offers_mki: Allowed,
}

impl Default for CryptoRules<'_> {
    fn default() -> Self {
        CryptoRules { suites: &SUITES, offers_mki: Allowed::No }
    }
}

/// Answers an offer as a worker of a plan with this security does.
pub fn answer(
    offer: &Session,
    security: PlanSecurity,
    local: LocalMedia,
    key: &FreshKey,
    seed: u64,
) -> Result<(Body, Agreed), NegotiationError> {
    answer_as(offer, security, local, key, seed, &CryptoRules::default())
}

/// The same by other rules for crypto lines.
pub fn answer_as(
    offer: &Session,
    security: PlanSecurity,
    local: LocalMedia,
    key: &FreshKey,
    seed: u64,
    crypto: &CryptoRules<'_>,
) -> Result<(Body, Agreed), NegotiationError> {
    let audio = offer.audio().ok_or_else(|| NegotiationError::Description("no audio".to_owned()))?;
    let kind = decide(security, audio.security())?;
    let law = pick_law(audio)?;
    let (rtp, rtcp) =
        audio.remote().ok_or_else(|| NegotiationError::Description("no media address".to_owned()))?;
    let mut spec = spec(local, OriginSeed { session_id: seed & 0x7fff_ffff, version: 1 });
    spec.formats = accepted_formats(audio, law);
    let protection = match kind {
        MediaKind::Rtp => Protection::Clear,
        MediaKind::Srtp => {
            let theirs = sdp::pick_crypto(audio, crypto.suites).ok_or(NegotiationError::Crypto)?;
            let mut ours = line(theirs.tag, theirs.suite, key)?;
            ours.mki = theirs.mki.clone();
            let protection = protection(&theirs, &ours)?;
            spec.profile = secure_profile(&audio.profile);
            spec.crypto = vec![ours];
            protection
        }
    };
    let bytes = sdp::write_answer(offer, &spec)?;
    let number = events(&spec.formats);
    let events = EventTypes { heard: number, sent: number };
    let plan =
        MediaPlan { remote_rtp: rtp, remote_rtcp: rtcp, law, events, protection, seed, impairment: None };
    Ok((sdp_body(bytes), Agreed { plan, kind, law }))
}

fn decide(plan: PlanSecurity, offered: MediaSecurity) -> Result<MediaKind, NegotiationError> {
    use MediaSecurity::{None, Optional, Required};
    match (plan, offered) {
        (PlanSecurity::Secured | PlanSecurity::AsOffered, Required) => Ok(MediaKind::Srtp),
        (PlanSecurity::Unsecured | PlanSecurity::SipSecured, None | Optional)
        | (PlanSecurity::AsOffered, None | Optional) => Ok(MediaKind::Rtp),
        _ => Err(NegotiationError::Security { plan: plan.name(), offer: words(offered).to_owned() }),
    }
}

fn words(offered: MediaSecurity) -> &'static str {
    match offered {
        MediaSecurity::Required => "SRTP (RTP/SAVP)",
        MediaSecurity::Optional => "RTP/AVP with optional crypto",
        MediaSecurity::None => "RTP (RTP/AVP)",
        MediaSecurity::Unusable(_) => "SRTP without a usable crypto line",
    }
}

fn secure_profile(offered: &Profile) -> Profile {
    match offered {
        Profile::RtpAvp => Profile::RtpSavp,
        other => other.clone(),
    }
}

fn pick_law(audio: &Audio) -> Result<Law, NegotiationError> {
    audio.formats.iter().find_map(|f| Law::from_payload_type(f.pt)).ok_or(NegotiationError::Codec)
}

fn accepted_formats(audio: &Audio, law: Law) -> Vec<sdp::PayloadType> {
    let wanted =
        |f: &&sdp::PayloadType| f.pt == law.payload_type() || (f.is("telephone-event") && f.clock == 8_000);
    audio.formats.iter().filter(wanted).cloned().collect()
}

/// The number of telephone-event among these.
fn events(formats: &[sdp::PayloadType]) -> Option<u8> {
    formats.iter().find(|f| f.is("telephone-event") && f.clock == 8_000).map(|f| f.pt)
}

/// Our offer in a body, and what is needed to understand its answer.
#[derive(Debug)]
pub struct Offer {
    /// For the INVITE (or 200, when it comes late).
    pub body: Body,
    /// Our ports.
    pub local: LocalMedia,
    session: Session,
    seed: u64,
}

/// Writes an offer of the given shape.
pub fn offer(
    shape: OfferShape,
    local: LocalMedia,
    key: &FreshKey,
    seed: u64,
) -> Result<Offer, NegotiationError> {
    offer_as(shape, local, key, seed, &CryptoRules::default())
}

/// The same by other rules for crypto lines.
pub fn offer_as(
    shape: OfferShape,
    local: LocalMedia,
    key: &FreshKey,
    seed: u64,
    crypto: &CryptoRules<'_>,
) -> Result<Offer, NegotiationError> {
    let line = |tag, key| {
        let suite = crypto.suites.first().copied().unwrap_or(Suite::AesCm128HmacSha1_80);
        let mut line = line(tag, suite, key)?;
        line.mki = sdp::Mki::parse(LYNC_MKI).filter(|_| crypto.offers_mki == Allowed::Yes);
        Ok::<_, NegotiationError>(line)
    };
    let mut spec = spec(local, OriginSeed { session_id: seed & 0x7fff_ffff, version: 1 });
    match shape {
        OfferShape::Lync2013Multipart | OfferShape::Lync2015 | OfferShape::UmSecured => {
            spec.profile = Profile::RtpSavp;
            spec.crypto = vec![line(LYNC_TAG, key)?];
        }
        OfferShape::LyncOptional => {
            spec.crypto = vec![line(LYNC_TAG, key)?];
        }
        OfferShape::LyncNone | OfferShape::PbxTcp | OfferShape::LateOffer | OfferShape::UmPlain => {}
    }
    let plain = sdp::write_offer(&spec);
    let dressed = match shape {
        OfferShape::PbxTcp | OfferShape::LateOffer | OfferShape::UmSecured | OfferShape::UmPlain => {
            plain.clone()
        }
        _ => dress(&plain, local),
    };
    let session = Session::parse(&dressed).map_err(|why| NegotiationError::Description(why.to_string()))?;
    let body = match shape {
        OfferShape::Lync2013Multipart => multipart(&dressed, local.rtp.ip()),
        _ => sdp_body(dressed),
    };
    Ok(Offer { body, local, session, seed })
}

/// Judges the answer to our offer.
pub fn accept(offer: &Offer, answer: &Session) -> Result<Agreed, NegotiationError> {
    let accepted = sdp::check_answer(&offer.session, answer)?;
    let law =
        accepted.formats.iter().find_map(|f| Law::from_payload_type(f.pt)).ok_or(NegotiationError::Codec)?;
    let (protection, kind) = match &accepted.crypto {
        None => (Protection::Clear, MediaKind::Rtp),
        Some(theirs) => {
            let offered = offer.session.audio().map(|a| a.crypto.as_slice()).unwrap_or_default();
            let ours = offered.iter().find(|line| line.tag == theirs.tag).ok_or(NegotiationError::Crypto)?;
            (protection(theirs, ours)?, MediaKind::Srtp)
        }
    };
    let sent = events(&accepted.formats);
    let ours = offer.session.audio().map(|a| a.formats.as_slice()).unwrap_or_default();
    let plan = MediaPlan {
        remote_rtp: accepted.rtp,
        remote_rtcp: accepted.rtcp,
        law,
        events: EventTypes { heard: sent.and_then(|_| events(ours)), sent },
        protection,
        seed: offer.seed,
        impairment: None,
    };
    Ok(Agreed { plan, kind, law })
}

fn spec(local: LocalMedia, origin: OriginSeed) -> OfferSpec {
    let mut spec = OfferSpec::new(local.rtp.ip(), local.rtp.port());
    spec.rtcp_port = local.rtcp.port();
    spec.origin = origin;
    spec
}

fn line(tag: u32, suite: Suite, key: &FreshKey) -> Result<CryptoLine, NegotiationError> {
    let key = KeySalt::from_bytes(suite, &key.0).ok_or(NegotiationError::Crypto)?;
    Ok(CryptoLine::new(tag, suite, key))
}

fn protection(theirs: &CryptoLine, ours: &CryptoLine) -> Result<Protection, NegotiationError> {
    Ok(Protection::Sealed { inbound: key_params(theirs)?, outbound: key_params(ours)? })
}

fn key_params(line: &CryptoLine) -> Result<KeyParams, NegotiationError> {
    let suite = match line.suite {
        Suite::AesCm128HmacSha1_80 => relay::Suite::AesCm128HmacSha1_80,
        Suite::AesCm128HmacSha1_32 => relay::Suite::AesCm128HmacSha1_32,
        _ => return Err(NegotiationError::Crypto),
    };
    let key = MasterKey::from_inline(suite, line.key.as_bytes()).ok_or(NegotiationError::Crypto)?;
    let mki = match &line.mki {
        None => None,
        Some(mki) => Some(Mki::new(mki.as_bytes()).map_err(|_| NegotiationError::Crypto)?),
    };
    Ok(KeyParams { mki, ..KeyParams::new(suite, key) })
}

fn sdp_body(bytes: Bytes) -> Body {
    Body { content_type: "application/sdp".to_owned(), bytes }
}

/// Adds what a Lync client adds: bandwidth, ICE v19 and private attributes. The gateway must cope with and drop all of it.
fn dress(plain: &Bytes, local: LocalMedia) -> Bytes {
    let text = String::from_utf8_lossy(plain);
    let mut out = String::with_capacity(text.len() + 700);
    for text_line in text.lines() {
        if text_line.starts_with("t=") {
            out.push_str("b=CT:99980\r\n");
        }
        out.push_str(text_line);
        out.push_str("\r\n");
        if text_line.starts_with("m=audio") {
            out.push_str(&lync_attributes(local));
        }
    }
    Bytes::from(out)
}

fn lync_attributes(local: LocalMedia) -> String {
    let (ip, rtp, rtcp) = (local.rtp.ip(), local.rtp.port(), local.rtcp.port());
    format!(
        "a=x-ssrc-range:1183745281-1183745281\r\n\
         a=rtcp-fb:* x-message app send:dsh recv:dsh\r\n\
         a=rtcp-rsize\r\n\
         a=label:main-audio\r\n\
         a=x-source:main-audio\r\n\
         a=ice-ufrag:k2Xp\r\n\
         a=ice-pwd:0nVh3c8JQm5tYd1sWb7LfRzE\r\n\
         a=candidate:1 1 UDP 2130706431 {ip} {rtp} typ host\r\n\
         a=candidate:1 2 UDP 2130705918 {ip} {rtcp} typ host\r\n\
         a=candidate:3 1 TCP-ACT 1684798975 {ip} {rtp} typ srflx raddr {ip} rport {rtp}\r\n"
    )
}

/// The Lync 2013 form: an old-ICE fallback that must not be chosen (its port is the discard port), then the real part.
fn multipart(real: &Bytes, ip: IpAddr) -> Body {
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let fallback = format!(
        "v=0\r\no=- 0 0 IN {family} {ip}\r\ns=session\r\nc=IN {family} {ip}\r\nb=CT:99980\r\nt=0 0\r\n\
         m=audio 9 RTP/SAVP 0 8 101\r\n\
         a=crypto:{LYNC_TAG} AES_CM_128_HMAC_SHA1_80 inline:HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb|2^31|1:1\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=encryption:required\r\n"
    );
    let part = |disposition: &str, sdp: &str| {
        format!(
            "--{BOUNDARY}\r\nContent-Type: application/sdp\r\nContent-Disposition: session; handling=optional{disposition}\r\n\r\n{sdp}\r\n"
        )
    };
    let text = format!(
        "{}{}--{BOUNDARY}--\r\n",
        part("; ms-proxy-2007fallback", &fallback),
        part("", &String::from_utf8_lossy(real)),
    );
    Body { content_type: format!("multipart/alternative;boundary=\"{BOUNDARY}\""), bytes: Bytes::from(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn local(port: u16) -> LocalMedia {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        LocalMedia { rtp: at(port), rtcp: at(port + 1) }
    }

    fn meet(shape: OfferShape, plan: PlanSecurity) -> Result<(Agreed, Agreed), NegotiationError> {
        let ours = offer(shape, local(4_000), &FreshKey([1; 30]), 1).unwrap();
        let seen = read_session(ours.body.content_type.as_bytes(), &ours.body.bytes).unwrap();
        let (body, theirs) = answer(&seen, plan, local(5_000), &FreshKey([2; 30]), 2)?;
        let back = read_session(body.content_type.as_bytes(), &body.bytes).unwrap();
        Ok((accept(&ours, &back).unwrap(), theirs))
    }

    #[test]
    fn both_sides_agree_on_address_codec_and_keys() {
        for shape in [OfferShape::Lync2013Multipart, OfferShape::Lync2015] {
            let (caller, worker) = meet(shape, PlanSecurity::Secured).unwrap();
            assert_eq!(caller.kind, MediaKind::Srtp);
            assert_eq!(caller.plan.remote_rtp.port(), 5_000);
            assert_eq!(worker.plan.remote_rtp.port(), 4_000);
            let (
                Protection::Sealed { inbound: a_in, outbound: a_out },
                Protection::Sealed { inbound: b_in, outbound: b_out },
            ) = (caller.plan.protection, worker.plan.protection)
            else {
                panic!("not sealed")
            };
            assert_eq!((a_in, a_out), (b_out, b_in));
        }
    }

    #[test]
    fn each_plan_takes_only_the_media_it_stands_for() {
        use OfferShape::{Lync2015, LyncNone, LyncOptional, PbxTcp};
        let kind = |shape, plan| meet(shape, plan).map(|(a, _)| a.kind);
        for plan in [PlanSecurity::Unsecured, PlanSecurity::SipSecured] {
            assert!(matches!(kind(Lync2015, plan), Err(NegotiationError::Security { .. })));
            for shape in [LyncNone, LyncOptional, PbxTcp] {
                assert_eq!(kind(shape, plan), Ok(MediaKind::Rtp));
            }
        }
        assert_eq!(kind(Lync2015, PlanSecurity::Secured), Ok(MediaKind::Srtp));
        for shape in [LyncNone, LyncOptional, PbxTcp] {
            assert!(matches!(kind(shape, PlanSecurity::Secured), Err(NegotiationError::Security { .. })));
        }
        assert_eq!(kind(Lync2015, PlanSecurity::AsOffered), Ok(MediaKind::Srtp));
        assert_eq!(kind(LyncNone, PlanSecurity::AsOffered), Ok(MediaKind::Rtp));
    }

    #[test]
    fn an_offer_has_an_mki_where_the_rules_say_so_and_its_answer_has_the_same() {
        for (offers_mki, marked) in [(Allowed::No, false), (Allowed::Yes, true)] {
            let rules = CryptoRules { suites: &SUITES[1..], offers_mki };
            let ours = offer_as(OfferShape::Lync2015, local(4_000), &FreshKey([1; 30]), 1, &rules).unwrap();
            let seen = read_session(ours.body.content_type.as_bytes(), &ours.body.bytes).unwrap();
            let (body, _) =
                answer(&seen, PlanSecurity::Secured, local(5_000), &FreshKey([2; 30]), 2).unwrap();
            for text in
                [&ours.body.bytes, &body.bytes].map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            {
                assert!(text.contains("AES_CM_128_HMAC_SHA1_32"), "{text}");
                assert_eq!(text.contains("|1:1"), marked, "{text}");
            }
            let back = read_session(body.content_type.as_bytes(), &body.bytes).unwrap();
            assert!(accept(&ours, &back).is_ok());
        }
    }

    #[test]
    fn a_body_that_is_no_sdp_is_refused() {
        assert!(read_session(b"application/sdp", b"hello").is_err());
        assert!(read_session(b"text/plain", b"v=0").is_err());
        assert!(read_session(b"multipart/alternative", b"").is_err());
    }
}
