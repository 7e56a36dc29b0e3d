//! Protection of what is sent to one leg.
//!
//! Owns the MKI and the lifetime of the key; that no index is protected twice is the transform's duty. Refuses to
//! know where packets go.

use crate::head::Head;
use crate::key::KeyParams;
use crate::stats::Why;
use crate::transform::{Progress, Transform, transform};

use super::budget::Budget;
use super::{Clear, Sealed, bytes_after_mki};

/// Sources forwarded under one key, RTP and RTCP each. More than a peer may use, since a clear leg proves nothing.
const SOURCES_MAX: usize = 64;

/// Protects RTP and RTCP under one key.
pub(crate) struct Sealer {
    params: KeyParams,
    transform: Box<dyn Transform>,
    budget: Budget,
    is_exhausted: bool,
}

impl Sealer {
    pub(super) fn new(params: &KeyParams) -> Option<Self> {
        Some(Sealer {
            transform: transform(params, SOURCES_MAX)?,
            params: params.clone(),
            budget: Budget::new(params),
            is_exhausted: false,
        })
    }

    pub(super) fn progress(&self) -> Progress {
        self.transform.progress()
    }

    pub(super) fn resume(&mut self, from: &Progress) -> bool {
        self.transform.resume(from)
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    pub(super) fn seal<'p>(&mut self, clear: Clear<'p>) -> Result<Sealed<'p>, Why> {
        let Clear { buffer, head, .. } = clear;
        self.budget
            .check(head)
            .and_then(|()| match head {
                Head::Rtp(rtp) => self.transform.seal_rtp(&rtp, buffer),
                Head::Rtcp(rtcp) => self.transform.seal_rtcp(&rtcp, buffer),
            })
            .inspect_err(|why| self.is_exhausted |= *why == Why::KeyExhausted)?;
        self.budget.spend(head);
        if let Some(mki) = &self.params.mki
            && !buffer.insert_before_tail(mki.as_bytes(), bytes_after_mki(self.params.suite, head))
        {
            return Err(Why::TooLong);
        }
        Ok(Sealed { buffer, head })
    }
}
