//! The configured limit of inbound handshakes, reached by connections that never say a word.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use super::place::{FQDN, Place, Seat};

const COUNTER: &str = "umbra_dropped_messages_total{kind=\"too_many_handshakes\"}";

#[test]
fn a_handshake_beyond_the_configured_limit_is_closed_at_once_counted_and_its_place_is_free_again() {
    let limits = "connections_max = 50\nhandshakes_max = 2\nhandshake_timeout = \"60s\"\n";
    let place = Place::start_with(&[Seat::new("any.sip.zoo.test")], limits, |_| String::new());
    let answered = || place.block_on(place.pool().options(&format!("sip:{FQDN}"))).unwrap();
    assert_eq!(answered(), 200, "{}", place.gateway.process.output());
    let connect = || TcpStream::connect((place.gateway.address, 5061)).unwrap();
    let mut silent = vec![connect(), connect(), connect()];
    place.wait_until(|| place.metrics().contains(&format!("{COUNTER} 1\n")));
    // Which of the three came last is the scheduler's choice.
    silent.retain(|stream| !is_closed(stream));
    assert_eq!(silent.len(), 2, "{}", place.gateway.process.output());
    assert!(is_closed(&connect()), "there is no room for one more");
    drop(silent);
    place.wait_until(|| !is_closed(&connect()));
    assert_eq!(answered(), 200, "{}", place.gateway.process.output());
}

fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
