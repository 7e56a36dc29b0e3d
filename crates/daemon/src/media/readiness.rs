//! Which sockets of a media thread have packets: epoll, level triggered.
//!
//! Owns the poller and the bell that commands ring. Refuses to know calls: a socket is a number. A socket
//! that was not emptied is told of again, so one packet a turn is enough and nobody can crowd out the others.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, read, write};

/// Sockets told of at once.
const EVENTS_MAX: usize = 256;
/// The bell among the numbers of sockets.
const BELL: u64 = u64::MAX;

/// The poller of one thread.
pub(super) struct Readiness {
    epoll: OwnedFd,
    bell: Arc<Bell>,
}

/// Who was told of by one wait.
pub(super) struct Ready(Vec<Event>);

impl Ready {
    pub(super) fn new() -> Self {
        Ready(Vec::with_capacity(EVENTS_MAX))
    }

    /// The numbers of the sockets with packets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|event| event.data.u64()).filter(|number| *number != BELL)
    }
}

/// Wakes the thread; a second ring before it has looked costs no system call.
pub(super) struct Bell {
    eventfd: OwnedFd,
    is_rung: AtomicBool,
}

impl Bell {
    pub(super) fn ring(&self) -> io::Result<()> {
        if self.is_rung.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        match write(&self.eventfd, &1u64.to_ne_bytes()) {
            // The counter is full: it has been rung.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The thread is about to look for commands.
    fn is_heard(&self) {
        // Nothing to read is nothing rung.
        let _ = read(&self.eventfd, &mut [0; 8]);
        self.is_rung.store(false, Ordering::Release);
    }
}

impl Readiness {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &eventfd, EventData::new_u64(BELL), EventFlags::IN)?;
        let bell = Arc::new(Bell { eventfd, is_rung: AtomicBool::new(false) });
        Ok(Readiness { epoll, bell })
    }

    /// What wakes this thread.
    pub(super) fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// Tells of a socket from now on, until it is closed.
    pub(super) fn watch(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(number), EventFlags::IN)?)
    }

    /// Waits until a socket is ready or the bell rings, at most for `patience`.
    pub(super) fn wait(&self, ready: &mut Ready, patience: Option<Duration>) -> io::Result<()> {
        let patience = patience.and_then(|time| Timespec::try_from(time).ok());
        ready.0.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut ready.0), patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ready.0.iter().any(|event| event.data.u64() == BELL) {
            self.bell.is_heard();
        }
        Ok(())
    }
}
