//! Calls through a whole engine in virtual time, by scenario.

mod caller_names;
mod continuity;
mod crowd;
mod dialogs;
mod digits;
mod early;
mod early_cast;
mod execute;
mod families;
mod forks;
mod gate;
mod glare;
mod handover;
mod hold;
mod hosted;
mod ice;
mod mux;
mod nobody_left;
mod notifications;
mod numbers;
mod offer_answer;
mod out_calls;
mod outdialog;
mod panics;
pub(crate) mod policy;
mod probes;
mod quirks;
mod races;
mod recovery;
mod refer;
mod refusals;
mod relayed;
mod reliable;
mod replaces;
mod reroute;
mod session_timers;
mod setup;
mod storm;
mod third_leg;
mod unanchored;
mod waiting;
mod world;

use sip::{HeaderId, Message};
use world::{Place, Script, World, offer};

const DEPOSIT: &str = "sip:ken@contoso.com;opaque=app:voicemail";
const DIVERSION: &str = "Diversion: <sip:ken@contoso.com>\r\n";

/// Call Routers that redirect to the first Mailbox server, whose service redirects to its worker.
fn redirecting(world: &mut World, transport: &str) {
    let (router, service, worker) = if transport == "tls" { (5061, 5063, 5066) } else { (5060, 5062, 5065) };
    for (cas, mbx) in [("cas01.contoso.com", "mbx01.contoso.com"), ("cas02.contoso.com", "mbx02.contoso.com")]
    {
        let to = |port: u16| format!("<sip:ken@{mbx}:{port};user=phone;transport={transport};maddr={mbx}>");
        world.script(cas, router, Script::Redirect(to(service)));
        world.script(mbx, service, Script::Redirect(to(worker)));
        world.script(mbx, worker, Script::Answer);
    }
}

/// The worker that answers the calls of `redirecting`.
fn worker() -> Place {
    ("mbx01.contoso.com".into(), 5066)
}

/// A call from the pool that is up: lines of the caller's INVITE, lines of the worker's answers.
fn call_with(caller: &str, worker: &str) -> World {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.party("mbx01.contoso.com", 5066).says = worker.to_owned();
    world.connect_caller("10.0.0.5", Some(policy::POOL));
    world.invite(DEPOSIT, &format!("{DIVERSION}{caller}"), Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world
}

/// A header's first value as text; empty without one.
fn value(message: &Message, id: HeaderId) -> String {
    message.header(id).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}
