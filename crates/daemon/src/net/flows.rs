//! The connection table: from a flow's handle to whoever writes its bytes. Owns flow control (a reader that does not
//! read loses its connection, never our memory); refuses to know transports beyond stream and datagram.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use sip::FlowKey;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

/// Why bytes were not taken.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SendFault {
    /// No such flow any more.
    #[error("connection is gone")]
    Gone,
    /// The peer does not read; the connection is being closed.
    #[error("peer reads too slowly")]
    SlowReader,
    /// The datagram did not leave (socket buffer full, or refused by the system).
    #[error("datagram not sent")]
    DatagramLost,
}

enum Writer {
    Stream { queue: mpsc::Sender<Bytes>, gauge: Arc<QueueGauge> },
    Datagram { socket: Arc<UdpSocket>, remote: SocketAddr },
}

/// What the table and the connection task share.
#[derive(Debug)]
pub(super) struct QueueGauge {
    waiting: AtomicUsize,
    bytes_max: usize,
    /// Fires when the connection must end at once.
    pub(super) abort: Notify,
}

impl QueueGauge {
    pub(super) fn written(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The queue end of a new stream flow.
pub(super) struct StreamEnd {
    pub(super) key: FlowKey,
    pub(super) queue: mpsc::Receiver<Bytes>,
    pub(super) gauge: Arc<QueueGauge>,
}

/// Every open flow.
#[derive(Default)]
pub struct FlowTable {
    writers: DashMap<FlowKey, Writer>,
    next: AtomicU64,
}

impl FlowTable {
    /// A table without flows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a stream connection.
    pub(super) fn open_stream(&self, queue_len_max: usize, bytes_max: usize) -> StreamEnd {
        let (sender, queue) = mpsc::channel(queue_len_max);
        let gauge = Arc::new(QueueGauge { waiting: AtomicUsize::new(0), bytes_max, abort: Notify::new() });
        let key = self.next_key();
        self.writers.insert(key, Writer::Stream { queue: sender, gauge: gauge.clone() });
        StreamEnd { key, queue, gauge }
    }

    /// Enters a UDP socket together with a remote address.
    pub(super) fn open_datagram(&self, socket: Arc<UdpSocket>, remote: SocketAddr) -> FlowKey {
        let key = self.next_key();
        self.writers.insert(key, Writer::Datagram { socket, remote });
        key
    }

    /// Hands bytes to a flow without waiting.
    pub fn send(&self, flow: FlowKey, bytes: Bytes) -> Result<(), SendFault> {
        let result = match self.writers.get(&flow).as_deref() {
            None => Err(SendFault::Gone),
            Some(Writer::Stream { queue, gauge }) => enqueue(queue, gauge, bytes),
            Some(Writer::Datagram { socket, remote }) => match socket.try_send_to(&bytes, *remote) {
                Ok(_) => Ok(()),
                Err(_) => Err(SendFault::DatagramLost),
            },
        };
        if result == Err(SendFault::SlowReader) {
            self.abort(flow);
        }
        result
    }

    /// Lets what is queued leave, then closes. `false`: there is no such flow.
    pub fn close(&self, flow: FlowKey) -> bool {
        self.writers.remove(&flow).is_some()
    }

    /// Closes at once.
    pub fn abort(&self, flow: FlowKey) {
        if let Some((_, Writer::Stream { gauge, .. })) = self.writers.remove(&flow) {
            gauge.abort.notify_one();
        }
    }

    /// Can this flow still be written to?
    pub fn contains(&self, flow: FlowKey) -> bool {
        self.writers.contains_key(&flow)
    }

    /// Open flows.
    pub fn len(&self) -> usize {
        self.writers.len()
    }

    /// No flow at all.
    pub fn is_empty(&self) -> bool {
        self.writers.is_empty()
    }

    fn next_key(&self) -> FlowKey {
        FlowKey(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

fn enqueue(queue: &mpsc::Sender<Bytes>, gauge: &QueueGauge, bytes: Bytes) -> Result<(), SendFault> {
    let length = bytes.len();
    // A message larger than the whole budget still passes through an empty queue.
    let waiting = gauge.waiting.fetch_add(length, Ordering::Relaxed);
    if waiting > 0 && waiting + length > gauge.bytes_max {
        gauge.written(length);
        return Err(SendFault::SlowReader);
    }
    queue.try_send(bytes).map_err(|error| {
        gauge.written(length);
        match error {
            mpsc::error::TrySendError::Full(_) => SendFault::SlowReader,
            mpsc::error::TrySendError::Closed(_) => SendFault::Gone,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Bytes = Bytes::from_static(b"hello");

    #[test]
    fn bytes_reach_the_queue_of_their_flow_only() {
        let table = FlowTable::new();
        let (mut one, mut two) = (table.open_stream(4, 100), table.open_stream(4, 100));
        assert_ne!(one.key, two.key);
        table.send(two.key, HELLO).unwrap();
        assert_eq!(two.queue.try_recv().unwrap(), HELLO);
        assert!(one.queue.try_recv().is_err());
    }

    #[test]
    fn a_closed_flow_drains_and_then_ends() {
        let table = FlowTable::new();
        let mut end = table.open_stream(4, 100);
        table.send(end.key, HELLO).unwrap();
        assert!(table.close(end.key));
        assert!(!table.close(end.key));
        assert_eq!(table.send(end.key, HELLO), Err(SendFault::Gone));
        assert_eq!(end.queue.try_recv().unwrap(), HELLO);
        assert_eq!(end.queue.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert!(table.is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_cut_off_by_count_and_by_bytes() {
        let table = FlowTable::new();
        let by_count = table.open_stream(2, 1_000);
        table.send(by_count.key, HELLO).unwrap();
        table.send(by_count.key, HELLO).unwrap();
        assert_eq!(table.send(by_count.key, HELLO), Err(SendFault::SlowReader));
        by_count.gauge.abort.notified().await;
        let by_bytes = table.open_stream(100, 9);
        table.send(by_bytes.key, HELLO).unwrap();
        assert_eq!(table.send(by_bytes.key, HELLO), Err(SendFault::SlowReader));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn one_large_message_passes_an_empty_queue() {
        let table = FlowTable::new();
        let end = table.open_stream(2, 3);
        assert_eq!(table.send(end.key, HELLO), Ok(()));
        end.gauge.written(HELLO.len());
        assert_eq!(table.send(end.key, HELLO), Ok(()));
    }
}
