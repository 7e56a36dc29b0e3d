//! Which calls speak on a flow, so that a lost connection costs what hangs on it and not what else is held. Owns the
//! index; refuses to know calls and connections. The engine brings it up to date after every input.

use std::collections::BTreeSet;

use sip::FlowKey;

use super::io::CallKey;

/// The flows of both legs of a call.
pub(crate) type LegFlows = [Option<FlowKey>; 2];

/// The index.
#[derive(Default)]
pub(crate) struct FlowUsers {
    pairs: BTreeSet<(FlowKey, CallKey)>,
}

impl FlowUsers {
    /// A call spoke on those flows and now speaks on these.
    pub fn update(&mut self, call: CallKey, was: LegFlows, is: LegFlows) {
        if was == is {
            return;
        }
        for flow in was.into_iter().flatten() {
            self.pairs.remove(&(flow, call));
        }
        self.pairs.extend(is.into_iter().flatten().map(|flow| (flow, call)));
    }

    /// The calls on a flow, in the order of their keys.
    pub fn of(&self, flow: FlowKey) -> Vec<CallKey> {
        // The lowest key there can be; the null key is the highest.
        let from = self.pairs.range((flow, CallKey::from_u64(0))..);
        from.take_while(|(key, _)| *key == flow).map(|(_, call)| *call).collect()
    }

    /// Whether any call is on a flow.
    pub fn has(&self, flow: FlowKey) -> bool {
        self.pairs.range((flow, CallKey::from_u64(0))..).next().is_some_and(|(key, _)| *key == flow)
    }

    /// How many pairs of flow and call.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_has_the_calls_that_speak_on_it_now_and_no_others() {
        let call = CallKey::from_u64;
        let (one, two) = (call((1 << 32) | 1), call((1 << 32) | 2));
        let [a, b, c] = [1, 2, 3].map(|key| Some(FlowKey(key)));
        let mut users = FlowUsers::default();
        users.update(two, [None, None], [a, b]);
        users.update(one, [None, None], [b, b]);
        assert_eq!((users.of(FlowKey(1)), users.of(FlowKey(2))), (vec![two], vec![one, two]));
        users.update(two, [a, b], [c, b]);
        assert!(!users.has(FlowKey(1)) && users.has(FlowKey(2)) && users.has(FlowKey(3)));
        assert_eq!((users.of(FlowKey(1)), users.of(FlowKey(3)), users.len()), (vec![], vec![two], 3));
        users.update(one, [b, b], [None, None]);
        users.update(two, [c, b], [None, None]);
        assert_eq!(users.len(), 0);
    }
}
