//! What is spoken over a socket: plain bytes or TLS records. Owns the TLS session behind a finished handshake; refuses
//! to know messages. Reading takes one system call for whatever has come, writing one for everything that is to leave.

use std::io::{self, BufRead, Read, Write};

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;

/// Bytes that leave in one TLS write, at most; what is behind them waits for the socket.
const SEAL_BYTES_MAX: usize = 256 * 1024;

/// Plain or TLS.
pub enum Wire {
    /// TCP.
    Plain,
    /// TLS, handshake done.
    Tls(Box<rustls::Connection>),
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

/// What one write came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Wrote {
    /// Everything has left.
    All,
    /// The socket is full; it took something.
    Some,
    /// The socket is full; it took nothing.
    Nothing,
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
            Self::Tls(session) => open(session, said, sink)?,
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
            Self::Tls(session) => drain(session, sink).map(|_| ()),
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
            Self::Tls(session) => loop {
                match send_records(session, stream)? {
                    Wrote::All if !out.is_empty() => {}
                    done => return Ok(done),
                }
                let count = out.len().min(SEAL_BYTES_MAX);
                session.writer().write_all(&out[..count])?;
                out.advance(count);
            },
        }
    }

    /// Whether records wait for the socket (an answer to a key update, an alert).
    pub fn wants_write(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(session) => session.wants_write(),
        }
    }

    /// The last record, where there are records.
    pub fn say_goodbye(&mut self) {
        if let Self::Tls(session) = self {
            session.send_close_notify();
        }
    }
}

impl From<rustls::Connection> for Wire {
    fn from(mut session: rustls::Connection) -> Self {
        // The bound is ours: at most one write is sealed ahead of the socket.
        session.set_buffer_limit(None);
        Self::Tls(Box::new(session))
    }
}

/// Opens the records in `sealed`; `true`: the peer said goodbye.
fn open(
    session: &mut rustls::Connection,
    mut sealed: &[u8],
    sink: &mut impl FnMut(&[u8]),
) -> io::Result<bool> {
    let mut is_over = false;
    while !sealed.is_empty() {
        session.read_tls(&mut sealed)?;
        let state = session.process_new_packets();
        drain(session, sink)?;
        match state {
            Ok(state) => is_over |= state.peer_has_closed(),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        if is_over {
            break;
        }
    }
    Ok(is_over)
}

fn drain(session: &mut rustls::Connection, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut reader = session.reader();
    loop {
        let count = match reader.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(chunk) => {
                sink(chunk);
                chunk.len()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        reader.consume(count);
    }
}

fn send_records(session: &mut rustls::Connection, stream: &mut TcpStream) -> io::Result<Wrote> {
    let mut moved = Wrote::Nothing;
    while session.wants_write() {
        match session.write_tls(stream) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => moved = Wrote::Some,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
            Err(error) => return Err(error),
        }
    }
    Ok(Wrote::All)
}
