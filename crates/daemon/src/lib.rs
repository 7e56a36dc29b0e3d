//! The shell of Umbra: everything that touches the world. Sockets, TLS, files, clocks, threads and the command line
//! live here; what a call is lives in `b2bua`.

pub mod cli;
pub mod config;
pub mod demo;
pub mod directory;
pub mod doctor;
pub mod keep;
pub mod kernel;
pub mod labs;
pub mod media;
pub mod net;
pub mod observe;
pub mod run;
pub mod tls;
pub mod trace;
