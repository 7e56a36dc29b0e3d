//! Real sockets on loopback, port 0: the listener hands over what it accepted, ready for a shard.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use mio::{Poll, Token};
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::net::{Endpoint, Errands, NetLimits, Outgoing, inbox};
use crate::observe::{Metrics, WarnLimiter};

pub(in crate::net) struct World {
    pub(in crate::net) context: Arc<NetContext>,
    errands: Errands,
    pub(in crate::net) stop: watch::Sender<bool>,
    address: SocketAddr,
    pub(in crate::net) task: tokio::task::JoinHandle<()>,
    _poll: Poll,
}

pub(in crate::net) async fn world(limits: NetLimits, transport: Transport) -> World {
    let poll = Poll::new().unwrap();
    let (door, errands) = inbox(poll.registry(), Token(0)).unwrap();
    let (stop, stopped) = watch::channel(false);
    let context = Arc::new(NetContext {
        flows: crate::net::Flows::default(),
        outgoing: Outgoing::default(),
        retiring: crate::net::Retiring::default(),
        shards: vec![door],
        connections: crate::net::Rooms::new(&limits),
        handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
        limits,
        tls: arc_swap::ArcSwapOption::empty(),
        metrics: Arc::new(Metrics::new()),
        warnings: WarnLimiter::new(),
        refusals: Arc::default(),
        stop: stopped,
        source_addresses: Vec::new(),
        runtime: tokio::runtime::Handle::current(),
        accepted: AtomicUsize::new(0),
        lookups: crate::net::Lookups::default(),
        locator: crate::net::Locator::new(&crate::net::Dns::default()),
    });
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(accept_loop(context.clone(), listener, transport));
    World { context, errands, stop, address, task, _poll: poll }
}

impl World {
    async fn next(&mut self) -> Errand {
        loop {
            if let Some(errand) = self.errands.take() {
                return errand;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn counted(&self, line: &str) -> bool {
        self.context.metrics.expose().contains(line)
    }
}

async fn is_closed(mut stream: TcpStream) -> bool {
    tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await.is_ok_and(|count| count == 0)
}

#[tokio::test]
async fn an_accepted_connection_is_handed_over_with_both_ends() {
    let mut world = world(NetLimits::default(), Transport::Tcp).await;
    let client = TcpStream::connect(world.address).await.unwrap();
    match world.next().await {
        Errand::Adopt(arrived) => {
            assert_eq!((arrived.remote, arrived.local), (client.local_addr().unwrap(), world.address));
            assert_eq!((arrived.transport, arrived.peer), (Transport::Tcp, PeerIdentity::Address));
        }
        _ => panic!("something else"),
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_counted() {
    let limits = NetLimits { connections_max: 1, ..NetLimits::default() };
    let mut world = world(limits, Transport::Tcp).await;
    let _first = TcpStream::connect(world.address).await.unwrap();
    let held = world.next().await;
    let second = TcpStream::connect(world.address).await.unwrap();
    assert!(is_closed(second).await);
    assert!(world.counted(r#"umbra_dropped_messages_total{kind="too_many_connections"} 1"#));
    // The place is free again when the connection goes.
    drop(held);
    let _third = TcpStream::connect(world.address).await.unwrap();
    assert!(matches!(world.next().await, Errand::Adopt(_)));
}

#[tokio::test]
async fn connections_of_one_address_beyond_its_limit_are_closed_at_once_and_counted() {
    let limits = NetLimits { connections_of_address_max: 1, ..NetLimits::default() };
    let mut world = world(limits, Transport::Tcp).await;
    let _first = TcpStream::connect(world.address).await.unwrap();
    let _held = world.next().await;
    assert!(is_closed(TcpStream::connect(world.address).await.unwrap()).await);
    assert!(world.counted(r#"umbra_dropped_messages_total{kind="too_many_connections_of_one_address"} 1"#));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let _other = socket.connect(world.address).await.unwrap();
    assert!(matches!(world.next().await, Errand::Adopt(_)), "another address has its own");
}

#[tokio::test]
async fn an_outgoing_connection_is_reported_with_its_endpoint() {
    let mut world = world(NetLimits::default(), Transport::Tcp).await;
    let endpoint =
        Endpoint { address: world.address, transport: Transport::Tcp, name: String::from("127.0.0.1") };
    crate::net::open(world.context.clone(), world.context.shards[0].clone(), endpoint.clone()).await;
    let mut outgoing = None;
    for _ in 0..2 {
        match world.next().await {
            Errand::Dialled { endpoint, result: Ok(arrived) } => outgoing = Some((endpoint, arrived.remote)),
            Errand::Adopt(_) => {}
            _ => panic!("something else"),
        }
    }
    assert_eq!(outgoing, Some((endpoint, world.address)));
}

#[tokio::test]
async fn a_refused_connect_names_its_kind() {
    let mut world = world(NetLimits::default(), Transport::Tcp).await;
    let free = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
    let endpoint = Endpoint { address: free, transport: Transport::Tcp, name: String::from("x") };
    crate::net::open(world.context.clone(), world.context.shards[0].clone(), endpoint).await;
    match world.next().await {
        Errand::Dialled { result: Err(failure), .. } => {
            assert_eq!(failure.kind, b2bua::engine::ConnectFailureKind::Refused);
        }
        _ => panic!("something else"),
    }
}

#[tokio::test]
async fn stopping_ends_the_loop() {
    let world = world(NetLimits::default(), Transport::Tcp).await;
    world.stop.send(true).unwrap();
    world.task.await.unwrap();
    assert!(TcpStream::connect(world.address).await.is_err());
}
