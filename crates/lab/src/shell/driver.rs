//! The loop that turns a role from a value into something alive: inputs from connections, media tasks, owner and clock; outputs to the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use sip::{Flow, FlowKey};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::media_io;
use crate::machine::{Input, Machine, Output};
use crate::media::{MediaCommand, MediaFact, MediaKey};

/// Events waiting at one role.
pub(super) const EVENT_QUEUE_MAX: usize = 8_192;

/// What reaches a role's loop.
pub(super) enum Event<C> {
    Up { flow: Flow, writer: mpsc::Sender<Bytes> },
    Down(FlowKey),
    Bytes { flow: FlowKey, bytes: Bytes },
    Media { key: MediaKey, fact: MediaFact },
    Command(C),
    Quit,
}

/// A role, its connections and its media tasks.
pub(super) struct Driver<M: Machine> {
    pub(super) machine: M,
    pub(super) events: mpsc::Receiver<Event<M::Command>>,
    pub(super) sender: mpsc::Sender<Event<M::Command>>,
    pub(super) media_address: IpAddr,
}

struct Hands<C> {
    writers: BTreeMap<FlowKey, mpsc::Sender<Bytes>>,
    media: BTreeMap<MediaKey, mpsc::Sender<MediaCommand>>,
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Event<C>>,
    address: IpAddr,
}

impl<M: Machine> Driver<M> {
    /// Runs until told to quit; reports go to `on_report`.
    pub(super) async fn run(self, mut on_report: impl FnMut(M::Report) + Send) {
        let Driver { mut machine, mut events, sender, media_address } = self;
        let mut hands = Hands {
            writers: BTreeMap::new(),
            media: BTreeMap::new(),
            tasks: JoinSet::new(),
            sender,
            address: media_address,
        };
        loop {
            let deadline = machine.poll_deadline();
            let wake = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let input = tokio::select! {
                event = events.recv() => match event.and_then(|e| hands.on_event(e)) {
                    Some(input) => input,
                    None => break,
                },
                () = wake => Input::Timeout,
            };
            machine.handle(Instant::now(), input);
            while let Some(output) = machine.poll_output() {
                match output {
                    Output::Send { flow, bytes } => hands.send(flow, bytes),
                    Output::Media { key, command } => hands.media(key, command),
                    // Its task sees the end of its queue and closes.
                    Output::Close(flow) => drop(hands.writers.remove(&flow)),
                    Output::Report(report) => on_report(report),
                }
            }
            while hands.tasks.try_join_next().is_some() {}
        }
        hands.media.clear();
        hands.writers.clear();
        hands.tasks.shutdown().await;
    }
}

impl<C: Send + 'static> Hands<C> {
    /// `None` = quit.
    fn on_event(&mut self, event: Event<C>) -> Option<Input<C>> {
        Some(match event {
            Event::Up { flow, writer } => {
                self.writers.insert(flow.key, writer);
                Input::FlowUp(flow)
            }
            Event::Down(key) => {
                self.writers.remove(&key);
                Input::FlowDown(key)
            }
            Event::Bytes { flow, bytes } => Input::Bytes { flow, bytes },
            Event::Media { key, fact } => {
                if matches!(fact, MediaFact::Stopped(_)) {
                    self.media.remove(&key);
                }
                Input::Media { key, fact }
            }
            Event::Command(command) => Input::Command(command),
            Event::Quit => return None,
        })
    }

    /// A peer that does not read loses its connection rather than our memory.
    fn send(&mut self, flow: FlowKey, bytes: Bytes) {
        let Some(writer) = self.writers.get(&flow) else { return };
        if writer.try_send(bytes).is_err() {
            self.writers.remove(&flow);
        }
    }

    fn media(&mut self, key: MediaKey, command: MediaCommand) {
        if let MediaCommand::Allocate = command {
            let (commands, queue) = mpsc::channel(media_io::COMMAND_QUEUE_MAX);
            self.tasks.spawn(media_io::run(key, self.address, queue, self.sender.clone()));
            self.media.insert(key, commands);
            return;
        }
        if let Some(task) = self.media.get(&key)
            && task.try_send(command).is_err()
        {
            // Its end is told by itself once its queue closes.
            self.media.remove(&key);
        }
    }
}
