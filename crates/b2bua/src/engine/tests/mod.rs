//! Calls through a whole engine in virtual time, by scenario.

mod dialogs;
mod early;
mod early_cast;
mod execute;
mod forks;
pub(crate) mod policy;
mod quirks;
mod races;
mod refer;
mod refusals;
mod reliable;
mod replaces;
mod setup;
mod storm;
mod world;

use world::{Script, World};

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
