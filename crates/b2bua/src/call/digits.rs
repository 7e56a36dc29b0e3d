//! Digits that change their form on the way: INFO on one leg, events in RTP on the other. Owns the step from one to the other;
//! which legs that is for stands in the media plan.

use std::time::{Duration, Instant};

use relay::{Digit, Side};
use sip::{HeaderId, Message, Method};

use super::{Call, MediaState, State};
use crate::dtmf;
use crate::engine::core::{ClientUse, Core};
use crate::engine::{MediaCommand, Output};

impl Call {
    /// Whether an INFO of a side was a digit that goes on as an event; else it is carried on as it is.
    pub(super) fn takes_digit(&self, cx: &mut Core, from: Side, request: &Message) -> bool {
        let MediaState::Ready(media) = &self.media else { return false };
        let kind = request.header(HeaderId::ContentType).unwrap_or_default();
        let Some((digit, lasts)) = dtmf::read(kind, &request.body()).filter(|_| media.turns_digits(!from))
        else {
            return false;
        };
        cx.count("digits_to_events");
        cx.outputs.push_back(Output::Media(MediaCommand::Press {
            call: self.key,
            side: !from,
            digit,
            lasts,
        }));
        true
    }

    /// A side pressed a key in RTP, and the other one has its digits in INFO. Nobody waits for the answer.
    pub(super) fn tell_digit(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        digit: Digit,
        lasted: Duration,
    ) {
        let is_up = matches!(
            self.state,
            State::Answering { .. } | State::Established | State::Renegotiating(_) | State::Refreshing(_)
        );
        let Some(flow) = self.leg(!side).flow.filter(|_| is_up) else { return };
        let info = self.speaking_dialog(!side).map(|dialog| dialog.request(Method::Info));
        let body = dtmf::write(digit, lasted);
        let info = info.and_then(|draft| draft.body(dtmf::RELAY_TYPE.as_bytes(), body.into()).finish().ok());
        let sent = info.and_then(|info| cx.send(now, &flow, info, ClientUse::Digit));
        cx.count(if sent.is_some() { "digits_to_info" } else { "digits_lost" });
    }
}
