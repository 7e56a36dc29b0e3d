//! One stream connection: cuts messages, answers keep-alives, writes what is queued, keeps the deadlines. Owns the
//! stream for its life; refuses to know whether it is TCP or TLS and what the messages say.

use std::sync::Arc;
use std::time::Duration;

use b2bua::engine::FlowLoss;
use bytes::{Bytes, BytesMut};
use sip::{FlowKey, Frame, Framer, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::flows::{QueueGauge, StreamEnd};
use super::{NetContext, NetEvent};

/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;
/// Messages written with one system call, at most.
const WRITE_BATCH_MAX: usize = 64;
/// How long a closing connection may take to send its last bytes and to hear the peer close.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes thrown away while a refused peer still talks.
const DISCARD_BYTES_MAX: usize = 256 * 1024;

/// Why the reading side ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum ReadEnd {
    Closed,
    Error,
    Idle,
    PartialMessage,
    FramingLost,
    EngineGone,
}

/// Runs a connection to its end and reports the end.
pub(super) async fn serve<S>(context: &NetContext, stream: S, end: StreamEnd)
where
    S: AsyncRead + AsyncWrite,
{
    let key = end.key;
    let why = run(context, stream, end).await;
    context.flows.close(key);
    debug!(flow = key.0, ?why, "connection ended");
    // The engine being gone is the only way this fails, and then nobody is left to be told.
    let _gone = context.events.send(NetEvent::Down { flow: key, why }).await;
}

async fn run<S>(context: &NetContext, stream: S, end: StreamEnd) -> FlowLoss
where
    S: AsyncRead + AsyncWrite,
{
    let StreamEnd { key, queue, gauge } = end;
    let (mut reader, writer) = tokio::io::split(stream);
    let mut write = std::pin::pin!(write_loop(writer, queue, &gauge, context.limits.write_timeout));
    let read_end = tokio::select! {
        read_end = read_loop(context, key, &mut reader) => read_end,
        why = &mut write => return why,
        () = gauge.abort.notified() => {
            context.metrics.dropped("slow_reader");
            return FlowLoss::Error;
        }
        () = context.stopped() => {
            context.flows.close(key);
            let _late = timeout(LINGER, &mut write).await;
            return FlowLoss::ClosedByUs;
        }
    };
    context.flows.close(key);
    // Closing with unread bytes would reset the connection and take our 400 with it.
    let last_words = async {
        (&mut write).await;
        if read_end == ReadEnd::FramingLost {
            discard(&mut reader).await;
        }
    };
    let _late = timeout(LINGER, last_words).await;
    match read_end {
        ReadEnd::Closed => FlowLoss::ClosedByPeer,
        ReadEnd::Idle | ReadEnd::PartialMessage => FlowLoss::Idle,
        ReadEnd::Error => FlowLoss::Error,
        ReadEnd::FramingLost | ReadEnd::EngineGone => FlowLoss::ClosedByUs,
    }
}

async fn read_loop(context: &NetContext, key: FlowKey, reader: &mut (impl AsyncRead + Unpin)) -> ReadEnd {
    let limits = &context.limits;
    let mut framer = Framer::new(limits.message);
    let mut buffer = vec![0; READ_BYTES];
    // Since when a message is incomplete.
    let mut begun: Option<Instant> = None;
    loop {
        let deadline = match begun {
            Some(since) if framer.is_in_body() => since + limits.body_timeout,
            Some(since) => since + limits.header_timeout,
            None => Instant::now() + limits.idle_timeout,
        };
        let count = match timeout_at(deadline, reader.read(&mut buffer)).await {
            Err(_) if begun.is_some() => {
                context.metrics.dropped("partial_message");
                return ReadEnd::PartialMessage;
            }
            Err(_) => return ReadEnd::Idle,
            Ok(Err(_)) => return ReadEnd::Error,
            Ok(Ok(0)) => return ReadEnd::Closed,
            Ok(Ok(count)) => count,
        };
        framer.push(&buffer[..count]);
        match take_frames(context, key, &mut framer).await {
            Ok(0) => {}
            Ok(_) => begun = None,
            Err(end) => return end,
        }
        begun = if framer.is_mid_message() { begun.or_else(|| Some(Instant::now())) } else { None };
    }
}

/// How many messages were complete.
async fn take_frames(context: &NetContext, key: FlowKey, framer: &mut Framer) -> Result<usize, ReadEnd> {
    let mut messages = 0;
    loop {
        match framer.poll() {
            Ok(None) => return Ok(messages),
            Ok(Some(Frame::Pong)) => {}
            Ok(Some(Frame::Ping)) => {
                // A flow that cannot take two bytes is being closed anyway.
                let _closing = context.flows.send(key, Bytes::from_static(b"\r\n"));
            }
            Ok(Some(Frame::Message(bytes))) => {
                messages += 1;
                let event = NetEvent::Message { flow: key, bytes };
                context.events.send(event).await.map_err(|_| ReadEnd::EngineGone)?;
            }
            Err(error) => {
                context.metrics.dropped("framing_lost");
                debug!(flow = key.0, fault = %error, "framing lost, closing");
                let answer = error
                    .head
                    .as_ref()
                    .and_then(|head| sip::reject_bytes(head, StatusCode::BAD_REQUEST, None));
                if let Some(answer) = answer {
                    let _closing = context.flows.send(key, answer);
                }
                return Err(ReadEnd::FramingLost);
            }
        }
    }
}

async fn write_loop(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
    gauge: &Arc<QueueGauge>,
    patience: Duration,
) -> FlowLoss {
    let mut batch = Vec::new();
    let mut joined = BytesMut::new();
    while queue.recv_many(&mut batch, WRITE_BATCH_MAX).await > 0 {
        let total = batch.iter().map(Bytes::len).sum();
        let written = match batch.as_slice() {
            [single] => write_all(&mut writer, single, patience).await,
            several => {
                joined.clear();
                several.iter().for_each(|bytes| joined.extend_from_slice(bytes));
                write_all(&mut writer, &joined, patience).await
            }
        };
        batch.clear();
        gauge.written(total);
        if !written {
            return FlowLoss::Error;
        }
    }
    let _late = timeout(patience, writer.shutdown()).await;
    FlowLoss::ClosedByUs
}

async fn write_all(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8], patience: Duration) -> bool {
    let write = async {
        writer.write_all(bytes).await?;
        writer.flush().await
    };
    matches!(timeout(patience, write).await, Ok(Ok(())))
}

async fn discard(reader: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    let mut left = DISCARD_BYTES_MAX;
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        left = left.saturating_sub(count);
        if left == 0 {
            return;
        }
    }
}
