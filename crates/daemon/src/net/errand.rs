//! The way into a signalling thread: a bounded queue and a knock that wakes its poller. Owns both; refuses to know what
//! the thread does with an errand.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use b2bua::Policy;
use b2bua::engine::{CallKey, ConnectFailure, ConnectKey, EngineStatus, FlowLoss, Input, Newcomers};
use b2bua::policy::ServerStatus;
use bytes::Bytes;
use mio::{Registry, Token, Waker};
use sip::FlowKey;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::{Arrived, Endpoint, FlowFacts};
use crate::media::MediaReport;

/// Errands that may wait for one shard.
const ERRANDS_MAX: usize = 16_384;

/// A call among all shards: the media threads serve them all.
pub type MediaKey = (u16, CallKey);

/// What a shard is told from outside.
pub enum Errand {
    /// An inbound connection is yours.
    Adopt(Box<Arrived>),
    /// A connection you wanted dialled came to be, or not.
    Dialled {
        /// Whom you wanted.
        endpoint: Endpoint,
        /// The stream, or why there is none.
        result: Result<Box<Arrived>, ConnectFailure>,
    },
    /// A connection that another shard owns answers your wish.
    Connected {
        /// The wish.
        connect: ConnectKey,
        /// The connection.
        facts: Box<FlowFacts>,
    },
    /// A connection that another shard dialled did not come to be.
    ConnectFailed {
        /// The wish.
        connect: ConnectKey,
        /// Why not.
        why: ConnectFailure,
    },
    /// Another shard has a new flow.
    Up {
        /// Which.
        facts: Box<FlowFacts>,
        /// Whether the peer opened it.
        inbound: Opened,
    },
    /// A flow of another shard is gone.
    Down {
        /// Which.
        flow: FlowKey,
        /// Why.
        why: FlowLoss,
    },
    /// Nothing new begins on this flow; to its own shard first, which tells the others.
    Retire(FlowKey, Newcomers),
    /// Another shard read a message whose Call-ID leads to you.
    Message {
        /// From where.
        flow: FlowKey,
        /// Its bytes.
        bytes: Bytes,
        /// Since when it waits.
        since: Instant,
    },
    /// A message of a call that you hold, though its Call-ID leads to another shard.
    Held {
        /// From where.
        flow: FlowKey,
        /// Its bytes.
        bytes: Bytes,
        /// Since when it waits.
        since: Instant,
    },
    /// A REFER names a dialog of yours: say what it is to the shard that has to answer.
    Name {
        /// From where it came.
        flow: FlowKey,
        /// Its bytes.
        bytes: Bytes,
        /// Who asks.
        asker: u16,
    },
    /// Write to a flow of yours.
    Send {
        /// Where.
        flow: FlowKey,
        /// What.
        bytes: Bytes,
    },
    /// Close a flow of yours.
    Close(FlowKey),
    /// Answer to a question of your engine.
    Answer(Box<Input>),
    /// From the media threads.
    Media(MediaReport<MediaKey>),
    /// From the gateway's owner.
    Control(Control),
}

/// Who opened a flow.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Opened {
    /// The peer.
    ByPeer,
    /// This gateway.
    ByUs,
}

/// Wishes of the gateway's owner.
pub enum Control {
    /// Use this policy for new calls.
    Policy(Arc<Policy>),
    /// Take no new calls; hang up the rest at `until`.
    Drain {
        /// When patience ends.
        until: Option<Instant>,
    },
    /// End one call.
    HangUp(CallKey),
    /// Whether a UM server gets new calls.
    Server {
        /// FQDN.
        name: String,
        /// What is wanted.
        wish: ServerStatus,
    },
    /// How do you stand, every call looked at?
    Status(oneshot::Sender<EngineStatus>),
    /// The same without a look at calls.
    Gauges(oneshot::Sender<EngineStatus>),
    /// End everything.
    Stop,
}

/// The outer end: anybody may hand over an errand.
#[derive(Clone)]
pub struct Inbox {
    errands: mpsc::Sender<Errand>,
    knock: Arc<Knock>,
}

struct Knock {
    waker: Waker,
    /// Somebody knocked and the thread has not looked yet.
    pending: AtomicBool,
}

/// The inner end.
pub struct Errands {
    errands: mpsc::Receiver<Errand>,
    knock: Arc<Knock>,
}

/// Both ends; knocks arrive as events with this token.
pub fn inbox(registry: &Registry, token: Token) -> io::Result<(Inbox, Errands)> {
    let (sender, receiver) = mpsc::channel(ERRANDS_MAX);
    let knock = Arc::new(Knock { waker: Waker::new(registry, token)?, pending: AtomicBool::new(false) });
    Ok((Inbox { errands: sender, knock: knock.clone() }, Errands { errands: receiver, knock }))
}

impl Inbox {
    /// Waits for room; an error means that the shard has ended.
    pub async fn send(&self, errand: Errand) -> Result<(), Ended> {
        self.errands.send(errand).await.map_err(|_| Ended)?;
        self.knock();
        Ok(())
    }

    /// Without waiting; gives the errand back when there is no room.
    pub fn offer(&self, errand: Errand) -> Result<(), TrySendError<Errand>> {
        self.errands.try_send(errand)?;
        self.knock();
        Ok(())
    }

    /// A report of the media threads, without waiting.
    pub fn offer_report(
        &self,
        report: MediaReport<MediaKey>,
    ) -> Result<(), TrySendError<MediaReport<MediaKey>>> {
        match self.errands.try_reserve() {
            Ok(place) => place.send(Errand::Media(report)),
            Err(TrySendError::Full(())) => return Err(TrySendError::Full(report)),
            Err(TrySendError::Closed(())) => return Err(TrySendError::Closed(report)),
        }
        self.knock();
        Ok(())
    }

    fn knock(&self) {
        // One knock is heard once, however many errands lie behind the door.
        if !self.knock.pending.swap(true, Ordering::AcqRel)
            && let Err(error) = self.knock.waker.wake()
        {
            tracing::error!(%error, "a signalling thread cannot be woken");
        }
    }
}

impl Errands {
    /// To be called before looking: what comes later knocks again.
    pub fn heard(&self) {
        self.knock.pending.store(false, Ordering::Release);
    }

    /// The next errand.
    pub fn take(&mut self) -> Option<Errand> {
        self.errands.try_recv().ok()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.errands.len()
    }

    /// None waits.
    pub fn is_empty(&self) -> bool {
        self.errands.is_empty()
    }
}

/// The shard has ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the signalling thread has ended")]
pub struct Ended;
