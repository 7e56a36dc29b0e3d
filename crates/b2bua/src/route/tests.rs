//! Routing of the sample messages, of every Request-URI form, and of what peers get wrong.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use sip::{Limits, Message};

use super::*;
use crate::policy::*;

pub(super) const POOL: usize = 0;
pub(super) const PBX: usize = 1;
const PILOTS_ONLY: usize = 2;

fn plan(name: &str, uri_type: UriType, voip_security: VoipSecurity) -> DialPlan {
    DialPlan {
        name: name.into(),
        uri_type,
        voip_security,
        phone_context: format!("{name}.contoso.com"),
        equivalent_phone_contexts: vec![format!("{name}-old.contoso.com")],
        access_telephone_numbers: vec![if name == "DP-Sip" {
            "+14255550100".into()
        } else {
            "+14255550300".into()
        }],
        extension_digits: 4,
        max_call_duration: Duration::from_secs(1800),
        call_routers: vec![0],
        mailbox_servers: vec![0],
        media_bridge: MediaBridge::Off,
        transfers: crate::policy::TransferRules::default(),
    }
}

fn gateway(name: &str, address: PeerAddress, pool: Option<usize>) -> IpGateway {
    IpGateway {
        name: name.into(),
        address,
        addresses: Vec::new(),
        port: 5061,
        port_source: PortSource::Configured,
        status: GatewayStatus::Enabled,
        max_calls_allowed: None,
        outcalls_allowed: Allowed::Yes,
        message_waiting_indicator_allowed: Allowed::Yes,
        pool,
        media_networks: [].into(),
        dialect: Dialect::of(if pool.is_some() { Profile::Sfb2015 } else { Profile::IpPbx }),
    }
}

fn hunt_group(name: &str, ip_gateway: usize, dial_plan: usize, pilot: Option<&str>) -> HuntGroup {
    HuntGroup { name: name.into(), ip_gateway, dial_plan, pilot_identifier: pilot.map(str::to_owned) }
}

pub(super) fn mailbox(alias: &str, dial_plan: usize) -> Mailbox {
    Mailbox {
        alias: alias.into(),
        sip: Some(format!("{alias}@contoso.com")),
        extension: (alias == "ken").then(|| "1001".into()),
        dial_plan,
        um: MailboxUm::default(),
    }
}

pub(super) fn server(name: &str, role: ServerRole) -> Server {
    Server {
        name: name.into(),
        addresses: Vec::new(),
        tcp_port: 5060,
        tls_port: 5061,
        port_source: PortSource::Configured,
        worker_ports: Vec::new(),
        max_calls_allowed: 100,
        status: ServerStatus::Enabled,
        role,
        media_networks: [].into(),
        dialect: Dialect::of(Profile::Exum2016),
    }
}

/// A pool with one hunt group named like its plan, a PBX with a pilot, a PBX with two pilots and no default.
pub(super) fn policy() -> Policy {
    let address: IpAddr = "198.51.100.20".parse().expect("address");
    let pool = Pool {
        name: "pool01".into(),
        fqdn: "pool01.contoso.com".into(),
        members: vec!["fe01.contoso.com".into()],
        address: vec!["127.0.0.5".parse().expect("address")],
        encryption: PoolEncryption::RequireEncryption,
        site: None,
    };
    Policy {
        gateway: Gateway {
            fqdn: "umbra.contoso.com".into(),
            sip_domain: "contoso.com".into(),
            addresses: Vec::new(),
            advertised: address,
            media_addresses: crate::policy::MediaAddresses::of([address]),
            tcp_port: Some(5060),
            tls_port: Some(5061),
            udp_port: None,
            max_calls_allowed: 100,
            calls_per_second_max: None,
            queue_wait_max: crate::policy::QUEUE_WAIT_MAX,
            unknown_peer: UnknownPeer::Drop,
            codecs: vec!["PCMU".into()],
            media_mode: MediaMode::Anchored,
            srtp: SrtpRules::default(),
            rtcp: RtcpMode::default(),
            ice: Default::default(),
            media_inactivity: Duration::from_secs(60),
            correlation_header: None,
        },
        pools: vec![pool],
        ip_gateways: vec![
            gateway("pool01", PeerAddress::Fqdn("pool01.contoso.com".into()), Some(0)),
            gateway("pbx", PeerAddress::Ip(address), None),
            gateway("pbx2", PeerAddress::Fqdn("pbx2.contoso.com".into()), None),
        ],
        hunt_groups: vec![
            hunt_group("pool01-default", POOL, 0, Some("DP-Sip")),
            hunt_group("pbx-88895", PBX, 1, Some("88895")),
            hunt_group("pbx2-1", PILOTS_ONLY, 0, Some("+14255550199")),
            hunt_group("pbx2-2", PILOTS_ONLY, 1, Some("ova@contoso.com")),
        ],
        dial_plans: vec![
            plan("DP-Sip", UriType::SipName, VoipSecurity::Secured),
            plan("DP-Tel", UriType::TelExtn, VoipSecurity::Unsecured),
        ],
        call_routers: vec![server("cas01.contoso.com", ServerRole::CallRouter)],
        mailbox_servers: vec![server("mbx01.contoso.com", ServerRole::Mailbox)],
        auto_attendants: vec![AutoAttendant {
            name: "aa-main".into(),
            dial_plan: 0,
            pilot_identifiers: vec!["+14255550198".into()],
            menu: Menu::default(),
        }],
        mailboxes: vec![mailbox("ken", 0), mailbox("dana", 0), mailbox("tel", 1)],
        um: UmObjects::default(),
        routing: RoutingRules::default(),
        headers: HeaderRules::default(),
        health: HealthRules::default(),
        session: SessionRules::default(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads its own data")]
pub(super) fn sample(number: &str) -> Message {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/samples"));
    let entries = std::fs::read_dir(&folder).expect("samples");
    let file = entries.filter_map(Result::ok).find(|e| e.file_name().to_string_lossy().starts_with(number));
    let bytes = std::fs::read(file.expect("sample").path()).expect("readable");
    Message::parse(Bytes::from(bytes), &Limits::default()).expect("sample parses")
}

fn route_sample(number: &str, gateway: usize) -> Route {
    let question = RouteQuestion::of(gateway, &sample(number)).expect("question");
    let answer = route(&policy(), &question);
    answer.result.unwrap_or_else(|refusal| panic!("{number}: {refusal}\n{:#?}", answer.steps))
}

fn ask(gateway: usize, request_uri: &str, from: &str, diversions: &[&str]) -> RouteAnswer {
    let diversions: Vec<String> = diversions.iter().map(|value| (*value).to_owned()).collect();
    let words = Spoken { request_uri, from, diversions: &diversions, ..Spoken::default() };
    route(&policy(), &RouteQuestion::spoken(gateway, &words).expect("question"))
}

fn found(gateway: usize, request_uri: &str, from: &str, diversions: &[&str]) -> Route {
    let answer = ask(gateway, request_uri, from, diversions);
    answer.result.unwrap_or_else(|refusal| panic!("{request_uri}: {refusal}\n{:#?}", answer.steps))
}

pub(super) const DANA: &str = "\"Dana\"<sip:dana@contoso.com>;tag=1";

#[test]
fn the_samples_of_calls_are_routed_and_named_as_their_index_says() {
    use CallType::{AutoAttendant, CallAnswering, SubscriberAccess};
    // number, gateway, plan, call type, callee, voice memo, why
    let expected = [
        ("01", POOL, 0, CallAnswering, "ken@contoso.com", false, ReasonForCall::DivertForward),
        ("02", POOL, 0, CallAnswering, "ken@contoso.com", false, ReasonForCall::DivertForward),
        ("03", POOL, 0, CallAnswering, "ken@contoso.com", false, ReasonForCall::DivertForward),
        ("04", POOL, 0, CallAnswering, "ken@contoso.com", false, ReasonForCall::DivertForward),
        ("05", POOL, 0, SubscriberAccess, "dana@contoso.com", false, ReasonForCall::Direct),
        ("06", POOL, 0, AutoAttendant, "aa-main@contoso.com", false, ReasonForCall::Direct),
        ("07", POOL, 0, CallAnswering, "6095", false, ReasonForCall::DivertNoAnswer),
        ("08", POOL, 0, CallAnswering, "ken@contoso.com", true, ReasonForCall::DivertForward),
        ("09", PBX, 1, CallAnswering, "65514", false, ReasonForCall::DivertNoAnswer),
        ("10", PBX, 1, CallAnswering, "65514", false, ReasonForCall::DivertNoAnswer),
    ];
    for (number, gateway, plan, call_type, callee, memo, reason) in expected {
        let route = route_sample(number, gateway);
        let got = (route.dial_plan, route.call_type, route.callee.as_str(), route.voice_memo, route.reason);
        assert_eq!(got, (plan, call_type, callee, memo, reason), "sample {number}");
    }
}

#[test]
fn the_diverting_party_and_the_mailbox_are_found() {
    let route = route_sample("01", POOL);
    assert_eq!(route.diverted_from.as_deref(), Some("ken@contoso.com"));
    assert_eq!((route.mailbox, route.caller.as_str()), (Some(0), "dana@contoso.com"));
    assert_eq!(route_sample("09", PBX).hunt_group, Some(1));
    assert_eq!(route_sample("06", POOL).auto_attendant, Some(0));
}

#[test]
fn phone_contexts_win_over_everything_and_compare_without_case() {
    for uri in [
        "sip:6095;phone-context=dp-tel.CONTOSO.com@contoso.com;user=phone",
        "sip:6095;phone-context=DP-Tel-old.contoso.com@contoso.com;user=phone",
        "sip:ova@contoso.com;opaque=APP:exum:dp-tel.contoso.com",
        "sip:dp-tel.contoso.com@contoso.com",
        "tel:6095;phone-context=dp-tel.contoso.com",
    ] {
        assert_eq!(found(POOL, uri, DANA, &[]).dial_plan, 1, "{uri}");
    }
}

#[test]
fn an_unknown_phone_context_falls_through_to_the_next_rules() {
    let answer = ask(POOL, "sip:6095;phone-context=elsewhere.example@contoso.com", DANA, &[]);
    assert_eq!(answer.result.expect("only hunt group").dial_plan, 0);
    assert_eq!(answer.steps[1].outcome, Outcome::Passed("no dial plan has it".into()));
}

#[test]
fn contact_objects_are_subscriber_access_unless_they_are_attendants() {
    let ova = found(POOL, "sip:ova@contoso.com;opaque=app:exum:DP-Sip.contoso.com", DANA, &[]);
    assert_eq!(ova.call_type, CallType::SubscriberAccess);
    let attendant = found(POOL, "sip:+14255550198@contoso.com;user=phone", DANA, &[]);
    assert_eq!((attendant.call_type, attendant.auto_attendant), (CallType::AutoAttendant, Some(0)));
}

#[test]
fn pilots_and_access_numbers_called_directly_are_subscriber_access() {
    for (gateway, uri, plan) in [
        (POOL, "sip:DP-Sip@contoso.com", 0),
        (POOL, "sip:dp-sip@contoso.com", 0),
        (POOL, "sip:+14255550100@contoso.com;user=phone", 0),
        (POOL, "sip:14255550100@contoso.com;user=phone", 0),
        (POOL, "sip:+1-425-555-0100@contoso.com;user=phone", 0),
        (PBX, "sip:88895@10.0.0.21;user=phone", 1),
        (PILOTS_ONLY, "tel:+1(425)555-0199", 0),
        (PILOTS_ONLY, "sip:ova@contoso.com", 1),
    ] {
        let route = found(gateway, uri, "<sip:10048@198.51.100.20>", &[]);
        assert_eq!((route.dial_plan, route.call_type), (plan, CallType::SubscriberAccess), "{uri}");
        assert_eq!(route.reason, ReasonForCall::Direct);
    }
}

#[test]
fn an_e164_number_of_a_user_called_through_a_pool_is_call_answering() {
    let route = found(POOL, "sip:+14255550121@contoso.com;user=phone", DANA, &[]);
    assert_eq!((route.call_type, route.callee.as_str()), (CallType::CallAnswering, "+14255550121"));
}

#[test]
fn of_several_diversions_the_oldest_counts() {
    let lines = [
        "<sip:2002@pbx>;reason=unconditional, \"A, B\" <tel:10001>;reason=user-busy",
        "<sip:65514@pbx>;reason=no-answer",
    ];
    let route = found(PBX, "sip:88895@10.0.0.21", "<sip:10048@198.51.100.20>", &lines);
    assert_eq!((route.callee.as_str(), route.reason), ("65514", ReasonForCall::DivertNoAnswer));
    let route = found(PBX, "sip:88895@10.0.0.21", "<sip:10048@198.51.100.20>", &lines[..1]);
    assert_eq!((route.callee.as_str(), route.reason), ("10001", ReasonForCall::DivertBusy));
}

#[test]
fn history_info_stands_in_for_a_missing_diversion() {
    let history = [
        "<sip:65514@pbx?Reason=SIP%3Bcause%3D486>;index=1".to_owned(),
        "<sip:88895@10.0.0.21>;index=1.1".to_owned(),
    ];
    let words = Spoken {
        request_uri: "sip:88895@10.0.0.21",
        from: "<sip:10048@pbx>",
        history: &history,
        ..Spoken::default()
    };
    let answer = route(&policy(), &RouteQuestion::spoken(PBX, &words).expect("question"));
    let route = answer.result.expect("route");
    assert_eq!(
        (route.call_type, route.callee.as_str(), route.reason),
        (CallType::CallAnswering, "65514", ReasonForCall::DivertBusy)
    );
}

#[test]
fn callers_of_their_own_mailbox_are_subscribers_by_any_of_their_addresses() {
    let ken = "<sip:Ken@CONTOSO.com>;tag=1";
    for uri in
        ["sip:ken@contoso.com;opaque=app:voicemail", "sip:1001;phone-context=DP-Sip.contoso.com@contoso.com"]
    {
        assert_eq!(found(POOL, uri, ken, &[]).call_type, CallType::SubscriberAccess, "{uri}");
    }
    let other = found(POOL, "sip:ken@contoso.com;opaque=app:voicemail", DANA, &[]);
    assert_eq!((other.call_type, other.reason), (CallType::CallAnswering, ReasonForCall::Direct));
}

#[test]
fn a_known_mailbox_leads_to_its_plan_before_the_default_does() {
    let route = found(POOL, "sip:tel@contoso.com;opaque=app:voicemail", DANA, &[]);
    assert_eq!((route.dial_plan, route.hunt_group), (1, None));
    let route = found(POOL, "sip:nobody@contoso.com;opaque=app:voicemail", DANA, &[]);
    assert_eq!((route.dial_plan, route.hunt_group), (0, Some(0)));
}

#[test]
fn a_default_hunt_group_takes_what_no_pilot_takes() {
    let mut policy = policy();
    policy.hunt_groups.push(hunt_group("pbx2-default", PILOTS_ONLY, 1, None));
    let words = Spoken { request_uri: "sip:4711@10.0.0.21", from: DANA, ..Spoken::default() };
    let answer = route(&policy, &RouteQuestion::spoken(PILOTS_ONLY, &words).expect("question"));
    assert_eq!(answer.result.expect("default").hunt_group, Some(4));
}

#[test]
fn no_match_and_no_default_is_404_with_every_step_as_evidence() {
    let answer = ask(PILOTS_ONLY, "sip:4711@10.0.0.21", DANA, &[]);
    let refusal = answer.result.expect_err("no route");
    let reply = refusal.reply("umbra.contoso.com");
    assert_eq!((reply.status, refusal.code()), (404, codes::NO_ROUTE));
    assert!(
        reply.headers.iter().any(|(name, value)| *name == "ms-diagnostics" && value.starts_with("61002;"))
    );
    assert!(refusal.verdict.evidence.iter().any(|line| line.contains("+14255550199, ova@contoso.com")));
    assert!(matches!(answer.steps.last().map(|step| &step.outcome), Some(Outcome::Refused(_))));
}

#[test]
fn a_gateway_that_takes_no_calls_is_refused_before_anything_is_looked_up() {
    let expected = [
        (GatewayStatus::Disabled, codes::GATEWAY_DISABLED),
        (GatewayStatus::NoNewCalls, codes::NO_NEW_CALLS),
    ];
    for (status, code) in expected {
        let mut policy = policy();
        policy.ip_gateways[POOL].status = status;
        let question = RouteQuestion::of(POOL, &sample("01")).expect("question");
        let answer = route(&policy, &question);
        assert_eq!(answer.result.expect_err("refused").code(), code);
        assert_eq!(answer.steps.len(), 1);
    }
    let question = RouteQuestion::of(99, &sample("01")).expect("question");
    assert_eq!(route(&policy(), &question).result.expect_err("refused").code(), codes::UNKNOWN_GATEWAY);
}

#[test]
fn headers_that_cannot_be_read_are_left_out_and_said_so() {
    let answer = ask(PBX, "sip:88895@10.0.0.21", "garbage <<<", &["<<>>;;;\"", "<sip:65514@pbx>"]);
    assert!(answer.steps[0].why.starts_with("Diversion ignored"), "{:?}", answer.steps[0]);
    assert_eq!(answer.result.expect("still routed").callee, "65514");
}

#[test]
fn a_request_uri_that_is_none_is_refused() {
    for uri in ["", "88895", "sip:", "sip:a b@c"] {
        let words = Spoken { request_uri: uri, ..Spoken::default() };
        let refusal = RouteQuestion::spoken(POOL, &words).expect_err("no URI");
        assert_eq!(refusal.code(), codes::BAD_REQUEST_URI, "{uri}");
    }
}

#[test]
fn a_thousand_diversions_are_bounded_and_the_oldest_kept() {
    let many: Vec<String> = (0..1000).map(|n| format!("<sip:{n}@pbx>")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(found(PBX, "sip:88895@10.0.0.21", DANA, &many).callee, "999");
}

#[test]
fn peers_are_known_by_certificate_name_member_name_and_address() {
    let policy = policy();
    let by_name = |name: &str| policy.peer_by_name(&[name.to_owned()]);
    assert_eq!(by_name("POOL01.contoso.com"), Some(Peer::IpGateway(POOL)));
    assert_eq!(by_name("fe01.contoso.com"), Some(Peer::IpGateway(POOL)));
    assert_eq!(by_name("mbx01.contoso.com"), Some(Peer::Server(ServerRole::Mailbox, 0)));
    assert_eq!(by_name("pbx"), None);
    assert_eq!(
        policy.peer_by_address("::ffff:198.51.100.20".parse().expect("address")),
        Some(Peer::IpGateway(PBX))
    );
    assert_eq!(policy.peer_by_address("127.0.0.5".parse().expect("address")), Some(Peer::IpGateway(POOL)));
    assert_eq!(policy.peer_by_address("127.0.0.6".parse().expect("address")), None);
}

proptest::proptest! {
    #[test]
    fn no_address_makes_routing_panic(uri in "\\PC{0,80}", user in "[^\\s<>]{0,40}", diversion in "\\PC{0,80}") {
        for request_uri in [uri.clone(), format!("sip:{user}@contoso.com"), format!("sip:ken@contoso.com;opaque={user}")] {
            let words = Spoken {
                request_uri: &request_uri,
                from: &uri,
                diversions: std::slice::from_ref(&diversion),
                history: std::slice::from_ref(&uri),
                asserted: &diversion,
            };
            let Ok(question) = RouteQuestion::spoken(PBX, &words) else { continue };
            let route = route(&policy(), &question).result.expect("its only hunt group takes everything");
            let shown = [route.callee, route.caller, route.dialed, route.diverted_from.unwrap_or_default()].concat();
            proptest::prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
