//! From a compiled configuration to what a gateway is started with. Owns the translation and the few values that are
//! not configurable; refuses to check anything twice.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sip::Transport;

use super::settings::{ListenAt, Settings, TlsSetup};
use crate::config::{Compiled, Switch};
use crate::keep::KeepSettings;
use crate::media::MediaConfig;
use crate::net::NetLimits;
use crate::observe::{RecordSettings, Written};

/// How long a released port pair rests: late packets of the old call must not reach a new one.
const PORT_REST: Duration = Duration::from_secs(5);
/// Media threads unless configured; more never helped on the machines measured.
const MEDIA_THREADS_MAX: usize = 8;

impl From<Compiled> for Settings {
    fn from(compiled: Compiled) -> Self {
        Self::from(&compiled)
    }
}

impl From<&Compiled> for Settings {
    fn from(compiled: &Compiled) -> Self {
        let observe = &compiled.observe;
        let records = RecordSettings {
            folder: observe.cdr_dir.clone(),
            jsonl: written(observe.cdr_jsonl),
            um_csv: written(observe.cdr_um_csv),
        };
        let wanted = [records.jsonl, records.um_csv].contains(&Written::Yes);
        Self {
            policy: compiled.policy.clone(),
            listen: listeners(compiled),
            tls: compiled.tls.as_ref().map(|tls| TlsSetup {
                files: tls.files.clone(),
                spoken: tls.spoken.clone(),
                weak_peers: tls.weak_peers.clone(),
            }),
            shards: compiled.shards,
            media: media(compiled),
            dns: compiled.dns.clone(),
            admin: compiled.admin.http,
            records: wanted.then_some(records),
            state_dir: Some(compiled.state_dir.clone()),
            keep: KeepSettings {
                recordings: compiled.media.recordings.clone(),
                captures: observe.captures.clone(),
            },
            limits: NetLimits {
                handshake_timeout: compiled.listen.handshake_timeout,
                header_timeout: compiled.listen.header_timeout,
                body_timeout: compiled.listen.body_timeout,
                connections_max: compiled.listen.connections_max,
                connections_of_address_max: compiled.listen.connections_of_address_max,
                handshakes_max: compiled.listen.handshakes_max,
                ..NetLimits::default()
            },
            tap: None,
        }
    }
}

fn written(switch: Switch) -> Written {
    match switch {
        Switch::On => Written::Yes,
        Switch::Off => Written::No,
    }
}

fn listeners(compiled: &Compiled) -> Vec<ListenAt> {
    let listen = &compiled.listen;
    let ports = [
        (listen.tcp_port, Transport::Tcp),
        (listen.tls_port, Transport::Tls),
        (listen.udp_port, Transport::Udp),
    ];
    let on = |address: &IpAddr| {
        let address = *address;
        ports.into_iter().filter_map(move |(port, transport)| {
            Some(ListenAt { address: SocketAddr::new(address, port?), transport })
        })
    };
    listen.addresses.iter().flat_map(on).collect()
}

fn media(compiled: &Compiled) -> MediaConfig {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MEDIA_THREADS_MAX);
    MediaConfig {
        addresses: compiled.media.addresses.clone(),
        dscp: compiled.media.dscp,
        ports: compiled.media.rtp_first..=compiled.media.rtp_last,
        workers: compiled.media.threads.unwrap_or(cores),
        rest: PORT_REST,
    }
}
