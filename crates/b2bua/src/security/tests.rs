//! The matrix of `decide`, written out by hand and compared cell by cell.

use super::*;
use crate::policy::PoolEncryption as P;
use crate::policy::VoipSecurity as V;

const POOLS: [Option<P>; 4] =
    [Some(P::RequireEncryption), Some(P::SupportEncryption), Some(P::DoNotSupportEncryption), None];
const PLANS: [V; 3] = [V::Unsecured, V::SipSecured, V::Secured];
const SAYS: [MediaSecurity; 5] = [
    MediaSecurity::Required,
    MediaSecurity::Optional,
    MediaSecurity::None,
    MediaSecurity::Unusable,
    MediaSecurity::Absent,
];

fn question(
    pool: Option<P>,
    plan: V,
    transport: Signalling,
    media: MediaSecurity,
    phase: Phase,
) -> Question<'static> {
    Question {
        pool,
        plan,
        transport,
        media,
        direction: Direction::FromGateway,
        phase,
        bridge: MediaBridge::Off,
        parties: Parties { gateway: "pool01.contoso.com", plan: "DP-Sip", server: "mbx01.contoso.com" },
    }
}

/// One letter per cell: `S` SRTP, `R` RTP, digits the code refused with.
fn cell(question: &Question<'_>) -> char {
    match decide(question) {
        Ok(decision) => {
            assert_eq!(decision.a_media(), decision.b_media(), "without a bridge both legs are alike");
            assert_eq!(
                decision.b_transport(),
                question.transport,
                "no leg is weaker or stronger than the plan"
            );
            if decision.a_media() == LegMedia::Srtp { 'S' } else { 'R' }
        }
        Err(refusal) => {
            let reply = refusal.reply("umbra.contoso.com");
            assert_eq!((reply.status, reply.reason), (488, "Incompatible security setting"));
            refusal.code().as_str().chars().last().unwrap_or('?')
        }
    }
}

/// Rows: pool × plan; columns Required, Optional, None, Unusable, Absent over TLS, then the same over TCP.
fn table(phase: Phase, direction: Direction) -> Vec<String> {
    let mut rows = Vec::new();
    for pool in POOLS {
        for plan in PLANS {
            let side = |transport| {
                let ask =
                    |media| cell(&Question { direction, ..question(pool, plan, transport, media, phase) });
                SAYS.map(ask).iter().collect::<String>()
            };
            rows.push(format!("{} {}", side(Signalling::MutualTls), side(Signalling::Plain)));
        }
    }
    rows
}

// Rows of three: Unsecured, SIPSecured, Secured under RequireEncryption, SupportEncryption, DoNotSupportEncryption, no pool.
// 1 levels, 2 TLS needed, 3 SRTP needed, 4 SRTP not taken, 5 TLS not taken, 6 no key, 7 answer, 8 inside the call.

#[test]
fn first_offers_are_decided_as_the_matrix_says() {
    let expected = [
        "11111 11111",
        "11111 11111",
        "SS36S 22222", // RequireEncryption
        "11111 11111",
        "4RR6R 22222",
        "SS36S 22222", // SupportEncryption
        "11111 11111",
        "4RR6R 22222",
        "11111 11111", // DoNotSupportEncryption
        "55555 4RR6R",
        "4RR6R 22222",
        "SS36S 22222", // no pool
    ];
    assert_eq!(table(Phase::Offer, Direction::FromGateway), expected);
    assert_eq!(table(Phase::Offer, Direction::FromServer), expected);
}

#[test]
fn answers_must_use_exactly_the_profile_of_the_plan() {
    let expected = [
        "11111 11111",
        "11111 11111",
        "S7777 22222",
        "11111 11111",
        "77R77 22222",
        "S7777 22222",
        "11111 11111",
        "77R77 22222",
        "11111 11111",
        "55555 77R77",
        "77R77 22222",
        "S7777 22222",
    ];
    assert_eq!(table(Phase::Answer, Direction::FromGateway), expected);
    assert_eq!(table(Phase::Answer, Direction::FromServer), expected);
}

#[test]
fn an_offer_inside_a_call_cannot_change_its_protection() {
    let expected = [
        "11111 11111",
        "11111 11111",
        "SS88S 22222",
        "11111 11111",
        "8RR8R 22222",
        "SS88S 22222",
        "11111 11111",
        "8RR8R 22222",
        "11111 11111",
        "55555 8RR8R",
        "8RR8R 22222",
        "SS88S 22222",
    ];
    assert_eq!(table(Phase::ReOffer, Direction::FromGateway), expected);
    assert_eq!(table(Phase::ReOffer, Direction::FromServer), expected);
}

#[test]
fn a_secured_plan_never_yields_a_clear_leg_without_a_bridge() {
    for pool in POOLS {
        for media in SAYS {
            for phase in [Phase::Offer, Phase::Answer, Phase::ReOffer] {
                if let Ok(decision) = decide(&question(pool, V::Secured, Signalling::MutualTls, media, phase))
                {
                    assert_eq!((decision.a_media(), decision.b_media()), (LegMedia::Srtp, LegMedia::Srtp));
                }
            }
        }
    }
}

#[test]
fn the_refusal_says_what_the_protocol_text_says() {
    let asked = question(
        Some(P::RequireEncryption),
        V::SipSecured,
        Signalling::MutualTls,
        MediaSecurity::Required,
        Phase::Offer,
    );
    let refusal = decide(&asked).expect_err("does not fit");
    assert_eq!(refusal.code(), codes::POOL_PLAN_MISMATCH);
    let reply = refusal.reply("umbra.contoso.com");
    let header = |name| {
        reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    assert_eq!(
        header("Warning"),
        "399 umbra.contoso.com \"pool pool01.contoso.com requires SRTP; dial plan DP-Sip is SIPSecured (RTP only)\""
    );
    let diagnostics = header("ms-diagnostics");
    assert!(
        diagnostics
            .starts_with("61001;source=\"umbra.contoso.com\";reason=\"Incompatible security setting\";"),
        "{diagnostics}"
    );
}

#[test]
fn a_bridge_lets_each_side_keep_its_own_media_but_not_weaker_signalling() {
    let bridged = |pool, plan, transport, media, direction| {
        decide(&Question {
            bridge: MediaBridge::Transcrypt,
            direction,
            ..question(Some(pool), plan, transport, media, Phase::Offer)
        })
    };
    let tls = Signalling::MutualTls;
    let decision =
        bridged(P::RequireEncryption, V::SipSecured, tls, MediaSecurity::Required, Direction::FromGateway)
            .expect("bridged");
    assert_eq!((decision.a_media(), decision.b_media()), (LegMedia::Srtp, LegMedia::Rtp));
    assert_eq!(decision.describe(), "TLS+SRTP/TLS+RTP");
    let decision =
        bridged(P::DoNotSupportEncryption, V::Secured, tls, MediaSecurity::Required, Direction::FromServer)
            .expect("bridged");
    assert_eq!((decision.a_media(), decision.b_media()), (LegMedia::Rtp, LegMedia::Srtp));
    let refused = bridged(
        P::RequireEncryption,
        V::SipSecured,
        Signalling::Plain,
        MediaSecurity::Required,
        Direction::FromGateway,
    );
    assert_eq!(refused.expect_err("no TLS").code(), codes::TLS_REQUIRED);
    let refused = bridged(
        P::RequireEncryption,
        V::Unsecured,
        Signalling::Plain,
        MediaSecurity::Required,
        Direction::FromGateway,
    );
    assert_eq!(refused.expect_err("Unsecured is never bridged").code(), codes::POOL_PLAN_MISMATCH);
}

fn what(question: &Question<'_>) -> String {
    decide(question).unwrap_err().verdict.what
}

#[test]
fn a_refusal_says_how_pool_plan_and_connection_do_not_fit() {
    use MediaSecurity as M;
    use Signalling::{MutualTls, Plain};
    let asks = |pool, plan, transport, media, phase| what(&question(pool, plan, transport, media, phase));
    assert_eq!(
        asks(Some(P::RequireEncryption), V::SipSecured, MutualTls, M::Required, Phase::Offer),
        "pool pool01.contoso.com requires SRTP; dial plan DP-Sip is SIPSecured (RTP only)"
    );
    assert_eq!(
        asks(Some(P::SupportEncryption), V::Unsecured, Plain, M::None, Phase::Offer),
        "pool pool01.contoso.com supports SRTP over TLS; dial plan DP-Sip is Unsecured (TCP, RTP only)"
    );
    assert_eq!(
        asks(Some(P::DoNotSupportEncryption), V::Secured, MutualTls, M::None, Phase::Offer),
        "pool pool01.contoso.com does not support SRTP; dial plan DP-Sip is Secured (SRTP only)"
    );
    assert_eq!(
        asks(None, V::Secured, Plain, M::Required, Phase::Offer),
        "dial plan DP-Sip is Secured and needs mutual TLS; the request came without TLS"
    );
    assert_eq!(
        asks(None, V::SipSecured, Plain, M::None, Phase::Offer),
        "dial plan DP-Sip is SIPSecured and needs mutual TLS; the request came without TLS"
    );
    assert_eq!(
        asks(None, V::Unsecured, MutualTls, M::None, Phase::Offer),
        "dial plan DP-Sip is Unsecured (TCP only); the request came over TLS"
    );
    let bare = question(Some(P::RequireEncryption), V::SipSecured, MutualTls, M::Required, Phase::Offer);
    let facts = decide(&bare).unwrap_err().verdict.evidence;
    assert_eq!(
        facts,
        [
            "pool level RequireEncryption, dial plan DP-Sip is SIPSecured",
            "Offer FromGateway over MutualTls says Required",
        ]
    );
}

#[test]
fn a_refusal_says_who_said_what_and_what_the_plan_needs() {
    use MediaSecurity as M;
    let media = [
        (V::Secured, M::None, Phase::Offer, "offered RTP only", "Secured (SRTP only), SRTP"),
        (
            V::Secured,
            M::Unusable,
            Phase::Offer,
            "offered SRTP without a usable key",
            "Secured (SRTP only), SRTP",
        ),
        (V::SipSecured, M::Required, Phase::Offer, "offered SRTP only", "SIPSecured (RTP only), RTP"),
        (
            V::Secured,
            M::None,
            Phase::ReOffer,
            "offered, inside the call, RTP only",
            "Secured (SRTP only), SRTP",
        ),
        (
            V::Secured,
            M::Optional,
            Phase::Answer,
            "answered with RTP with optional keys",
            "Secured (SRTP only), SRTP",
        ),
        (
            V::Secured,
            M::Absent,
            Phase::Answer,
            "answered with no session description",
            "Secured (SRTP only), SRTP",
        ),
    ];
    for (plan, says, phase, said, need) in media {
        for (direction, speaker) in
            [(Direction::FromGateway, "pool01.contoso.com"), (Direction::FromServer, "mbx01.contoso.com")]
        {
            let question = Question { direction, ..question(None, plan, Signalling::MutualTls, says, phase) };
            let wanted = format!("{speaker} {said}; dial plan DP-Sip is {need} is needed here");
            assert_eq!(what(&question), wanted);
        }
    }
}
