//! Black-box tests: the real `umbra` binary, real sockets on loopback, foreign peers where they are installed.
//!
//! Every test has a loopback network of its own (127.x.y.0/24), so tests run side by side and use the real UM ports.
//! A test whose peer is missing prints why it is skipped; with `UMBRA_REQUIRE_PEERS=1` it fails instead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod baresip;
mod cert;
mod certificates;
mod cli;
mod demo;
mod doctor;
mod dtmf;
mod early;
mod families;
mod flood;
mod harness;
mod hosted;
mod hostile;
mod ice;
mod keylog;
mod keys;
mod lab;
mod ldap;
mod loops;
mod malformed;
mod media;
mod names;
mod out_calls;
mod overload;
mod pairs;
mod quirks;
mod reload;
mod restart;
mod rtp;
mod samples;
mod secrets;
mod servers;
mod shapes;
mod shards;
mod sipp;
mod site;
mod stage;
mod torture;
mod traffic;
mod trust;
mod voice;
mod wire;
