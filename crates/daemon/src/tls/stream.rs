//! A session over an async stream, for those who talk a little and leave (`umbra doctor`, tests). The gateway's own
//! connections are read by the signalling threads instead.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::{Records, Session, Wrote};

/// Sealed bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// A session and what it runs over.
pub struct TlsStream<S> {
    stream: S,
    session: Session,
    plain: BytesMut,
    is_over: bool,
}

impl<S> TlsStream<S> {
    /// Both belong together: the handshake was made over this stream.
    pub fn new(stream: S, session: Session) -> Self {
        Self { stream, session, plain: BytesMut::new(), is_over: false }
    }
}

impl<S: AsyncWrite + Unpin> TlsStream<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut to = Sync { stream: &mut self.stream, cx };
        match self.session.send(&mut to)? {
            Wrote::All => Poll::Ready(Ok(())),
            Wrote::Some | Wrote::Nothing => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let plain = &mut this.plain;
        this.session.drain(&mut |said| plain.extend_from_slice(said))?;
        while this.plain.is_empty() && !this.is_over {
            let mut sealed = [0; READ_BYTES];
            let mut sealed = ReadBuf::new(&mut sealed);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut sealed))?;
            if sealed.filled().is_empty() {
                break;
            }
            let plain = &mut this.plain;
            this.is_over = this.session.open(sealed.filled(), &mut |said| plain.extend_from_slice(said))?;
        }
        let count = this.plain.len().min(buf.remaining());
        buf.put_slice(this.plain.get(..count).unwrap_or_default());
        this.plain.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // What was sealed before leaves first, so at most one write waits.
        ready!(self.poll_send(cx))?;
        self.session.seal(buf)?;
        let _later = self.poll_send(cx)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_over {
            self.is_over = true;
            self.session.say_goodbye();
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Writes as the session wants to: a full stream is `WouldBlock`, and the task wakes when there is room.
struct Sync<'a, 'b, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncWrite + Unpin> Write for Sync<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.stream).poll_write(self.cx, bytes) {
            Poll::Ready(wrote) => wrote,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
