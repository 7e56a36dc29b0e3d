//! Real sockets on loopback, port 0.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};

use super::*;
use crate::net::{Endpoint, FlowTable, NetLimits, UdpPorts};
use crate::observe::{Metrics, WarnLimiter};

struct World {
    context: Arc<NetContext>,
    events: mpsc::Receiver<NetEvent>,
    stop: watch::Sender<bool>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

const OPTIONS: &[u8] =
    b"OPTIONS sip:umbra SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=1\r\n\
To: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

async fn world(limits: NetLimits, transport: Transport) -> World {
    let (sender, events) = mpsc::channel(64);
    let (stop, stopped) = watch::channel(false);
    let context = Arc::new(NetContext {
        flows: FlowTable::new(),
        events: sender,
        connections: Arc::new(Semaphore::new(limits.connections_max)),
        handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
        limits,
        tls: arc_swap::ArcSwapOption::empty(),
        metrics: Arc::new(Metrics::new()),
        warnings: WarnLimiter::new(),
        stop: stopped,
        source_addresses: Vec::new(),
        udp: UdpPorts::default(),
    });
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(accept_loop(context.clone(), listener, transport));
    World { context, events, stop, address, task }
}

impl World {
    async fn tcp() -> Self {
        world(NetLimits::default(), Transport::Tcp).await
    }

    async fn up(&mut self) -> FlowFacts {
        match self.events.recv().await.unwrap() {
            NetEvent::Up(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    async fn down(&mut self) -> FlowLoss {
        match self.events.recv().await.unwrap() {
            NetEvent::Down { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    fn counted(&self, line: &str) -> bool {
        self.context.metrics.expose().contains(line)
    }
}

use b2bua::engine::FlowLoss;

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    // The peer may reset; what came before is what matters.
    let _reset = stream.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn messages_go_in_and_answers_come_out_on_the_same_connection() {
    let mut world = World::tcp().await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(&OPTIONS[..40]).await.unwrap();
    client.write_all(&OPTIONS[40..]).await.unwrap();
    let facts = world.up().await;
    assert_eq!((facts.remote, facts.peer), (client.local_addr().unwrap(), PeerIdentity::Address));
    match world.events.recv().await.unwrap() {
        NetEvent::Message { flow, bytes } => assert_eq!((flow, &bytes[..]), (facts.key, OPTIONS)),
        other => panic!("{other:?}"),
    }
    world.context.flows.send(facts.key, Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n")).unwrap();
    world.context.flows.close(facts.key);
    assert_eq!(rest(&mut client).await, "SIP/2.0 200 OK\r\n\r\n");
    assert_eq!(world.down().await, FlowLoss::ClosedByUs);
}

#[tokio::test]
async fn a_keep_alive_is_answered() {
    let mut world = World::tcp().await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    client.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\r\n");
    drop(client);
    world.up().await;
    assert_eq!(world.down().await, FlowLoss::ClosedByPeer);
}

#[tokio::test]
async fn lost_framing_is_answered_400_and_closed_and_the_next_connection_is_unharmed() {
    let mut world = World::tcp().await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    let text = String::from_utf8_lossy(OPTIONS).replace("Content-Length: 0", "Content-Length: -1");
    client.write_all(text.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("SIP/2.0 400 "), "{answer}");
    drop(client);
    world.up().await;
    assert_eq!(world.down().await, FlowLoss::ClosedByUs);
    assert!(world.counted(r#"umbra_dropped_messages_total{kind="framing_lost"} 1"#));
    let mut next = TcpStream::connect(world.address).await.unwrap();
    next.write_all(OPTIONS).await.unwrap();
    world.up().await;
    assert!(matches!(world.events.recv().await.unwrap(), NetEvent::Message { .. }));
}

#[tokio::test]
async fn a_message_that_never_ends_loses_its_connection() {
    let limits = NetLimits { header_timeout: Duration::from_millis(20), ..NetLimits::default() };
    let mut world = world(limits, Transport::Tcp).await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(b"INVITE sip:a SIP/2.0\r\nVia: ").await.unwrap();
    world.up().await;
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(world.down().await, FlowLoss::Idle);
    assert!(world.counted(r#"umbra_dropped_messages_total{kind="partial_message"} 1"#));
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_counted() {
    let limits = NetLimits { connections_max: 1, ..NetLimits::default() };
    let mut world = world(limits, Transport::Tcp).await;
    let _first = TcpStream::connect(world.address).await.unwrap();
    world.up().await;
    let mut second = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(rest(&mut second).await, "");
    assert!(world.counted(r#"umbra_dropped_messages_total{kind="too_many_connections"} 1"#));
}

#[tokio::test]
async fn an_outgoing_connection_is_reported_with_its_endpoint() {
    let mut world = World::tcp().await;
    let name = String::from("127.0.0.1");
    let endpoint = Endpoint { address: world.address, transport: Transport::Tcp, name };
    let opened = tokio::spawn(crate::net::open(world.context.clone(), endpoint.clone()));
    let mut seen = 0;
    while seen < 2 {
        match world.events.recv().await.unwrap() {
            NetEvent::Connected { endpoint: ours, result } => {
                assert_eq!((ours, result.unwrap().remote), (endpoint.clone(), world.address));
            }
            NetEvent::Up(_) => {}
            other => panic!("{other:?}"),
        }
        seen += 1;
    }
    world.stop.send(true).unwrap();
    opened.await.unwrap();
    world.task.await.unwrap();
}

#[tokio::test]
async fn a_refused_connect_names_its_kind() {
    let mut world = World::tcp().await;
    let free = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
    let endpoint = Endpoint { address: free, transport: Transport::Tcp, name: String::from("x") };
    crate::net::open(world.context.clone(), endpoint).await;
    match world.events.recv().await.unwrap() {
        NetEvent::Connected { result: Err(failure), .. } => {
            assert_eq!(failure.kind, b2bua::engine::ConnectFailureKind::Refused);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stopping_ends_every_connection_and_the_loop() {
    let mut world = World::tcp().await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    world.up().await;
    world.stop.send(true).unwrap();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(world.down().await, FlowLoss::ClosedByUs);
    world.task.await.unwrap();
    assert!(world.context.flows.is_empty());
}
