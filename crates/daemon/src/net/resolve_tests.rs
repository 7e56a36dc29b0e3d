//! The resolver against a name server of our own on the loopback.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use sip::Transport;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::*;

type Zone = BTreeMap<(String, RecordType), Vec<RData>>;

/// A name server that knows one zone, counts what it is asked, and may keep silent about a record type.
struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    task: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn stub(zone: Zone, silent: &'static [RecordType]) -> Stub {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
            let query = question.queries[0].clone();
            let name = query.name().to_utf8().to_ascii_lowercase();
            seen.lock().unwrap().push((name.clone(), query.query_type()));
            if silent.contains(&query.query_type()) {
                continue;
            }
            let answer = answered(&question, &zone, &name);
            let _sent = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    });
    Stub { address, asked, task }
}

fn answered(question: &Message, zone: &Zone, name: &str) -> Message {
    let query = question.queries[0].clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let mut owner = name.to_owned();
    while let Some(alias) = zone.get(&(owner.clone(), RecordType::CNAME)) {
        let RData::CNAME(CNAME(target)) = &alias[0] else { break };
        answer.add_answer(Record::from_rdata(Name::from_str(&owner).unwrap(), 60, alias[0].clone()));
        owner = target.to_utf8();
    }
    let found = zone.get(&(owner.clone(), query.query_type())).cloned().unwrap_or_default();
    for data in found {
        answer.add_answer(Record::from_rdata(Name::from_str(&owner).unwrap(), 60, data));
    }
    if answer.answers.is_empty() {
        let apex = Name::from_str("contoso.test.").unwrap();
        let soa = SOA::new(apex.clone(), apex.clone(), 1, 60, 60, 60, 60);
        answer.add_authority(Record::from_rdata(apex, 60, RData::SOA(soa)));
        let is_known = zone.keys().any(|(known, _)| *known == owner);
        answer.metadata.response_code = if is_known { ResponseCode::NoError } else { ResponseCode::NXDomain };
    }
    answer
}

fn a(text: &str) -> RData {
    match text.parse().unwrap() {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 0, port, Name::from_str(target).unwrap()))
}

fn zone(entries: &[(&str, RecordType, Vec<RData>)]) -> Zone {
    entries.iter().map(|(name, kind, data)| (((*name).to_owned(), *kind), data.clone())).collect()
}

fn locator(stub: &Stub) -> Locator {
    Locator::new(&Dns { servers: vec![stub.address], timeout: Duration::from_millis(400) })
}

fn question(name: &str, port_source: PortSource) -> Question {
    Question { name: name.to_owned(), transport: Transport::Tls, port: 5061, port_source }
}

fn places(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const POOL: &str = "pool01.contoso.test.";

#[tokio::test]
async fn a_pool_with_several_addresses_gives_them_all_in_order_and_both_families_in_turn() {
    let zone = zone(&[
        (POOL, RecordType::A, vec![a("10.0.0.1"), a("10.0.0.2"), a("10.0.0.3")]),
        (POOL, RecordType::AAAA, vec![a("2001:db8::1")]),
    ]);
    let stub = stub(zone, &[]).await;
    let found = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Configured)).await;
    let wanted = places(&["10.0.0.1:5061", "[2001:db8::1]:5061", "10.0.0.2:5061", "10.0.0.3:5061"]);
    assert_eq!(found, Ok(wanted));
    let asked = stub.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|(name, kind)| name == POOL && *kind != RecordType::SRV), "{asked:?}");
}

#[tokio::test]
async fn srv_records_give_port_and_order_where_none_is_configured() {
    let zone = zone(&[
        (
            "_sips._tcp.pool01.contoso.test.",
            RecordType::SRV,
            vec![srv(20, 5071, "fe02.contoso.test."), srv(10, 5081, "fe01.contoso.test.")],
        ),
        ("fe01.contoso.test.", RecordType::A, vec![a("10.0.0.1")]),
        ("fe02.contoso.test.", RecordType::A, vec![a("10.0.0.2"), a("10.0.0.3")]),
        (POOL, RecordType::A, vec![a("10.9.9.9")]),
    ]);
    let stub = stub(zone, &[]).await;
    let found = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Srv)).await;
    assert_eq!(found, Ok(places(&["10.0.0.1:5081", "10.0.0.2:5071", "10.0.0.3:5071"])));
}

#[tokio::test]
async fn a_hosting_provider_is_found_by_the_records_of_federation_and_without_them_by_its_own_name() {
    const EXAP: &str = "exap.contoso.test";
    let zone = zone(&[
        (
            "_sipfederationtls._tcp.exap.contoso.test.",
            RecordType::SRV,
            vec![srv(10, 5061, "edge.contoso.test.")],
        ),
        ("_sips._tcp.exap.contoso.test.", RecordType::SRV, vec![srv(10, 5081, "other.contoso.test.")]),
        ("edge.contoso.test.", RecordType::A, vec![a("10.0.0.7")]),
        ("other.contoso.test.", RecordType::A, vec![a("10.0.0.8")]),
        (POOL, RecordType::A, vec![a("10.0.0.9")]),
    ]);
    let stub = stub(zone, &[]).await;
    let found = locator(&stub).locate(&question(EXAP, PortSource::Federation)).await;
    assert_eq!(found, Ok(places(&["10.0.0.7:5061"])));
    let told = locator(&stub).services(&question(EXAP, PortSource::Federation)).await;
    assert_eq!(told[0].0.target, "edge.contoso.test");
    let found = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Federation)).await;
    assert_eq!(found, Ok(places(&["10.0.0.9:5061"])));
}

#[tokio::test]
async fn srv_records_are_told_in_the_order_of_trying_each_with_the_addresses_of_its_target() {
    let records = vec![srv(20, 5071, "fe02.contoso.test."), srv(10, 5081, "fe01.contoso.test.")];
    let zone = zone(&[
        ("_sips._tcp.pool01.contoso.test.", RecordType::SRV, records),
        ("fe01.contoso.test.", RecordType::A, vec![a("10.0.0.1")]),
    ]);
    let stub = stub(zone, &[]).await;
    let told = locator(&stub).services(&question("pool01.contoso.test", PortSource::Srv)).await;
    let ports: Vec<_> = told.iter().map(|(srv, _)| (srv.target.as_str(), srv.port)).collect();
    assert_eq!(ports, [("fe01.contoso.test", 5081), ("fe02.contoso.test", 5071)]);
    assert_eq!(told[0].1, Ok(vec!["10.0.0.1".parse().unwrap()]));
    assert_eq!(told[1].1.as_ref().unwrap_err().kind, ResolveFailureKind::NoAddress);
    let none = locator(&stub).services(&question("pool02.contoso.test", PortSource::Srv)).await;
    assert!(none.is_empty(), "{none:?}");
}

#[tokio::test]
async fn without_srv_records_the_names_own_addresses_are_tried_at_the_default_port() {
    let stub = stub(zone(&[(POOL, RecordType::A, vec![a("10.0.0.1")])]), &[]).await;
    let found = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Srv)).await;
    assert_eq!(found, Ok(places(&["10.0.0.1:5061"])));
}

#[tokio::test]
async fn a_root_target_says_that_the_service_is_not_offered() {
    let zone = zone(&[
        ("_sips._tcp.pool01.contoso.test.", RecordType::SRV, vec![srv(0, 0, ".")]),
        (POOL, RecordType::A, vec![a("10.0.0.1")]),
    ]);
    let stub = stub(zone, &[]).await;
    let failure = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Srv)).await.unwrap_err();
    assert_eq!(failure.kind, ResolveFailureKind::NoAddress);
    assert!(failure.detail.contains("offers no SIP"), "{}", failure.detail);
}

#[tokio::test]
async fn an_alias_leads_to_the_addresses_of_its_canonical_name() {
    let alias = RData::CNAME(CNAME(Name::from_str("fe01.contoso.test.").unwrap()));
    let zone = zone(&[
        (POOL, RecordType::CNAME, vec![alias]),
        ("fe01.contoso.test.", RecordType::A, vec![a("10.0.0.7")]),
    ]);
    let stub = stub(zone, &[]).await;
    let found = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Configured)).await;
    assert_eq!(found, Ok(places(&["10.0.0.7:5061"])));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_asked_for_once_while_the_answer_lasts() {
    let stub = stub(zone(&[]), &[]).await;
    let locator = locator(&stub);
    for _ in 0..3 {
        let failure =
            locator.locate(&question("nobody.contoso.test", PortSource::Configured)).await.unwrap_err();
        assert_eq!(failure.kind, ResolveFailureKind::NoAddress);
    }
    assert_eq!(stub.asked.lock().unwrap().len(), 2, "A and AAAA once each");
}

#[tokio::test]
async fn an_answer_is_remembered() {
    let stub = stub(zone(&[(POOL, RecordType::A, vec![a("10.0.0.1")])]), &[]).await;
    let locator = locator(&stub);
    for _ in 0..5 {
        let found = locator.locate(&question("pool01.contoso.test", PortSource::Configured)).await;
        assert_eq!(found, Ok(places(&["10.0.0.1:5061"])));
    }
    assert_eq!(stub.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_silent_name_server_fails_the_look_up_within_two_timeouts() {
    const ALL: &[RecordType] = &[RecordType::A, RecordType::AAAA, RecordType::SRV];
    let stub = stub(zone(&[]), ALL).await;
    let began = Instant::now();
    let failure = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Srv)).await.unwrap_err();
    assert_eq!(failure.kind, ResolveFailureKind::Silent);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_family_without_an_answer_does_not_cost_the_other() {
    let stub = stub(zone(&[(POOL, RecordType::A, vec![a("10.0.0.1")])]), &[RecordType::AAAA]).await;
    let found = locator(&stub).locate(&question("pool01.contoso.test", PortSource::Configured)).await;
    assert_eq!(found, Ok(places(&["10.0.0.1:5061"])));
}

#[tokio::test]
async fn an_address_answers_itself_and_the_hosts_file_is_honoured() {
    let stub = stub(zone(&[]), &[]).await;
    let locator = locator(&stub);
    let found = locator.locate(&question("127.0.0.31", PortSource::Srv)).await;
    assert_eq!(found, Ok(places(&["127.0.0.31:5061"])));
    let found = locator.locate(&question("[::1]", PortSource::Configured)).await;
    assert_eq!(found, Ok(places(&["[::1]:5061"])));
    let found = locator.locate(&question("localhost", PortSource::Configured)).await.unwrap();
    assert!(found.iter().all(|place| place.ip().is_loopback()), "{found:?}");
    assert!(stub.asked.lock().unwrap().iter().all(|(_, kind)| *kind != RecordType::A), "not asked for");
}

#[tokio::test]
async fn a_name_that_cannot_exist_is_an_error_not_a_hang() {
    let stub = stub(zone(&[]), &[]).await;
    assert!(locator(&stub).locate(&question("no such host", PortSource::Srv)).await.is_err());
    let long = "x".repeat(300);
    assert!(locator(&stub).locate(&question(&long, PortSource::Configured)).await.is_err());
}
