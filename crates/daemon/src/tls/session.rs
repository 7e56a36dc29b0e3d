//! A TLS session whose handshake is done, whoever spoke it: sealed bytes in and out, plain bytes in and out. Owns the narrow
//! trait that both backends fill; refuses to know sockets, peers and messages.

use std::borrow::Cow;
use std::io::{self, BufRead as _, Write};

use rustls::CommonState;
use rustls_pki_types::CertificateDer;

use super::settings::{Agreed, Backend};

/// What one write came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Wrote {
    /// Everything has left.
    All,
    /// The far side is full; it took something.
    Some,
    /// The far side is full; it took nothing.
    Nothing,
}

/// Records in both directions.
pub trait Records {
    /// Opens the records in `sealed`; `true`: the peer said goodbye.
    fn open(&mut self, sealed: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<bool>;

    /// Gives what is open already.
    fn drain(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<()>;

    /// Makes records of `plain`; all of it is taken.
    fn seal(&mut self, plain: &[u8]) -> io::Result<()>;

    /// Writes as many records as the far side takes.
    fn send(&mut self, to: &mut impl Write) -> io::Result<Wrote>;

    /// Whether records wait.
    fn wants_write(&self) -> bool;

    /// The last record.
    fn say_goodbye(&mut self);
}

/// A session of one backend or the other.
pub enum Session {
    /// rustls.
    Rustls(Box<rustls::Connection>),
    /// OpenSSL.
    #[cfg(feature = "openssl")]
    OpenSsl(Box<super::openssl::OpenSsl>),
}

impl Session {
    /// Version and suite.
    pub fn agreed(&self) -> Agreed {
        match self {
            Self::Rustls(session) => Agreed {
                version: session.protocol_version().map_or(0, u16::from),
                suite: session.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
            },
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.agreed(),
        }
    }

    /// Who speaks it.
    pub fn backend(&self) -> Backend {
        match self {
            Self::Rustls(_) => Backend::Rustls,
            #[cfg(feature = "openssl")]
            Self::OpenSsl(_) => Backend::OpenSsl,
        }
    }

    /// The far end's chain as it was sent, leaf first. The handshake proved the leaf's key and nothing else.
    pub(super) fn presented(&self) -> Cow<'_, [CertificateDer<'static>]> {
        match self {
            Self::Rustls(session) => Cow::Borrowed(session.peer_certificates().unwrap_or_default()),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => Cow::Owned(session.presented()),
        }
    }
}

/// The same of either backend, for whoever does not keep them apart.
macro_rules! either {
    ($session:expr, $inner:ident => $what:expr) => {
        match $session {
            Self::Rustls($inner) => $what,
            #[cfg(feature = "openssl")]
            Self::OpenSsl($inner) => $what,
        }
    };
}

impl Records for Session {
    fn open(&mut self, sealed: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        either!(self, session => session.open(sealed, sink))
    }

    fn drain(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        either!(self, session => session.drain(sink))
    }

    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        either!(self, session => session.seal(plain))
    }

    fn send(&mut self, to: &mut impl Write) -> io::Result<Wrote> {
        either!(self, session => session.send(to))
    }

    fn wants_write(&self) -> bool {
        either!(self, session => Records::wants_write(&**session))
    }

    fn say_goodbye(&mut self) {
        either!(self, session => session.say_goodbye());
    }
}

impl From<rustls::Connection> for Session {
    fn from(mut session: rustls::Connection) -> Self {
        // The bound is the writer's: at most one write is sealed ahead of the socket.
        session.set_buffer_limit(None);
        Self::Rustls(Box::new(session))
    }
}

impl Records for rustls::Connection {
    fn open(&mut self, mut sealed: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut is_over = false;
        while !sealed.is_empty() {
            self.read_tls(&mut sealed)?;
            let state = self.process_new_packets();
            self.drain(sink)?;
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

    fn drain(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut reader = self.reader();
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

    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        self.writer().write_all(plain)
    }

    fn send(&mut self, to: &mut impl Write) -> io::Result<Wrote> {
        let mut moved = Wrote::Nothing;
        while self.wants_write() {
            match self.write_tls(to) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => moved = Wrote::Some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
        Ok(Wrote::All)
    }

    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }

    fn say_goodbye(&mut self) {
        self.send_close_notify();
    }
}
