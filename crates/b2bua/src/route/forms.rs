//! Tables of every form of a request: who is called by which header, what kind of call it is, which plan; and of hosted
//! users beside those that are here.

use super::tests::{DANA, PBX, POOL, mailbox, policy, sample, server};
use super::*;
use crate::policy::{
    AccessEdge, Allowed, Contact, ContactKind, Deployment, EumAddress, Home, Hosted, HostedPolicy, Mailbox,
    MailboxUm, Scope, ServerRole, VoipSecurity,
};
use crate::record::CallType::{AutoAttendant, CallAnswering, SubscriberAccess};

const SIP: usize = 0;
const TEL: usize = 1;

/// One form and what becomes of it.
struct Form {
    gateway: usize,
    uri: &'static str,
    from: &'static str,
    diversion: &'static [&'static str],
    history: &'static [&'static str],
    /// Plan, kind, callee, memo, and the header that says who is called.
    expected: (usize, CallType, &'static str, bool, CalledBy),
}

const REX: &str = "<sip:10048@198.51.100.20>";

const fn form(
    gateway: usize,
    uri: &'static str,
    from: &'static str,
    diversion: &'static [&'static str],
    expected: (usize, CallType, &'static str, bool, CalledBy),
) -> Form {
    Form { gateway, uri, from, diversion, history: &[], expected }
}

const fn told(
    uri: &'static str,
    history: &'static [&'static str],
    expected: (usize, CallType, &'static str, bool, CalledBy),
) -> Form {
    Form { gateway: PBX, uri, from: REX, diversion: &[], history, expected }
}

use CalledBy::{Diversion as Div, HistoryInfo as His, RequestUri as Uri};

const KEN_MAIL: &str = "sip:ken@contoso.com;opaque=app:voicemail";
const PILOT: &str = "sip:88895@10.0.0.21;user=phone";

#[rustfmt::skip]
const FORMS: &[Form] = &[
    // Lync: call answering, with the bare Diversion of its proxy and without; the own mailbox; a voice memo.
    form(POOL, KEN_MAIL, DANA, &["<sip:ken@contoso.com>"], (SIP, CallAnswering, "ken@contoso.com", false, Div)),
    form(POOL, KEN_MAIL, DANA, &[], (SIP, CallAnswering, "ken@contoso.com", false, Uri)),
    form(POOL, "sip:KEN@Contoso.com;opaque=APP:VoiceMail", DANA, &[], (SIP, CallAnswering, "KEN@contoso.com", false, Uri)),
    form(POOL, KEN_MAIL, "<sip:ken@contoso.com>", &[], (SIP, SubscriberAccess, "ken@contoso.com", false, Uri)),
    form(POOL, KEN_MAIL, "<sip:ken@contoso.com>", &["<sip:ken@contoso.com>"], (SIP, SubscriberAccess, "ken@contoso.com", false, Div)),
    form(POOL, "sip:ken@contoso.com;opaque=app:voicemail;local-resource-path=voicememo", DANA, &[], (SIP, CallAnswering, "ken@contoso.com", true, Uri)),
    // Contact objects, pilots by plan name and phone-context, access numbers.
    form(POOL, "sip:ova@contoso.com;opaque=app:exum:DP-Sip.contoso.com", DANA, &[], (SIP, SubscriberAccess, "ova@contoso.com", false, Uri)),
    form(POOL, "sip:aa-main@contoso.com;opaque=app:exum:DP-Sip.contoso.com", DANA, &[], (SIP, AutoAttendant, "aa-main@contoso.com", false, Uri)),
    form(POOL, "sip:DP-Sip@contoso.com", DANA, &[], (SIP, SubscriberAccess, "DP-Sip@contoso.com", false, Uri)),
    form(POOL, "sip:dp-sip.contoso.com@contoso.com", DANA, &[], (SIP, SubscriberAccess, "dp-sip.contoso.com@contoso.com", false, Uri)),
    form(POOL, "sip:+14255550100@contoso.com;user=phone", DANA, &[], (SIP, SubscriberAccess, "+14255550100", false, Uri)),
    form(POOL, "sip:+14255550198@contoso.com;user=phone", DANA, &[], (SIP, AutoAttendant, "+14255550198", false, Uri)),
    // Extensions and numbers.
    form(POOL, "sip:6095;phone-context=DP-Tel.contoso.com@contoso.com;user=phone", DANA, &[], (TEL, CallAnswering, "6095", false, Uri)),
    form(POOL, "sip:6095;phone-context=dp-tel-OLD.contoso.com@contoso.com;user=phone", DANA, &[], (TEL, CallAnswering, "6095", false, Uri)),
    form(POOL, "sip:1001;phone-context=DP-Sip.contoso.com@contoso.com", DANA, &[], (SIP, CallAnswering, "1001", false, Uri)),
    form(POOL, "tel:6095;phone-context=DP-Tel.contoso.com", DANA, &[], (TEL, CallAnswering, "6095", false, Uri)),
    form(POOL, "sip:+14255550121@contoso.com;user=phone", DANA, &[], (SIP, CallAnswering, "+14255550121", false, Uri)),
    // A PBX: its pilot, and every dialect of Diversion.
    form(PBX, PILOT, REX, &[], (TEL, SubscriberAccess, "88895", false, Uri)),
    form(PBX, PILOT, REX, &["<tel:10001>;reason=no-answer"], (TEL, CallAnswering, "10001", false, Div)),
    form(PBX, PILOT, REX, &["\"Doe, Jane\"<sip:65514@198.51.100.20>;privacy=off;reason=no-answer;screen=yes"], (TEL, CallAnswering, "65514", false, Div)),
    form(PBX, PILOT, REX, &["<sip:1@x>;reason=unconditional,<sip:2@x>;reason=user-busy", "\"A, B\" <sip:3@x>"], (TEL, CallAnswering, "3", false, Div)),
    form(PBX, PILOT, REX, &["\"Doe, Jane <sip:65514@x>;reason=no-answer"], (TEL, CallAnswering, "65514", false, Div)),
    form(PBX, PILOT, REX, &["<sip:65514@x>;reason=\"no-answer;screen=yes"], (TEL, CallAnswering, "65514", false, Div)),
    form(PBX, PILOT, REX, &["<sip:65514@x", "<sip:65515@x>"], (TEL, CallAnswering, "65515", false, Div)),
    form(PBX, PILOT, REX, &["<sip:10048@198.51.100.20>;reason=unconditional"], (TEL, SubscriberAccess, "88895", false, Div)),
    // History-Info, alone and with several entries.
    told(PILOT, &["<sip:65514@x>;index=1", "<sip:88895@10.0.0.21>;index=1.1"], (TEL, CallAnswering, "65514", false, His)),
    told(PILOT, &["<sip:1@x>;index=1, <sip:2@x>;index=1.1", "<sip:88895@10.0.0.21>;index=1.1.1"], (TEL, CallAnswering, "1", false, His)),
    told(PILOT, &["<sip:88895@10.0.0.21>;index=1"], (TEL, SubscriberAccess, "88895", false, Uri)),
    told(PILOT, &["<<>>"], (TEL, SubscriberAccess, "88895", false, Uri)),
];

#[test]
fn every_form_is_classified_and_told_by_its_header() {
    for Form { gateway, uri, from, diversion, history, expected } in FORMS {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (diversions, history) = (owned(diversion), owned(history));
        let words = Spoken {
            request_uri: uri,
            from,
            diversions: &diversions,
            history: &history,
            ..Spoken::default()
        };
        let question = RouteQuestion::spoken(*gateway, &words).expect("question");
        let answer = route(&policy(), &question);
        let route = answer.result.unwrap_or_else(|refusal| panic!("{uri}: {refusal}"));
        let got = (
            route.dial_plan,
            route.call_type,
            route.callee.as_str(),
            route.voice_memo,
            question.um_view().by,
        );
        assert_eq!(got, *expected, "{uri} {diversions:?} {history:?}");
    }
}

#[test]
fn every_sample_says_whom_um_takes_for_the_called_one() {
    #[rustfmt::skip]
    let expected = [
        ("01", POOL, "ken@contoso.com", Div), ("02", POOL, "ken@contoso.com", Div), ("03", POOL, "ken@contoso.com", Div),
        ("04", POOL, "ken@contoso.com", Div), ("05", POOL, "dana@contoso.com", Uri), ("06", POOL, "aa-main@contoso.com", Uri),
        ("07", POOL, "6095", Div), ("08", POOL, "ken@contoso.com", Div), ("09", PBX, "65514", Div), ("10", PBX, "65514", Div),
        ("17", PBX, "65514", Div),
    ];
    for (number, gateway, called, by) in expected {
        let view = RouteQuestion::of(gateway, &sample(number)).expect("question").um_view();
        assert_eq!((view.called.as_str(), view.by), (called, by), "sample {number}: {}", view.why);
    }
}

#[test]
fn the_reason_names_the_number_of_entries_what_was_mended_and_what_was_left_out() {
    let view = |diversions: &[&str]| {
        let diversions: Vec<String> = diversions.iter().map(|text| (*text).to_owned()).collect();
        let words = Spoken { request_uri: PILOT, diversions: &diversions, ..Spoken::default() };
        RouteQuestion::spoken(PBX, &words).expect("question").um_view().why
    };
    assert!(view(&["<sip:1@x>, <sip:2@x>", "<sip:3@x>"]).contains("the last of 3"));
    assert!(view(&["<sip:1@x>"]).contains("bare as Lync writes it"));
    assert!(view(&["\"Doe <sip:1@x>;reason=no-answer"]).contains("is mended on the way"));
    assert!(view(&["<sip:1@x"]).contains("Diversion ignored"));
}

/// A site with `ken` hosted and `dana` here, both with EUM addresses in the same plan.
fn mixed() -> Policy {
    let mut policy = policy();
    let um = |home| MailboxUm {
        home,
        eum_addresses: vec![EumAddress { address: "7777".into(), dial_plan: SIP }],
        ..MailboxUm::default()
    };
    let named = |alias, home| Mailbox { um: um(home), ..mailbox(alias, SIP) };
    policy.mailboxes = vec![named("ken", Home::Hosted), mailbox("dana", SIP), mailbox("sue", SIP)];
    policy.mailboxes[2].um.home = Home::OnPremises;
    let hosted_policy = |identity: &str, scope, organization: &str| HostedPolicy {
        identity: identity.into(),
        scope,
        destination: "exap.hosted.test".into(),
        organizations: vec![organization.into()],
        server: Some(0),
    };
    policy.um.hosted = Hosted {
        policies: vec![
            hosted_policy("global", Scope::Global, "global.contoso.com"),
            hosted_policy("site:Reno", Scope::Site("Reno".into()), "reno.contoso.com"),
            hosted_policy("Board", Scope::User, "board.contoso.com"),
        ],
        servers: vec![server("exap.hosted.test", ServerRole::Hosted)],
        access_edge: AccessEdge { allow_federated_users: Allowed::Yes, ..AccessEdge::default() },
        ..Hosted::default()
    };
    policy
}

fn asked(policy: &Policy, uri: &str) -> Result<Route, Refusal> {
    let words = Spoken { request_uri: uri, from: "<sip:rex@contoso.com>", ..Spoken::default() };
    route(policy, &RouteQuestion::spoken(POOL, &words).expect("question")).result
}

fn organization(policy: &Policy, uri: &str) -> Option<String> {
    asked(policy, uri).expect("routed").hosted.map(|hosted| hosted.organization)
}

#[test]
fn in_a_mixed_deployment_the_users_flag_decides_and_wins_over_the_eum_address() {
    let policy = mixed();
    let ken = asked(&policy, KEN_MAIL).expect("routed").hosted.expect("hosted");
    assert_eq!((ken.policy, ken.server), (0, 0));
    let expected = "sip:ken@global.contoso.com.exap.hosted.test:5061;transport=tls;opaque=app:voicemail";
    assert_eq!(ken.request_uri, expected.as_bytes());
    for here in ["dana", "sue", "nobody"] {
        let uri = format!("sip:{here}@contoso.com;opaque=app:voicemail");
        assert_eq!(organization(&policy, &uri), None, "{here}");
    }
    let by_extension = "sip:7777;phone-context=DP-Sip.contoso.com@contoso.com";
    assert_eq!(
        organization(&policy, by_extension).as_deref(),
        Some("global.contoso.com"),
        "the EUM address is ken's"
    );
}

#[test]
fn a_deployment_is_on_premises_cross_premises_or_by_user() {
    let mut policy = mixed();
    let uri = |user: &str| format!("sip:{user}@contoso.com;opaque=app:voicemail");
    let hosted = |policy: &Policy| {
        ["ken", "dana", "sue", "nobody"].map(|user| organization(policy, &uri(user)).is_some())
    };
    assert_eq!(hosted(&policy), [true, false, false, false]);
    policy.um.hosted.deployment = Deployment::CrossPremises;
    assert_eq!(hosted(&policy), [true, true, false, true]);
    policy.um.hosted.deployment = Deployment::OnPremises;
    assert_eq!(hosted(&policy), [false; 4]);
}

#[test]
fn the_policy_of_the_user_goes_before_the_sites_and_that_before_the_global_one() {
    let mut policy = mixed();
    policy.pools[0].site = Some("reno".into());
    assert_eq!(organization(&policy, KEN_MAIL).as_deref(), Some("reno.contoso.com"));
    policy.mailboxes[0].um.hosted_policy = Some(2);
    assert_eq!(organization(&policy, KEN_MAIL).as_deref(), Some("board.contoso.com"));
}

#[test]
fn contact_objects_with_a_hosted_policy_are_hosted_and_diverted_calls_are_not_theirs() {
    let mut policy = mixed();
    policy.um.contacts = vec![Contact {
        sip_address: "ova@contoso.com".into(),
        display_number: Some("+14255550100".into()),
        kind: ContactKind::SubscriberAccess,
        hosted_policy: Some(2),
    }];
    for uri in
        ["sip:ova@contoso.com;opaque=app:exum:DP-Sip.contoso.com", "sip:+14255550100@contoso.com;user=phone"]
    {
        assert_eq!(organization(&policy, uri).as_deref(), Some("board.contoso.com"), "{uri}");
    }
    let diversions = ["<sip:dana@contoso.com>".to_owned()];
    let words = Spoken {
        request_uri: "sip:+14255550100@contoso.com",
        from: "<sip:rex@contoso.com>",
        diversions: &diversions,
        ..Spoken::default()
    };
    let diverted = route(&policy, &RouteQuestion::spoken(POOL, &words).expect("question")).result;
    assert_eq!(diverted.expect("routed").hosted, None, "dana's mailbox is here");
}

#[test]
fn what_stands_in_the_way_of_hosted_voice_mail_is_a_refusal_of_its_own() {
    type Change = fn(&mut Policy);
    let cases: [(Change, Code); 4] = [
        (|policy| policy.um.hosted.policies.clear(), codes::HOSTED_NO_POLICY),
        (|policy| policy.um.hosted.access_edge.allow_federated_users = Allowed::No, codes::FEDERATION_OFF),
        (|policy| policy.dial_plans[SIP].voip_security = VoipSecurity::Unsecured, codes::HOSTED_NEEDS_TLS),
        (|policy| policy.um.hosted.policies[0].server = None, codes::NO_HOSTING_PROVIDER),
    ];
    for (change, code) in cases {
        let mut policy = mixed();
        change(&mut policy);
        let refusal = asked(&policy, KEN_MAIL).expect_err("refused");
        assert_eq!(refusal.code(), code);
        let dana = asked(&policy, "sip:dana@contoso.com;opaque=app:voicemail");
        assert!(dana.is_ok(), "{code}: calls that stay here are not touched");
    }
}

#[test]
fn a_hosted_call_keeps_what_is_wanted_of_the_request_uri_and_drops_the_way() {
    let memo = "sip:ken@contoso.com;transport=tcp;maddr=10.0.0.1;opaque=app:voicemail;local-resource-path=voicememo;ms-x";
    let hosted = asked(&mixed(), memo).expect("routed").hosted.expect("hosted");
    let text = String::from_utf8(hosted.request_uri.to_vec()).expect("text");
    assert!(
        text.ends_with(":5061;transport=tls;opaque=app:voicemail;local-resource-path=voicememo;ms-x"),
        "{text}"
    );
}
