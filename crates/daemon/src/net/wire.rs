//! What is spoken over a socket: plain bytes or TLS records. Owns the TLS session behind a finished handshake; refuses
//! to know messages. Reading takes one system call for whatever has come, writing one for everything that is to leave.

use std::io::{self, Read, Write};

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;

use crate::tls::{Records, Session, Wrote};

/// Bytes that leave in one TLS write, at most; what is behind them waits for the socket.
const SEAL_BYTES_MAX: usize = 256 * 1024;

/// Plain or TLS.
pub enum Wire {
    /// TCP.
    Plain,
    /// TLS, handshake done.
    Tls(Box<rustls::Connection>),
    /// The same by the other backend.
    #[cfg(feature = "openssl")]
    OpenSsl(Box<crate::tls::OpenSsl>),
}

/// What one look at the socket gave.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// Bytes, and there may be more.
    More,
    /// Bytes, or nothing; the socket is empty now.
    Drained,
    /// The peer will say no more.
    End,
}

impl Wire {
    /// Reads once from the socket into `scratch` and gives what it carried to `sink`.
    pub fn read(
        &mut self,
        stream: &mut TcpStream,
        scratch: &mut [u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> io::Result<Heard> {
        let room = scratch.len();
        let count = loop {
            match stream.read(scratch) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Drained),
                Err(error) => return Err(error),
            }
        };
        let said = scratch.get(..count).unwrap_or_default();
        let is_over = match self {
            Self::Plain => {
                sink(said);
                false
            }
            Self::Tls(session) => session.open(said, sink)?,
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.open(said, sink)?,
        };
        // A read that does not fill its buffer has emptied the socket, which is what edge-triggered polling asks for.
        Ok(match () {
            () if count == 0 || is_over => Heard::End,
            () if count == room => Heard::More,
            () => Heard::Drained,
        })
    }

    /// Gives what the session holds already (it came together with the end of the handshake).
    pub fn read_early(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Tls(session) => session.drain(sink),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.drain(sink),
        }
    }

    /// Writes as much of `out` as the socket takes.
    pub fn write(&mut self, stream: &mut TcpStream, out: &mut BytesMut) -> io::Result<Wrote> {
        match self {
            Self::Plain => {
                let mut moved = Wrote::Nothing;
                while !out.is_empty() {
                    match stream.write(out) {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(count) => {
                            out.advance(count);
                            moved = Wrote::Some;
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                        Err(error) => return Err(error),
                    }
                }
                Ok(Wrote::All)
            }
            Self::Tls(session) => write_sealed(&mut **session, stream, out),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => write_sealed(&mut **session, stream, out),
        }
    }

    /// Whether records wait for the socket (an answer to a key update, an alert).
    pub fn wants_write(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(session) => Records::wants_write(&**session),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.wants_write(),
        }
    }

    /// The last record, where there are records.
    pub fn say_goodbye(&mut self) {
        match self {
            Self::Plain => {}
            Self::Tls(session) => session.say_goodbye(),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.say_goodbye(),
        }
    }
}

impl From<Session> for Wire {
    fn from(session: Session) -> Self {
        match session {
            Session::Rustls(session) => Self::Tls(session),
            #[cfg(feature = "openssl")]
            Session::OpenSsl(session) => Self::OpenSsl(session),
        }
    }
}

/// Seals and sends until everything has left or the socket is full.
fn write_sealed(session: &mut impl Records, stream: &mut TcpStream, out: &mut BytesMut) -> io::Result<Wrote> {
    loop {
        match session.send(stream)? {
            Wrote::All if !out.is_empty() => {}
            done => return Ok(done),
        }
        let count = out.len().min(SEAL_BYTES_MAX);
        session.seal(&out[..count])?;
        out.advance(count);
    }
}
