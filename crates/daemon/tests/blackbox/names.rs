//! A name server on the loopback for the gateway and its foreign peers: it knows what it was told, and of everything else that it is not
//! there.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};

const TTL_SECS: u32 = 60;

/// The server; its thread ends with the test program.
pub struct NameServer {
    pub address: SocketAddr,
    zone: Arc<Mutex<BTreeMap<Name, Vec<RData>>>>,
}

impl NameServer {
    /// One that knows nothing yet.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self { address: socket.local_addr().unwrap(), zone: Arc::default() };
        let zone = server.zone.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                let answer = answered(&question, &zone.lock().unwrap());
                let _sent = socket.send_to(&answer.to_vec().unwrap(), from);
            }
        });
        server
    }

    /// `name` has this address.
    pub fn knows_address(&self, name: &str, address: Ipv4Addr) {
        self.knows(name, RData::A(A(address)));
    }

    /// The service `name` is at this port of `target`.
    pub fn knows_service(&self, name: &str, target: &str, port: u16) {
        self.knows(name, RData::SRV(SRV::new(0, 0, port, absolute(target))));
    }

    /// `[dns]` of a configuration that asks here.
    pub fn section(&self) -> String {
        format!("\n[dns]\nservers = [\"{}\"]\ntimeout = \"2s\"\n\n", self.address)
    }

    fn knows(&self, name: &str, data: RData) {
        self.zone.lock().unwrap().entry(absolute(name)).or_default().push(data);
    }
}

fn absolute(name: &str) -> Name {
    Name::from_str(&format!("{name}.")).unwrap()
}

fn answered(question: &Message, zone: &BTreeMap<Name, Vec<RData>>) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    for query in &question.queries {
        let known = zone.get(query.name());
        for data in known.into_iter().flatten().filter(|data| data.record_type() == query.query_type()) {
            answer.add_answer(Record::from_rdata(query.name().clone(), TTL_SECS, data.clone()));
        }
        if known.is_none() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        answer.add_query(query.clone());
    }
    answer
}
