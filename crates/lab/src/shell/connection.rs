//! One connection: bytes to messages and back. Owns framing, keep-alive and the write queue; refuses to know what messages mean.

use std::time::Duration;

use bytes::Bytes;
use sip::{Flow, Frame, Framer, Limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::driver::Event;

/// Messages waiting to be written on one connection.
pub(super) const WRITE_QUEUE_MAX: usize = 1_024;
const READ_BYTES: usize = 16 * 1_024;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const CRLF: &[u8] = b"\r\n";

/// Makes the connection known to its role; `None` when the role is gone.
pub(super) async fn announce<C>(flow: Flow, to: &mpsc::Sender<Event<C>>) -> Option<mpsc::Receiver<Bytes>> {
    let (writer, queue) = mpsc::channel::<Bytes>(WRITE_QUEUE_MAX);
    to.send(Event::Up { flow, writer }).await.ok()?;
    Some(queue)
}

/// Serves an announced stream until either side closes, framing is lost, or `stop` turns true.
pub(super) async fn serve<S, C>(
    mut stream: S,
    flow: Flow,
    mut queue: mpsc::Receiver<Bytes>,
    to: mpsc::Sender<Event<C>>,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut framer = Framer::new(Limits::default());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let step = tokio::select! {
            read = stream.read(&mut buffer) => Step::Read(read.unwrap_or(0)),
            message = queue.recv() => message.map_or(Step::Close, Step::Write),
            () = told(&mut stop) => Step::Close,
        };
        let goes_on = match step {
            Step::Read(0) | Step::Close => false,
            Step::Read(length) => on_bytes(&mut framer, &buffer[..length], &mut stream, &flow, &to).await,
            Step::Write(bytes) => write(&mut stream, &bytes).await,
        };
        if !goes_on {
            break;
        }
    }
    // what was already to be said is said
    while let Ok(bytes) = queue.try_recv() {
        if !write(&mut stream, &bytes).await {
            break;
        }
    }
    let _ = timeout(WRITE_TIMEOUT, stream.shutdown()).await;
    let _ = to.send(Event::Down(flow.key)).await;
}

enum Step {
    Read(usize),
    Write(Bytes),
    Close,
}

/// Waits until told to stop (or until nobody is left who could tell).
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn on_bytes<S: AsyncWrite + Unpin, C>(
    framer: &mut Framer,
    bytes: &[u8],
    stream: &mut S,
    flow: &Flow,
    to: &mpsc::Sender<Event<C>>,
) -> bool {
    framer.push(bytes);
    loop {
        match framer.poll() {
            Ok(Some(Frame::Message(bytes))) => {
                if to.send(Event::Bytes { flow: flow.key, bytes }).await.is_err() {
                    return false;
                }
            }
            Ok(Some(Frame::Ping)) => {
                if !write(stream, CRLF).await {
                    return false;
                }
            }
            Ok(Some(Frame::Pong)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> bool {
    let writing = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    matches!(timeout(WRITE_TIMEOUT, writing).await, Ok(Ok(())))
}
