//! RFC 3261 through the engine's public face: bytes of a peer in, bytes to that peer out.

mod s08_uas;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use b2bua::engine::{Engine, EngineConfig, FlowUp, Input, Origin, Output, PeerIdentity};
use bytes::Bytes;
use sip::{FlowKey, Limits, Message, Transport};
use umbra_tests::world::site::{self, Caller, OURS};

/// What the engine answers to one request of a pool.
fn answer_to(request: &str) -> Message {
    let now = Instant::now();
    let mut engine = Engine::new(EngineConfig::new(1, [1; 32], now), Arc::new(site::policy()));
    let flow = FlowKey(1);
    engine.handle(
        now,
        Input::FlowUp(FlowUp {
            key: flow,
            transport: Transport::Tls,
            local: SocketAddr::new(OURS, 5061),
            remote: SocketAddr::new(Caller::Secured.address(), 50_000),
            peer: PeerIdentity::Verified { names: vec!["pool01.contoso.com".to_owned()] },
            origin: Origin::Inbound,
            made_for: None,
        }),
    );
    engine.handle(now, Input::Message { flow, bytes: Bytes::copy_from_slice(request.as_bytes()) });
    let mut answers = Vec::new();
    while let Some(output) = engine.poll_output() {
        if let Output::Send { flow: to, bytes } = output {
            assert_eq!(to, flow, "an answer goes back where the request came from (RFC 3261 §18.2.2)");
            answers.push(Message::parse(bytes, &Limits::default()).expect("answer"));
        }
    }
    assert_eq!(answers.len(), 1, "one answer to\n{request}");
    answers.remove(0)
}

/// A request outside any dialog, with these lines besides.
fn request(method: &str, uri: &str, lines: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.7:5061;branch=z9hG4bKone\r\n\
         Via: SIP/2.0/TCP 192.0.2.8;branch=z9hG4bKtwo\r\nMax-Forwards: 70\r\n\
         From: <sip:ken@contoso.com>;tag=f1\r\nTo: <sip:dana@contoso.com>\r\nCall-ID: c1@192.0.2.7\r\n\
         CSeq: 7 {method}\r\nContact: <sip:ken@192.0.2.7:5061;transport=tls>\r\n{lines}Content-Length: 0\r\n\r\n"
    )
}

fn status(answer: &Message) -> u16 {
    answer.status().expect("status").code()
}
