//! Connections without calls: made, proved alive, and closed or kept. Owns a thread of its own for many at once, so that the calls
//! beside them do not wait for their arithmetic.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::{CipherSuite, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use umbra_benches::load::{FQDN, Result, connect, text};

/// A ping and its answer (RFC 5626 §3.5.1).
const PING: &[u8] = b"\r\n\r\n";
const PONG: &[u8] = b"\r\n";
/// For one connection from connect to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a connection that failed is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// For all connections of a crowd.
const CROWD_MAX: Duration = Duration::from_secs(300);

/// Who connects where.
#[derive(Clone)]
pub struct Way {
    pub connector: TlsConnector,
    pub from: IpAddr,
    pub to: SocketAddr,
}

impl Way {
    /// One full handshake and the answer to a ping: a client of TLS 1.3 is done before it was verified.
    async fn arrive(&self) -> Result<TlsStream<TcpStream>> {
        let arrival = async {
            let mut stream = connect(&self.connector, self.from, self.to, FQDN).await.map_err(text)?;
            stream.write_all(PING).await.map_err(text)?;
            stream.flush().await.map_err(text)?;
            let mut answer = [0; PONG.len()];
            stream.read_exact(&mut answer).await.map_err(text)?;
            match stream.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) | None => Err("no full handshake".to_owned()),
                Some(_) if answer == *PONG => Ok(stream),
                Some(_) => Err("another answer to the ping".to_owned()),
            }
        };
        timeout(PATIENCE, arrival).await.unwrap_or(Err("no answer in time".to_owned()))
    }

    /// So many one after the other, `at_once` of them side by side; each is closed in order. Gives the suite.
    pub async fn visit(&self, count: u32, at_once: usize) -> Result<String> {
        let mut visitors = JoinSet::new();
        let turns = Rc::new(Semaphore::new(at_once));
        for _ in 0..count {
            let (way, turns) = (self.clone(), turns.clone());
            visitors.spawn_local(async move {
                let _turn = turns.acquire().await.map_err(text)?;
                let mut stream = way.arrive().await?;
                let suite = stream.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite());
                stream.shutdown().await.map_err(text)?;
                // The gateway closes too.
                let _end = stream.read(&mut [0; 16]).await;
                Ok::<_, String>(suite)
            });
        }
        let mut last = None;
        while let Some(visited) = visitors.join_next().await {
            last = visited.map_err(text)??;
        }
        Ok(last.map_or(String::new(), registry_name))
    }
}

/// As the registry spells it; rustls marks those of TLS 1.3.
fn registry_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}

/// Connections that stand.
pub struct Crowd {
    /// From the first connect to the last answer.
    pub took: Duration,
    /// When each was up, sorted.
    pub arrivals: Vec<Duration>,
    /// Connections that failed and were tried again.
    pub again: usize,
    /// The first reason.
    pub why: Option<String>,
    held: Vec<std::net::TcpStream>,
}

impl Crowd {
    /// Everybody arrives, at most `at_once` side by side, and stays; whoever fails tries again.
    pub async fn gather(way: Way, count: u32, at_once: usize) -> Result<Self> {
        let (done, outcome) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let gathered = LocalSet::new().block_on(&runtime, gathered(way, count, at_once));
            // Nobody waits any more when the run was given up.
            let _gone = done.send(gathered);
        });
        let gathered = outcome.await.map_err(text)?;
        thread.join().map_err(|_| "a thread of the generator panicked")?;
        gathered
    }

    /// How many the gateway has not closed.
    pub fn standing(&self) -> usize {
        let stands = |stream: &&std::net::TcpStream| matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.held.iter().filter(stands).count()
    }
}

async fn gathered(way: Way, count: u32, at_once: usize) -> Result<Crowd> {
    let started = Instant::now();
    let turns = Rc::new(Semaphore::new(at_once));
    let mut members = JoinSet::new();
    for _ in 0..count {
        let (way, turns) = (way.clone(), turns.clone());
        members.spawn_local(async move {
            let _turn = turns.acquire().await.map_err(text)?;
            let (mut again, mut first) = (0, None);
            loop {
                match way.arrive().await {
                    Ok(stream) => {
                        // The socket stays; the session would only be memory of ours.
                        let stream = stream.into_inner().0.into_std().map_err(text)?;
                        return Ok::<_, String>((stream, started.elapsed(), again, first));
                    }
                    Err(why) if started.elapsed() > CROWD_MAX => return Err(why),
                    Err(why) => {
                        again += 1;
                        first.get_or_insert(why);
                        sleep(AGAIN).await;
                    }
                }
            }
        });
    }
    let mut crowd =
        Crowd { took: Duration::ZERO, arrivals: Vec::new(), again: 0, why: None, held: Vec::new() };
    while let Some(member) = members.join_next().await {
        let (stream, arrived, again, first) = member.map_err(text)??;
        crowd.held.push(stream);
        crowd.arrivals.push(arrived);
        crowd.again += again;
        crowd.why = crowd.why.or(first);
    }
    crowd.arrivals.sort_unstable();
    crowd.took = crowd.arrivals.last().copied().unwrap_or_default();
    Ok(crowd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_called_as_in_the_registry() {
        assert_eq!(registry_name(CipherSuite::TLS13_AES_256_GCM_SHA384), "TLS_AES_256_GCM_SHA384");
        let older = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
        assert_eq!(registry_name(older), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    }
}
