//! What a call is. Sans-IO: bytes, facts and `now` go in; bytes, commands and deadlines come out. Owns the engine, the
//! policy it decides with, routing, security, refusals and records; refuses to know sockets, files, clocks and TOML.

mod call;
pub mod codes;
mod dtmf;
pub mod engine;
pub mod headers;
mod health;
mod leg;
mod media;
mod media_plan;
mod place;
pub mod policy;
pub mod profile;
pub mod quirks;
pub mod record;
mod redirect;
pub mod route;
pub mod security;
mod server_choice;
pub mod um;
pub mod verdict;

pub use codes::{Code, CodeEntry};
pub use engine::{Engine, EngineConfig, Event, Input, Output};
pub use headers::HeaderPolicy;
pub use policy::Policy;
pub use record::CallRecord;
pub use route::{RouteAnswer, RouteQuestion, route};
pub use security::{Decision, decide};
pub use verdict::{Refusal, Reply, Verdict};
