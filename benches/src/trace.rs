//! The inputs of an engine, recorded once and given to fresh engines as often as wanted: one seed and one order of
//! inputs give the same outputs, so nothing of the far ends is measured. Bytes go through framing as in the daemon.

use std::sync::Arc;
use std::time::Instant;

use b2bua::engine::{CallKey, Engine, EngineConfig, FlowUp, Input, MediaPorts};
use b2bua::policy::Policy;
use bytes::Bytes;
use sip::{FlowKey, Frame, Framer, Limits};

/// One input.
pub(crate) enum Step {
    Up(FlowUp),
    Bytes(FlowKey, Bytes),
    Ready(CallKey),
    Timeout,
}

/// Inputs in order, with the places where a measurement starts or ends.
pub struct Trace {
    pub(crate) start: Instant,
    pub(crate) policy: Arc<Policy>,
    pub(crate) steps: Vec<(Instant, Step)>,
    pub(crate) marks: Vec<usize>,
}

pub(crate) fn engine(start: Instant, policy: &Arc<Policy>) -> Engine {
    Engine::new(EngineConfig::new(7, [3; 32], start), policy.clone())
}

pub(crate) fn media_ready(call: CallKey) -> Input {
    let ports = MediaPorts { a_rtp: 20000, a_rtcp: 20001, b_rtp: 20002, b_rtcp: 20003 };
    Input::MediaReady { call, result: Ok(ports) }
}

impl Trace {
    /// A fresh engine that stands before the first input.
    pub fn replay(&self) -> Replay<'_> {
        let flows = self.steps.iter().filter(|(_, step)| matches!(step, Step::Up(_))).count();
        let framers = (0..=flows).map(|_| Framer::new(Limits::default())).collect();
        Replay { trace: self, engine: engine(self.start, &self.policy), framers, at: 0 }
    }
}

/// One engine on its way through a trace.
pub struct Replay<'a> {
    trace: &'a Trace,
    engine: Engine,
    framers: Vec<Framer>,
    at: usize,
}

impl Replay<'_> {
    /// Feeds everything before that mark; the number of outputs.
    pub fn run_to(&mut self, mark: usize) -> usize {
        let end = self.trace.marks.get(mark).copied().unwrap_or(self.trace.steps.len());
        let mut outputs = 0;
        while self.at < end {
            let Some((now, step)) = self.trace.steps.get(self.at) else { break };
            outputs += self.feed(*now, step);
            self.at += 1;
        }
        outputs
    }

    /// Feeds everything.
    pub fn run(&mut self) -> usize {
        self.run_to(usize::MAX)
    }

    /// Calls held now.
    pub fn calls(&self) -> usize {
        self.engine.status().calls
    }

    fn feed(&mut self, now: Instant, step: &Step) -> usize {
        match step {
            Step::Up(up) => self.handle(now, Input::FlowUp(up.clone())),
            Step::Ready(call) => self.handle(now, media_ready(*call)),
            Step::Timeout => self.handle(now, Input::Timeout),
            Step::Bytes(flow, bytes) => {
                let Some(framer) = self.framers.get_mut(flow.0 as usize) else { return 0 };
                framer.push(bytes);
                match framer.poll() {
                    Ok(Some(Frame::Message(bytes))) => {
                        self.handle(now, Input::Message { flow: *flow, bytes })
                    }
                    _ => 0,
                }
            }
        }
    }

    fn handle(&mut self, now: Instant, input: Input) -> usize {
        self.engine.handle(now, input);
        let mut outputs = 0;
        while let Some(output) = self.engine.poll_output() {
            std::hint::black_box(&output);
            outputs += 1;
        }
        outputs
    }
}
