//! One OPTIONS round trip over the real transport, with the gateway's own certificate and from its own address. Owns
//! connect, handshake, request and the one answer; refuses to judge what it means.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use b2bua::policy::RoutingRules;
use bytes::{Bytes, BytesMut};
use sip::wire::{Frame, Framer, Limits, PUSH_BYTES_MAX};
use sip::{Builder, HeaderId, Message, Method, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::net::source_socket;
use crate::tls::{HandshakeFailure, TlsContext, TlsStream};

/// Messages read while waiting for the answer.
const MESSAGES_MAX: usize = 16;
/// Bytes of a random tag, in hexadecimal digits.
const TAG_DIGITS: usize = 16;

/// How the gateway goes out.
#[derive(Clone)]
pub struct Asker {
    /// Certificate and roots; `None` without `[tls]`.
    pub tls: Option<Arc<TlsContext>>,
    /// Addresses listened on.
    pub sources: Vec<IpAddr>,
    /// The gateway's name.
    pub fqdn: String,
    /// What goes into Via.
    pub advertised: IpAddr,
    /// Budgets for connect, handshake and answer.
    pub rules: RoutingRules,
}

/// What was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// SIP status.
    pub status: u16,
    /// Reason phrase, as sent.
    pub reason: String,
    /// From the last byte sent to the answer.
    pub round_trip: Duration,
    /// Its Date and the moment it came; `None` without a Date.
    pub date: Option<(String, SystemTime)>,
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// No connection.
    #[error("{0}")]
    Connect(String),
    /// The connect took too long.
    #[error("no answer to the connect")]
    ConnectTimeout,
    /// No `[tls]` section to connect with.
    #[error("there is no [tls] section, so there is no certificate to connect with")]
    NoTls,
    /// No handshake.
    #[error("{0}")]
    Handshake(#[from] HandshakeFailure),
    /// Connected, but no answer.
    #[error("no answer to OPTIONS")]
    Silent,
    /// The connection went away, or carried something else.
    #[error("{0}")]
    Broken(String),
}

impl Asker {
    /// Connects without saying anything.
    pub async fn knock(&self, target: SocketAddr) -> Result<TcpStream, Trouble> {
        let connect = async {
            let stream = source_socket(&self.sources, target.ip())?.connect(target).await?;
            stream.set_nodelay(true)?;
            std::io::Result::Ok(stream)
        };
        match timeout(self.rules.connect_timeout, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Trouble::Connect(error.to_string())),
            Err(_) => Err(Trouble::ConnectTimeout),
        }
    }

    /// Asks OPTIONS of `name` there.
    pub async fn ask(&self, target: SocketAddr, name: &str, transport: Transport) -> Result<Answer, Trouble> {
        let request = self.request(target, name, transport);
        if transport != Transport::Tls {
            return self.exchange(self.knock(target).await?, request).await;
        }
        let tls = self.tls.as_ref().ok_or(Trouble::NoTls)?;
        let stream = self.knock(target).await?;
        let handshake = timeout(self.rules.tls_timeout, tls.connect(name, stream)).await;
        let (stream, session, _) = handshake.unwrap_or(Err(HandshakeFailure::Timeout))?;
        self.exchange(TlsStream::new(stream, session), request).await
    }

    async fn exchange(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Option<Request>,
    ) -> Result<Answer, Trouble> {
        let broken = |error: std::io::Error| Trouble::Broken(error.to_string());
        let request = request.ok_or_else(|| Trouble::Broken("the request cannot be built".to_owned()))?;
        let started = Instant::now();
        let turn = async {
            stream.write_all(&request.bytes).await.map_err(broken)?;
            stream.flush().await.map_err(broken)?;
            answer(&mut stream, &request.call_id).await
        };
        let message = timeout(self.rules.first_answer_timeout, turn).await.unwrap_or(Err(Trouble::Silent))?;
        let date = message.header(HeaderId::Date).map(|value| String::from_utf8_lossy(value).into_owned());
        Ok(Answer {
            status: message.status().map_or(0, sip::StatusCode::code),
            reason: String::from_utf8_lossy(&message.reason()).into_owned(),
            round_trip: started.elapsed(),
            date: date.map(|date| (date, SystemTime::now())),
        })
    }

    fn request(&self, target: SocketAddr, name: &str, transport: Transport) -> Option<Request> {
        let host = |name: &str| match name.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => name.to_owned(),
        };
        let word = if transport == Transport::Tls { "TLS" } else { "TCP" };
        let (fqdn, own) = (&self.fqdn, host(&self.advertised.to_string()));
        let uri = format!("sip:{}:{};transport={}", host(name), target.port(), word.to_lowercase());
        let call_id = format!("doctor-{}@{fqdn}", tag());
        let bytes = Builder::request(&Method::Options, uri.as_bytes())
            .header(HeaderId::Via, format!("SIP/2.0/{word} {own};branch=z9hG4bK{}", tag()))
            .header(HeaderId::MaxForwards, "70")
            .header(HeaderId::From, format!("<sip:{fqdn}>;tag={}", tag()))
            .header(HeaderId::To, format!("<{uri}>"))
            .header(HeaderId::CallId, &call_id)
            .header(HeaderId::CSeq, "1 OPTIONS")
            .header(HeaderId::Contact, format!("<sip:{fqdn};transport={}>", word.to_lowercase()))
            .header(HeaderId::Accept, "application/sdp")
            .finish(None, b"");
        Some(Request { bytes: bytes.ok()?, call_id })
    }
}

struct Request {
    bytes: Bytes,
    call_id: String,
}

fn tag() -> String {
    let mut tag = format!("{:016x}", rand::random::<u64>());
    tag.truncate(TAG_DIGITS);
    tag
}

/// Reads until the final answer to our request; everything else on the connection is passed over.
async fn answer(stream: &mut (impl AsyncRead + Unpin), call_id: &str) -> Result<Message, Trouble> {
    let limits = Limits::default();
    let mut framer = Framer::new(limits);
    let mut buffer = BytesMut::with_capacity(PUSH_BYTES_MAX);
    let mut seen = 0;
    loop {
        buffer.clear();
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Err(Trouble::Broken("the connection was closed without an answer".to_owned())),
            Ok(_) => framer.push(&buffer),
            Err(error) => return Err(Trouble::Broken(error.to_string())),
        }
        loop {
            match framer.poll() {
                Ok(None) => break,
                Ok(Some(Frame::Message(bytes))) => {
                    seen += 1;
                    let message = Message::parse(bytes, &limits);
                    let message = message.map_err(|error| Trouble::Broken(error.to_string()))?;
                    if is_answer(&message, call_id) {
                        return Ok(message);
                    }
                }
                Ok(Some(_)) => seen += 1,
                Err(error) => return Err(Trouble::Broken(format!("no SIP: {error}"))),
            }
            if seen > MESSAGES_MAX {
                return Err(Trouble::Broken("many messages, none of them the answer".to_owned()));
            }
        }
    }
}

fn is_answer(message: &Message, call_id: &str) -> bool {
    message.call_id() == call_id.as_bytes() && message.status().is_some_and(|status| status.class() >= 2)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn asker() -> Asker {
        let quick =
            RoutingRules { first_answer_timeout: Duration::from_millis(300), ..RoutingRules::default() };
        Asker {
            tls: None,
            sources: vec![IpAddr::from([127, 0, 0, 1])],
            fqdn: "umbra.contoso.test".into(),
            advertised: IpAddr::from([127, 0, 0, 1]),
            rules: quick,
        }
    }

    /// A peer that answers with this, `%` replaced by the Call-ID of the request.
    async fn asked(answer: &'static str) -> Result<Answer, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.starts_with("OPTIONS sip:cas01.contoso.test:"), "{request}");
            let call_id = request.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap();
            stream.write_all(answer.replace('%', call_id).as_bytes()).await.unwrap();
            stream
        };
        let asker = asker();
        let (result, _stream) = tokio::join!(asker.ask(target, "cas01.contoso.test", Transport::Tcp), peer);
        result
    }

    #[tokio::test]
    async fn the_final_answer_to_our_own_request_counts() {
        let stray = "SIP/2.0 500 Other\r\nVia: SIP/2.0/TCP a\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        let trying = "SIP/2.0 100 Trying\r\nVia: SIP/2.0/TCP a\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: %\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        let fine = "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP a\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: %\r\nCSeq: 1 OPTIONS\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\nContent-Length: 0\r\n\r\n";
        let text: &'static str = Box::leak(format!("\r\n\r\n{stray}{trying}{fine}").into_boxed_str());
        let answer = asked(text).await.unwrap();
        assert_eq!((answer.status, answer.reason.as_str()), (200, "OK"));
        assert_eq!(answer.date.unwrap().0, "Sat, 13 Nov 2010 23:29:00 GMT");
    }

    #[tokio::test]
    async fn silence_garbage_and_a_closed_port_are_told_apart() {
        assert_eq!(asked("").await, Err(Trouble::Silent));
        assert!(matches!(asked("220 mail.contoso.test ESMTP\r\n\r\n").await, Err(Trouble::Broken(_))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        let refused = asker().ask(target, "cas01.contoso.test", Transport::Tcp).await;
        assert!(matches!(&refused, Err(Trouble::Connect(why)) if why.contains("refused")), "{refused:?}");
        let no_tls = asker().ask(target, "cas01.contoso.test", Transport::Tls).await;
        assert_eq!(no_tls, Err(Trouble::NoTls));
    }
}
