use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use relay::{
    Channel, Formats, KeyParams, LegPlan, MasterKey, Mki, PacketBuffer, Protection, Session, Side, Suite,
    Verdict,
};

use super::*;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long a packet may take that must come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a packet is waited for that must not come.
const QUIET: Duration = Duration::from_millis(150);

type Reports = mpsc::Receiver<MediaReport<u32>>;

fn pool(ports: RangeInclusive<u16>) -> (MediaPool<u32>, Reports) {
    let config = MediaConfig {
        addresses: vec![LOCALHOST],
        dscp: Dscp::EF,
        ports,
        workers: 1,
        rest: Duration::from_secs(60),
    };
    MediaPool::start(&config).unwrap()
}

fn report(reports: &mut Reports) -> MediaReport<u32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, reports.recv()).await.unwrap().unwrap() })
}

fn ready(reports: &mut Reports) -> Result<MediaPorts, MediaFailure> {
    match report(reports) {
        MediaReport::Ready { result, .. } => result,
        other => panic!("{other:?} instead of ports"),
    }
}

/// A phone, or somebody who would like to be one.
struct Phone {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Phone {
    fn new() -> Self {
        let socket = || {
            let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        Phone { rtp: socket(), rtcp: socket() }
    }

    fn leg(&self, protection: Protection) -> LegPlan {
        LegPlan {
            remote_rtcp: self.rtcp.local_addr().unwrap(),
            formats: Formats::same([0, 101]),
            ..LegPlan::at(self.rtp.local_addr().unwrap(), protection)
        }
    }
}

fn send(socket: &UdpSocket, packet: &[u8], port: u16) {
    socket.send_to(packet, (LOCALHOST, port)).unwrap();
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, u16) {
    let mut bytes = [0; 2048];
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    (bytes[..length].to_vec(), from.port())
}

fn assert_hears_nothing(socket: &UdpSocket) {
    socket.set_read_timeout(Some(QUIET)).unwrap();
    let heard = socket.recv_from(&mut [0; 2048]);
    assert!(heard.is_err(), "{heard:?} was received");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn speech(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..160u8).map(|octet| octet ^ sequence as u8));
    packet
}

fn receiver_report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet
}

fn key(fill: u8, mki: Option<u128>) -> KeyParams {
    let mki = mki.map(|value| Mki::from_value(value, 1).unwrap());
    KeyParams { mki, ..KeyParams::new(Suite::AesCm128HmacSha1_80, MasterKey::new([fill; 16], [!fill; 14])) }
}

/// What a phone keeps of its own: seals what it says, opens what it hears.
struct Stack {
    session: Session,
    inside: SocketAddr,
    outside: SocketAddr,
}

impl Stack {
    fn new(says: &KeyParams, hears: &KeyParams) -> Self {
        let at = |port| SocketAddr::from((LOCALHOST, port));
        let leg = |port, protection| LegPlan {
            remote_rtp: at(port),
            remote_rtcp: at(port),
            ..Phone::new().leg(protection)
        };
        let sealed = Protection::Sealed { inbound: hears.clone(), outbound: says.clone() };
        let plan = Plan {
            a: leg(1, Protection::Clear),
            b: leg(2, sealed),
            inactivity: Duration::ZERO,
            reports: None,
        };
        Stack {
            session: Session::new(plan, std::time::Instant::now()).unwrap(),
            inside: at(1),
            outside: at(2),
        }
    }

    fn seal(&mut self, channel: Channel, packet: &[u8]) -> Vec<u8> {
        self.pass(Side::A, channel, packet)
    }

    fn open(&mut self, channel: Channel, packet: &[u8]) -> Vec<u8> {
        self.pass(Side::B, channel, packet)
    }

    fn pass(&mut self, side: Side, channel: Channel, packet: &[u8]) -> Vec<u8> {
        let from = if side == Side::A { self.inside } else { self.outside };
        let mut buffer = PacketBuffer::new();
        assert!(buffer.fill(packet));
        let verdict = self.session.handle_packet(std::time::Instant::now(), side, channel, from, &mut buffer);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        buffer.as_slice().to_vec()
    }
}

fn plan(a: LegPlan, b: LegPlan) -> Box<Plan> {
    Box::new(Plan { a, b, inactivity: Duration::from_secs(30), reports: None })
}

/// A call is ready for packets when the worker has carried out the plan before them.
fn connect(pool: &MediaPool<u32>, reports: &mut Reports, call: u32, plan: Box<Plan>) -> MediaPorts {
    pool.allocate(call).unwrap();
    let ports = ready(reports).unwrap();
    pool.apply(call, plan).unwrap();
    // A second allocation is answered after the plan, whatever the answer.
    pool.allocate(call).unwrap();
    assert_eq!(ready(reports), Err(MediaFailure::AlreadyAllocated));
    ports
}

#[test]
fn clear_media_flows_both_ways_and_a_stranger_gets_nothing() {
    let (pool, mut reports) = pool(41_000..=41_099);
    let (a, b, stranger) = (Phone::new(), Phone::new(), Phone::new());
    pool.allocate(1).unwrap();
    let ports = ready(&mut reports).unwrap();
    for port in [ports.a_rtp, ports.a_rtcp, ports.b_rtp, ports.b_rtcp] {
        send(&stranger.rtp, &speech(1, 66), port); // before the call
    }
    let plan = Plan {
        inactivity: Duration::from_secs(30),
        reports: None,
        a: a.leg(Protection::Clear),
        b: b.leg(Protection::Clear),
    };
    pool.apply(1, Box::new(plan)).unwrap();
    pool.allocate(1).unwrap();
    assert!(ready(&mut reports).is_err());
    // The stranger shares the loopback address, so the peers must be heard before it for the window to close.
    for sequence in 0..20 {
        send(&a.rtp, &speech(sequence, 1), ports.a_rtp);
        assert_eq!(receive(&b.rtp), (speech(sequence, 1), ports.b_rtp));
        send(&b.rtp, &speech(sequence, 2), ports.b_rtp);
        assert_eq!(receive(&a.rtp), (speech(sequence, 2), ports.a_rtp));
        for port in [ports.a_rtp, ports.b_rtp] {
            send(&stranger.rtp, &speech(sequence, 66), port);
            send(&stranger.rtp, b"?", port);
        }
    }
    send(&a.rtcp, &receiver_report(1), ports.a_rtcp);
    assert_eq!(receive(&b.rtcp), (receiver_report(1), ports.b_rtcp));
    assert_hears_nothing(&stranger.rtp);
    assert_hears_nothing(&a.rtp);
    assert_hears_nothing(&b.rtp);
    pool.release(1).unwrap();
    let stats = loop {
        match report(&mut reports) {
            MediaReport::Released { stats, .. } => break stats,
            MediaReport::Fact { fact, .. } => assert!(matches!(fact, Fact::FirstPacket { .. }), "{fact:?}"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((stats.a.packets_received, stats.b.packets_sent, stats.b.rtcp_sent), (20, 20, 1));
    assert_eq!((stats.a.dropped.total(), stats.b.dropped.total()), (40, 40));
    send(&stranger.rtp, &speech(1, 66), ports.a_rtp); // after the call
    assert_hears_nothing(&stranger.rtp);
    pool.shutdown();
}

#[test]
fn sealed_media_is_opened_and_sealed_again_with_the_other_legs_key() {
    let (pool, mut reports) = pool(41_100..=41_199);
    let (a, b, stranger) = (Phone::new(), Phone::new(), Phone::new());
    let (from_a, to_a, from_b, to_b) = (key(1, Some(1)), key(2, Some(1)), key(3, None), key(4, None));
    let sealed = |inbound: &KeyParams, outbound: &KeyParams| Protection::Sealed {
        inbound: inbound.clone(),
        outbound: outbound.clone(),
    };
    let plan = plan(a.leg(sealed(&from_a, &to_a)), b.leg(sealed(&from_b, &to_b)));
    let ports = connect(&pool, &mut reports, 2, plan);
    let (mut phone_a, mut phone_b) = (Stack::new(&from_a, &to_a), Stack::new(&from_b, &to_b));
    for sequence in [65_534, 65_535, 0, 1] {
        send(&stranger.rtp, &speech(sequence, 1), ports.a_rtp); // clear on a sealed leg
        let said = phone_a.seal(Channel::Rtp, &speech(sequence, 1));
        send(&a.rtp, &said, ports.a_rtp);
        let (heard, _) = receive(&b.rtp);
        assert_ne!(heard, said);
        assert_eq!(phone_b.open(Channel::Rtp, &heard), speech(sequence, 1));
        send(&b.rtp, &phone_b.seal(Channel::Rtp, &speech(sequence, 2)), ports.b_rtp);
        let (heard, _) = receive(&a.rtp);
        assert_eq!(phone_a.open(Channel::Rtp, &heard), speech(sequence, 2));
        send(&stranger.rtp, &said, ports.a_rtp); // a replay from elsewhere
    }
    send(&a.rtcp, &receiver_report(1), ports.a_rtcp); // clear RTCP on a sealed leg
    send(&a.rtcp, &phone_a.seal(Channel::Rtcp, &receiver_report(1)), ports.a_rtcp);
    let (heard, from) = receive(&b.rtcp);
    assert_eq!(phone_b.open(Channel::Rtcp, &heard), receiver_report(1));
    assert_eq!(from, ports.b_rtcp);
    assert_hears_nothing(&b.rtcp);
    assert_hears_nothing(&stranger.rtp);
    pool.shutdown();
}

#[test]
fn sealed_and_clear_legs_talk_and_the_sealed_peer_may_move() {
    let (pool, mut reports) = pool(41_200..=41_299);
    let (a, b, elsewhere) = (Phone::new(), Phone::new(), Phone::new());
    let (from_a, to_a) = (key(5, None), key(6, None));
    let sealed = Protection::Sealed { inbound: from_a.clone(), outbound: to_a.clone() };
    let ports = connect(&pool, &mut reports, 3, plan(a.leg(sealed), b.leg(Protection::Clear)));
    let mut phone = Stack::new(&from_a, &to_a);
    send(&b.rtp, &speech(9, 2), ports.b_rtp);
    assert_eq!(phone.open(Channel::Rtp, &receive(&a.rtp).0), speech(9, 2));
    send(&elsewhere.rtp, &phone.seal(Channel::Rtp, &speech(1, 1)), ports.a_rtp);
    assert_eq!(receive(&b.rtp).0, speech(1, 1));
    send(&b.rtp, &speech(10, 2), ports.b_rtp);
    assert_eq!(phone.open(Channel::Rtp, &receive(&elsewhere.rtp).0), speech(10, 2));
    assert_hears_nothing(&a.rtp);
    pool.shutdown();
}

#[test]
fn exhausted_ports_are_named_and_released_ones_rest() {
    let (pool, mut reports) = pool(41_300..=41_305); // three pairs, a call takes two
    pool.allocate(1).unwrap();
    assert!(ready(&mut reports).is_ok());
    pool.allocate(2).unwrap();
    assert_eq!(ready(&mut reports), Err(MediaFailure::PortsExhausted { resting: 0 }));
    pool.release(1).unwrap();
    assert!(matches!(report(&mut reports), MediaReport::Released { call: 1, .. }));
    pool.allocate(3).unwrap();
    assert!(matches!(ready(&mut reports), Err(MediaFailure::PortsExhausted { resting: 2.. })));
    assert_eq!(pool.gauges().calls(), 0);
    pool.shutdown();
}

#[test]
fn a_port_somebody_else_holds_is_passed_over() {
    let taken = UdpSocket::bind((LOCALHOST, 41_403)).unwrap();
    let (pool, mut reports) = pool(41_400..=41_405);
    pool.allocate(1).unwrap();
    let ports = ready(&mut reports).unwrap();
    assert!(![ports.a_rtp, ports.b_rtp].contains(&41_402));
    drop(taken);
    pool.shutdown();
}

#[test]
fn the_ports_of_a_call_under_way_are_nobody_elses() {
    let (first, mut heard) = pool(41_700..=41_707); // four pairs
    let (a, b) = (Phone::new(), Phone::new());
    let ports = connect(&first, &mut heard, 1, plan(a.leg(Protection::Clear), b.leg(Protection::Clear)));
    let (second, mut reports) = pool(41_700..=41_707);
    second.allocate(1).unwrap();
    let others = ready(&mut reports).unwrap();
    assert!([others.a_rtp, others.b_rtp].iter().all(|port| ![ports.a_rtp, ports.b_rtp].contains(port)));
    second.allocate(2).unwrap();
    assert!(ready(&mut reports).is_err());
    first.shutdown();
    second.shutdown();
}

#[test]
fn a_peer_that_was_away_is_heard_and_sent_to_again() {
    let (pool, mut reports) = pool(41_800..=41_899);
    let (a, b) = (Phone::new(), Phone::new());
    let ports = connect(&pool, &mut reports, 1, plan(a.leg(Protection::Clear), b.leg(Protection::Clear)));
    let place = b.rtp.local_addr().unwrap();
    drop(b.rtp);
    for sequence in 0..5 {
        send(&a.rtp, &speech(sequence, 1), ports.a_rtp);
        // Its answers "port unreachable" arrive meanwhile.
        assert_eq!(b.rtcp.send_to(&receiver_report(2), (LOCALHOST, ports.b_rtcp)).unwrap(), 8);
        assert_eq!(receive(&a.rtcp).1, ports.a_rtcp);
    }
    let back = UdpSocket::bind(place).unwrap();
    back.set_read_timeout(Some(PATIENCE)).unwrap();
    // The last one from before may still be under way: nothing orders RTP and RTCP.
    let hears = || std::iter::repeat_with(|| receive(&back)).find(|heard| heard.0 != speech(4, 1));
    for sequence in 5..10 {
        send(&a.rtp, &speech(sequence, 1), ports.a_rtp);
        assert_eq!(hears(), Some((speech(sequence, 1), ports.b_rtp)));
        send(&back, &speech(sequence, 2), ports.b_rtp);
        assert_eq!(receive(&a.rtp), (speech(sequence, 2), ports.a_rtp));
    }
    assert_eq!(pool.gauges().unsent(), 0);
    pool.shutdown();
}

#[test]
fn shutdown_closes_every_port() {
    let (pool, mut reports) = pool(41_500..=41_599);
    pool.allocate(1).unwrap();
    let ports = ready(&mut reports).unwrap();
    assert!(UdpSocket::bind((LOCALHOST, ports.b_rtcp)).is_err());
    pool.shutdown();
    for port in [ports.a_rtp, ports.a_rtcp, ports.b_rtp, ports.b_rtcp] {
        assert!(UdpSocket::bind((LOCALHOST, port)).is_ok(), "{port} is still bound");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let config = |workers, ports| MediaConfig {
        addresses: vec![LOCALHOST],
        dscp: Dscp::EF,
        ports,
        workers,
        rest: Duration::ZERO,
    };
    let start = |config| MediaPool::<u32>::start(&config).err();
    assert!(matches!(start(config(0, 40_000..=40_999)), Some(MediaError::Workers(0))));
    assert!(matches!(start(config(65, 40_000..=40_999)), Some(MediaError::Workers(65))));
    let small = start(config(2, 40_000..=40_002));
    assert!(matches!(small, Some(MediaError::RangeTooSmall { pairs: 1 })));
}

#[test]
fn a_call_nobody_speaks_in_is_told_by_the_thread_itself() {
    let (pool, mut reports) = pool(41_600..=41_699);
    let (a, b) = (Phone::new(), Phone::new());
    let inactivity = Duration::from_millis(100);
    let plan = Plan { a: a.leg(Protection::Clear), b: b.leg(Protection::Clear), inactivity, reports: None };
    pool.allocate(5).unwrap();
    ready(&mut reports).unwrap();
    pool.apply(5, Box::new(plan)).unwrap();
    match report(&mut reports) {
        MediaReport::Fact { call: 5, fact: Fact::NoMedia { lasted }, .. } => assert!(lasted >= inactivity),
        other => panic!("{other:?}"),
    }
    pool.shutdown();
}

#[test]
fn a_plan_that_echoes_a_key_is_refused_and_the_call_stays() {
    let (pool, mut reports) = pool(41_700..=41_799);
    let (a, b) = (Phone::new(), Phone::new());
    let echo = Protection::Sealed { inbound: key(1, None), outbound: key(1, None) };
    pool.allocate(6).unwrap();
    ready(&mut reports).unwrap();
    pool.apply(6, plan(a.leg(echo), b.leg(Protection::Clear))).unwrap();
    let error = PlanError::EchoedKey { side: Side::A };
    assert_eq!(report(&mut reports), MediaReport::PlanRefused { call: 6, error });
    assert_eq!(pool.gauges().calls(), 1);
    pool.release(6).unwrap();
    assert!(matches!(report(&mut reports), MediaReport::Released { call: 6, .. }));
    pool.shutdown();
}

#[test]
fn many_calls_on_several_workers_each_get_their_own_ports() {
    let config = MediaConfig {
        addresses: vec![LOCALHOST],
        dscp: Dscp::EF,
        ports: 42_000..=42_999,
        workers: 3,
        rest: Duration::from_secs(60),
    };
    let (pool, mut reports) = MediaPool::<u32>::start(&config).unwrap();
    for call in 0..50 {
        pool.allocate(call).unwrap();
    }
    let mut taken = std::collections::HashSet::new();
    for _ in 0..50 {
        let ports = ready(&mut reports).unwrap();
        for port in [ports.a_rtp, ports.a_rtcp, ports.b_rtp, ports.b_rtcp] {
            assert!(taken.insert(port), "{port} was given twice");
        }
        assert_eq!((ports.a_rtp % 2, ports.a_rtcp), (0, ports.a_rtp + 1));
    }
    assert_eq!(pool.gauges().calls(), 50);
    for call in 0..50 {
        pool.release(call).unwrap();
    }
    for _ in 0..50 {
        assert!(matches!(report(&mut reports), MediaReport::Released { .. }));
    }
    assert_eq!(pool.gauges().calls(), 0);
    pool.shutdown();
}

#[test]
fn who_spoke_before_the_first_plan_is_heard_if_the_plan_has_it_there() {
    let (a, b, stranger) = (Phone::new(), Phone::new(), Phone::new());
    let bind = |port| lanes::Pair::bind(LOCALHOST, port, Dscp::EF).unwrap();
    let mut call = call::Call::new(1, bind(23_900), bind(23_902));
    send(&stranger.rtp, &speech(1, 9), 23_900);
    send(&a.rtp, &speech(1, 7), 23_900);
    let now = std::time::Instant::now();
    call.apply(*plan(a.leg(Protection::Clear), b.leg(Protection::Clear)), now).unwrap();
    let (mut packet, mut unsent) = (PacketBuffer::new(), 0);
    call.hear_early(now, &mut packet, &mut None, &mut unsent);
    assert_eq!(unsent, 0);
    assert_eq!(receive(&b.rtp), (speech(1, 7), 23_902));
    assert_hears_nothing(&b.rtp);
    // The stranger, who was first, would have been followed.
    send(&b.rtp, &speech(1, 8), 23_902);
    call.relay_one(now, lanes::Lane::PORTS[2], &mut packet, &mut None, &mut unsent);
    assert_eq!(receive(&a.rtp), (speech(1, 8), 23_900));
    assert_hears_nothing(&stranger.rtp);
}

#[test]
fn packets_that_found_no_room_are_told_from_those_lost_on_the_way() {
    let Some(overflows) = overflow::Overflows::open() else { return println!("skipped: no netlink here") };
    let (a, b) = (Phone::new(), Phone::new());
    let bind = |port| lanes::Pair::bind(LOCALHOST, port, Dscp::EF).unwrap();
    let mut call = call::Call::new(1, bind(23_910), bind(23_912));
    let now = std::time::Instant::now();
    call.apply(*plan(a.leg(Protection::Clear), b.leg(Protection::Clear)), now).unwrap();
    let (mut packet, mut unsent) = (PacketBuffer::new(), 0);
    let sequences = (0..2_000).filter(|sequence| *sequence != 5); // one is lost on its way
    sequences.for_each(|sequence| send(&a.rtp, &speech(sequence, 1), 23_910));
    let mut relay = |call: &mut call::Call<u32>| {
        for _ in 0..lanes::WAITING_PACKETS_MAX {
            call.relay_one(now, lanes::Lane::PORTS[0], &mut packet, &mut None, &mut unsent);
        }
    };
    relay(&mut call);
    send(&a.rtp, &speech(2_000, 1), 23_910);
    relay(&mut call);
    let stats = call.last_stats(Some(&overflows));
    assert_eq!((stats.a.lost, stats.b.overflowed), (stats.a.overflowed + 1, 0));
    assert!(stats.a.overflowed > 100, "{stats:?}");
}

#[test]
fn a_short_way_that_opens_while_its_peer_speaks_loses_nothing() {
    const PACKETS: u16 = 60;
    for round in 0..500 {
        let pair = lanes::Pair::bind(LOCALHOST, 23_920, Dscp::EF).unwrap();
        let phone = Phone::new();
        let peer = phone.rtp.local_addr().unwrap();
        let speaks = || (0..PACKETS).for_each(|sequence| send(&phone.rtp, &speech(sequence, 1), 23_920));
        let way = std::thread::scope(|scope| {
            scope.spawn(speaks);
            direct::Direct::open(&pair.rtp, peer, Dscp::EF).unwrap()
        });
        let mut room = [0; 2_048];
        let first = std::iter::from_fn(|| pair.rtp.recv_from(&mut room).ok()).count();
        let short =
            std::iter::from_fn(|| way.receive(&mut room).ok()).filter(|(_, from)| *from == peer).count();
        assert_eq!(first + short, usize::from(PACKETS), "round {round}: {first} and {short}");
    }
}
