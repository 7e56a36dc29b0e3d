//! A hosted user on the wire: one server in place of the plan's, its Request-URI, redirects that may not leave it, the plan's
//! security; and requests outside calls, which go the same way.

use std::sync::Arc;

use sip::{HeaderId, Method};

use super::outdialog::{request, with_body};
use super::policy::{self, POOL};
use super::world::{Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::codes;
use crate::policy::{
    AccessEdge, Allowed, Home, Hosted, HostedPolicy, Policy, PoolEncryption, PortSource, Scope, Server,
    ServerRole, VoipSecurity,
};

const PROXY: &str = "exap.hosted.test";
const HOSTED_URI: &str = "sip:ken@corp.contoso.com.exap.hosted.test:5061;transport=tls;opaque=app:voicemail";

fn mixed() -> Policy {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
    policy.mailboxes[0].um.home = Home::Hosted;
    let proxy = Server {
        name: PROXY.into(),
        addresses: Vec::new(),
        tls_port: 5061,
        port_source: PortSource::Federation,
        role: ServerRole::Hosted,
        ..policy.mailbox_servers[0].clone()
    };
    policy.um.hosted = Hosted {
        policies: vec![HostedPolicy {
            identity: "global".into(),
            scope: Scope::Global,
            destination: PROXY.into(),
            organizations: vec!["corp.contoso.com".into()],
            server: Some(0),
        }],
        servers: vec![proxy],
        access_edge: AccessEdge { allow_federated_users: Allowed::Yes, ..AccessEdge::default() },
        ..Hosted::default()
    };
    policy
}

fn world(policy: Policy) -> World {
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

#[test]
fn a_hosted_users_call_goes_to_the_proxy_under_its_own_request_uri_and_nowhere_else() {
    let mut world = world(mixed());
    world.script(PROXY, 5061, Script::Answer);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let places: Vec<_> = world.connects.iter().map(|target| (target.name.as_str(), target.port)).collect();
    assert_eq!(places, [(PROXY, 5061)]);
    assert_eq!(
        (world.questions[0].name.as_str(), world.questions[0].port_source),
        (PROXY, PortSource::Federation)
    );
    let invite = world.party(PROXY, 5061).requests[0].clone();
    assert_eq!(invite.request_uri(), HOSTED_URI);
    assert!(invite.header(HeaderId::Diversion).is_some());
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.records[0].server.as_deref(), Some(PROXY));
    assert_eq!(world.records[0].security, "TLS+SRTP");
    world.assert_clean();
}

#[test]
fn a_hosted_um_may_redirect_to_itself_and_not_to_the_plans_servers() {
    let mut world = world(mixed());
    let to = |host: &str| Script::Redirect(format!("<sip:ken@{host};transport=tls>"));
    world.script(PROXY, 5061, to(&format!("{PROXY}:5066")));
    world.script(PROXY, 5066, Script::Answer);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.script(PROXY, 5061, to("mbx01.contoso.com:5063"));
    world.invite_as(2, DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 503);
    assert_eq!(world.records[1].verdict.code, codes::REDIRECT_ESCAPE);
    world.assert_clean();
}

#[test]
fn a_proxy_that_is_away_does_not_send_the_call_to_the_plans_servers() {
    let mut world = world(mixed());
    world.dns.insert(PROXY.into(), Vec::new());
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 503);
    assert!(world.connects.is_empty(), "{:?}", world.connects);
    world.assert_clean();
}

#[test]
fn a_message_for_a_hosted_user_goes_where_the_call_would() {
    let mut world = world(mixed());
    world.script(PROXY, 5061, Script::Answer);
    let asked = request(Method::Message, DEPOSIT, "Max-Forwards: 70\r\n");
    world.send_as(&caller(), with_body(asked, b"text/plain", "hello"));
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.party(PROXY, 5061).requests[0].request_uri(), HOSTED_URI);
    world.assert_clean();
}
