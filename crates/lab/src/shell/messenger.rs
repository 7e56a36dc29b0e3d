//! The way from a Mailbox server to its UM IP gateway: a connection made when there is something to say, and made again when it is gone.

use std::net::IpAddr;

use sip::FlowKey;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use super::dial::{Dialled, dial};
use super::driver::{Driver, EVENT_QUEUE_MAX, Event};
use crate::frontend::Target;
use crate::um::{LabFact, Messenger, UmReport, Waiting};

/// News waiting for a connection.
const NEWS_MAX: usize = 256;

/// A running messenger. Dropping it ends it.
pub(super) struct Messaging {
    pub(super) news: mpsc::Sender<Waiting>,
    tasks: [JoinHandle<()>; 2],
}

/// Who speaks, from where, to whom.
pub(super) struct MessengerPlan {
    pub(super) server: String,
    pub(super) address: IpAddr,
    pub(super) gateway: String,
    pub(super) target: Target,
    pub(super) seed: u64,
}

impl Messaging {
    /// Starts it; no connection is made before there is news.
    pub(super) fn start(plan: MessengerPlan, facts: broadcast::Sender<LabFact>) -> Self {
        let (sender, events) = mpsc::channel(EVENT_QUEUE_MAX);
        let (news, heard) = mpsc::channel(NEWS_MAX);
        let machine = Messenger::new(&plan.server, &plan.gateway, plan.seed);
        let driver = Driver { machine, events, sender: sender.clone(), media_address: plan.address };
        let told = facts.clone();
        let on_report = move |report| {
            if let UmReport::Fact(fact) = report {
                let _ = told.send(fact);
            }
        };
        let tasks = [tokio::spawn(driver.run(on_report)), tokio::spawn(carry(plan, heard, sender, facts))];
        Messaging { news, tasks }
    }
}

impl Drop for Messaging {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Hands news to the messenger, on a connection.
async fn carry(
    plan: MessengerPlan,
    mut heard: mpsc::Receiver<Waiting>,
    to: mpsc::Sender<Event<Waiting>>,
    facts: broadcast::Sender<LabFact>,
) {
    let (_stop, stopped) = watch::channel(false);
    let mut connection: Option<Dialled> = None;
    let mut key = 0;
    while let Some(waiting) = heard.recv().await {
        if connection.as_ref().is_none_or(|dialled| dialled.task.is_finished()) {
            key += 1;
            match dial(plan.address, &plan.target, FlowKey(key), &to, stopped.clone()).await {
                Ok(dialled) => connection = Some(dialled),
                Err(why) => {
                    let what = format!("message waiting: {} cannot be reached: {why}", plan.gateway);
                    let _ = facts.send(LabFact::Trouble { server: plan.server.clone(), what });
                }
            }
        }
        // Without a connection it waits for the next attempt.
        if to.send(Event::Command(waiting)).await.is_err() {
            return;
        }
    }
}
