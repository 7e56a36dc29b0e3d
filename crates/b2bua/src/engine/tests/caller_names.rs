//! Names of callers that bring none, from the mailboxes of all dial plans.

use std::sync::Arc;

use sip::HeaderId;

use super::policy::{self, POOL};
use super::world::{World, offer};
use super::{DEPOSIT, DIVERSION, redirecting, value};
use crate::policy::{
    CallerNames, DialPlan, EumAddress, HeaderRules, Mailbox, MailboxUm, Policy, PoolEncryption, VoipSecurity,
};

/// Ken, Dana in another plan by her address, and two whose extensions are told apart by their plans.
fn directory(rule: CallerNames) -> Policy {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
    let other = DialPlan {
        name: "DP-Two".into(),
        phone_context: "DP-Two.contoso.com".into(),
        ..policy.dial_plans[0].clone()
    };
    policy.dial_plans.push(other);
    let mailbox = |alias: &str, extension: Option<&str>, dial_plan: usize| Mailbox {
        alias: alias.into(),
        sip: extension.is_none().then(|| format!("{alias}@contoso.com")),
        extension: extension.map(str::to_owned),
        dial_plan,
        um: MailboxUm { display_name: Some(format!("Name of {alias}")), ..MailboxUm::default() },
    };
    policy.mailboxes = vec![
        mailbox("ken", None, 0),
        mailbox("dana", None, 1),
        mailbox("near", Some("1001"), 0),
        mailbox("far", Some("1001"), 1),
        mailbox("only", Some("2002"), 1),
    ];
    // One known by addresses of UM alone, and a number that one plan calls so.
    let eum = |address: &str| EumAddress { address: address.into(), dial_plan: 1 };
    let mut ben = mailbox("ben", Some("3003"), 1);
    ben.um.eum_addresses = vec![eum("ben@contoso.com"), eum("7007")];
    policy.mailboxes.push(ben);
    policy.headers = HeaderRules::default().naming_callers(rule);
    policy
}

/// From and P-Asserted-Identity as UM is told them.
fn told(policy: &Policy, from: &str, asserted: &str) -> (String, String) {
    let mut world = World::new(Arc::new(policy.clone()));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    let lines = format!("{DIVERSION}{asserted}");
    world.invite_from(from, DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let invite = world.party("mbx01.contoso.com", 5066).requests[0].clone();
    let from = value(&invite, HeaderId::From);
    let from = from.split(";tag=").next().unwrap_or_default().to_owned();
    (from, value(&invite, HeaderId::PAssertedIdentity))
}

#[test]
fn without_the_setting_nothing_is_added() {
    let policy = directory(CallerNames::Off);
    assert_eq!(told(&policy, "<sip:dana@contoso.com>", ""), ("<sip:dana@contoso.com>".into(), String::new()));
}

#[test]
fn a_caller_without_a_name_gets_that_of_the_mailbox_whatever_plan_it_is_in() {
    let policy = directory(CallerNames::Missing);
    let from = |from: &str| told(&policy, from, "").0;
    assert_eq!(from("<sip:dana@contoso.com>"), "\"Name of dana\" <sip:dana@contoso.com>");
    assert_eq!(
        from("<sip:1001@contoso.com;user=phone>"),
        "\"Name of near\" <sip:1001@contoso.com;user=phone>"
    );
    assert_eq!(from("<sip:2002@contoso.com>"), "\"Name of only\" <sip:2002@contoso.com>");
    assert_eq!(from("<sip:ben@contoso.com>"), "\"Name of ben\" <sip:ben@contoso.com>");
    assert_eq!(from("<sip:7007@contoso.com>"), "\"Name of ben\" <sip:7007@contoso.com>");
    assert_eq!(from("<sip:+14255550101@contoso.com>"), "<sip:+14255550101@contoso.com>");
    assert_eq!(from("\"Boss\" <sip:dana@contoso.com>"), "\"Boss\" <sip:dana@contoso.com>");
}

#[test]
fn an_asserted_name_is_replaced_by_always_only() {
    let asserted = "P-Asserted-Identity: \"Asserted\" <sip:dana@contoso.com>, <tel:+14255550101>\r\n";
    let missing = told(&directory(CallerNames::Missing), "\"Boss\" <sip:dana@contoso.com>", asserted);
    assert_eq!(missing.1, "\"Asserted\" <sip:dana@contoso.com>, <tel:+14255550101>");
    let always = told(&directory(CallerNames::Always), "\"Boss\" <sip:dana@contoso.com>", asserted);
    assert_eq!(always.0, "\"Name of dana\" <sip:dana@contoso.com>");
    assert_eq!(always.1, "\"Name of dana\" <sip:dana@contoso.com>, <tel:+14255550101>");
    let bare = "P-Asserted-Identity: <sip:dana@contoso.com>\r\n";
    let filled = told(&directory(CallerNames::Missing), "<sip:dana@contoso.com>", bare);
    assert_eq!(filled.1, "\"Name of dana\" <sip:dana@contoso.com>");
}
