//! What is measured: small pieces of work that can be repeated any number of times, by name. Owns the work and its
//! input; how it is counted (time, instructions, allocations) stands in `benches/` of this package and in the script
//! `benches/cost`.

mod calls;
pub mod growth;
pub mod load;
mod policy;
pub mod srtp;
mod trace;
mod transactions;
mod wire;

pub use calls::{Held, Scenario};
pub use trace::Trace;

/// One piece of work, prepared and ready to be repeated.
pub struct Work {
    /// Its name in every table.
    pub name: &'static str,
    /// How many operations one repetition does.
    pub per_run: usize,
    /// One repetition. The number it gives back keeps the compiler from leaving the work out.
    pub run: Box<dyn FnMut() -> usize>,
}

/// Everything that can be measured, in the order of the tables.
pub const NAMES: [&str; 15] = [
    "frame",
    "parse",
    "typed headers",
    "print",
    "sdp parse",
    "sdp relay",
    "transaction",
    "invite transaction",
    "call, TCP and RTP",
    "call, TLS and SRTP",
    "call, two redirects",
    "set-up, TCP and RTP",
    "refusal, TCP",
    "set-up, TLS and SRTP",
    "refusal, TLS",
];

/// Prepares a piece of work; `None` for a name that is not in [`NAMES`].
pub fn prepare(name: &str) -> Option<Work> {
    let work = match name {
        "frame" => wire::frame(),
        "parse" => wire::parse(),
        "typed headers" => wire::typed(),
        "print" => wire::print(),
        "sdp parse" => wire::sdp_parse(),
        "sdp relay" => wire::sdp_relay(),
        "transaction" => transactions::plain(),
        "invite transaction" => transactions::invite(),
        "call, TCP and RTP" => calls::work("call, TCP and RTP", Scenario::Plain),
        "call, TLS and SRTP" => calls::work("call, TLS and SRTP", Scenario::Sealed),
        "call, two redirects" => calls::work("call, two redirects", Scenario::Redirected),
        "set-up, TCP and RTP" => calls::set_up("set-up, TCP and RTP", Scenario::Plain),
        "refusal, TCP" => calls::refused("refusal, TCP", Scenario::Plain),
        "set-up, TLS and SRTP" => calls::set_up("set-up, TLS and SRTP", Scenario::Sealed),
        "refusal, TLS" => calls::refused("refusal, TLS", Scenario::Sealed),
        _ => return None,
    };
    Some(work)
}
