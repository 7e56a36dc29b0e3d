//! The RTP and RTCP sockets of one call and the task that runs its media endpoint on the clock.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::driver::Event;
use crate::media::{
    Channel, LocalMedia, MediaCommand, MediaEndpoint, MediaFact, MediaKey, MediaPlan, MediaReport,
};

/// Commands waiting at one call's media task.
pub(super) const COMMAND_QUEUE_MAX: usize = 32;
/// Tries for an even port with a free one after it.
const PORT_TRIES_MAX: usize = 100;
const DATAGRAM_BYTES_MAX: usize = 2_048;

struct Ports {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

/// Runs one call's media from allocation to stop.
pub(super) async fn run<C>(
    key: MediaKey,
    address: IpAddr,
    mut commands: mpsc::Receiver<MediaCommand>,
    to: mpsc::Sender<Event<C>>,
) {
    let ports = match open(address).await {
        Ok((ports, local)) => {
            tell(&to, key, MediaFact::Ready(Ok(local))).await;
            ports
        }
        Err(why) => {
            tell(&to, key, MediaFact::Ready(Err(why.to_string()))).await;
            while !matches!(commands.recv().await, None | Some(MediaCommand::Stop)) {}
            return tell(&to, key, MediaFact::Stopped(Box::default())).await;
        }
    };
    let mut endpoint = None;
    while let Some(command) = next(&mut commands, &mut endpoint, &ports, key, &to).await {
        match command {
            MediaCommand::Allocate => {}
            MediaCommand::Start(plan) => start(&mut endpoint, &plan, key, &to).await,
            MediaCommand::Retarget(plan) => retarget(&mut endpoint, &plan, key, &to).await,
            MediaCommand::Stop => break,
            command => {
                if let Some(endpoint) = &mut endpoint {
                    endpoint.obey(Instant::now(), command);
                }
            }
        }
    }
    let report = endpoint.map_or_else(MediaReport::default, MediaEndpoint::finish);
    tell(&to, key, MediaFact::Stopped(Box::new(report))).await;
}

/// Runs media until the next command; `None` when the owner is gone.
async fn next<C>(
    commands: &mut mpsc::Receiver<MediaCommand>,
    endpoint: &mut Option<MediaEndpoint>,
    ports: &Ports,
    key: MediaKey,
    to: &mpsc::Sender<Event<C>>,
) -> Option<MediaCommand> {
    let (mut rtp, mut rtcp) = ([0; DATAGRAM_BYTES_MAX], [0; DATAGRAM_BYTES_MAX]);
    loop {
        let Some(running) = endpoint.as_mut() else { return commands.recv().await };
        tokio::select! {
            biased;
            command = commands.recv() => return command,
            () = sleep_until(running.poll_deadline().into()) => running.handle_timeout(Instant::now()),
            got = ports.rtp.recv_from(&mut rtp) => on_datagram(running, Channel::Rtp, got, &rtp),
            got = ports.rtcp.recv_from(&mut rtcp) => on_datagram(running, Channel::Rtcp, got, &rtcp),
        }
        while let Some(packet) = running.poll_packet() {
            let socket = if packet.channel == Channel::Rtp { &ports.rtp } else { &ports.rtcp };
            // A full buffer or a closed peer port loses a packet, as networks do.
            let _ = socket.try_send_to(&packet.bytes, packet.to);
        }
        while let Some(fact) = running.poll_fact() {
            tell(to, key, fact).await;
        }
    }
}

fn on_datagram(
    endpoint: &mut MediaEndpoint,
    channel: Channel,
    got: io::Result<(usize, SocketAddr)>,
    buffer: &[u8],
) {
    if let Ok((length, from)) = got {
        endpoint.handle_packet(Instant::now(), channel, from, &buffer[..length]);
    }
}

async fn start<C>(
    endpoint: &mut Option<MediaEndpoint>,
    plan: &MediaPlan,
    key: MediaKey,
    to: &mpsc::Sender<Event<C>>,
) {
    match MediaEndpoint::new(plan, Instant::now()) {
        Ok(made) => *endpoint = Some(made),
        Err(why) => tell(to, key, MediaFact::Failed(why.to_string())).await,
    }
}

async fn retarget<C>(
    endpoint: &mut Option<MediaEndpoint>,
    plan: &MediaPlan,
    key: MediaKey,
    to: &mpsc::Sender<Event<C>>,
) {
    if let Some(Err(why)) = endpoint.as_mut().map(|e| e.retarget(plan, Instant::now())) {
        tell(to, key, MediaFact::Failed(why.to_string())).await;
    }
}

async fn tell<C>(to: &mpsc::Sender<Event<C>>, key: MediaKey, fact: MediaFact) {
    let _ = to.send(Event::Media { key, fact }).await;
}

/// An even port for RTP and the next for RTCP (RFC 3550 §11).
async fn open(address: IpAddr) -> io::Result<(Ports, LocalMedia)> {
    let mut last = io::Error::other("no even port is free");
    for _ in 0..PORT_TRIES_MAX {
        let rtp = UdpSocket::bind((address, 0)).await?;
        let local = rtp.local_addr()?;
        if !local.port().is_multiple_of(2) || local.port() == u16::MAX {
            continue;
        }
        match UdpSocket::bind((address, local.port() + 1)).await {
            Ok(rtcp) => {
                let local = LocalMedia { rtp: local, rtcp: rtcp.local_addr()? };
                return Ok((Ports { rtp, rtcp }, local));
            }
            Err(why) => last = why,
        }
    }
    Err(last)
}
