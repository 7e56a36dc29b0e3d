//! Authenticated decryption of what one leg sends.
//!
//! Owns the MKI check and the lifetime of the key. Refuses to know where a packet came from.

use crate::buffer::PacketBuffer;
use crate::head::Head;
use crate::key::{KeyParams, Mki, SameKey};
use crate::stats::Why;
use crate::transform::{Progress, SourceIndex, Transform, transform};

use super::budget::Budget;
use super::{Clear, SOURCES_MAX, Sealed, bytes_after_mki};

/// Opens SRTP and SRTCP under one key.
pub(crate) struct Opener {
    params: KeyParams,
    transform: Box<dyn Transform>,
    budget: Budget,
    /// Sources that were heard under former keys and perhaps not yet under this one.
    former: Progress,
    is_exhausted: bool,
}

impl Opener {
    pub(super) fn new(params: &KeyParams) -> Option<Self> {
        Some(Opener {
            transform: transform(params, SOURCES_MAX)?,
            params: params.clone(),
            budget: Budget::new(params),
            former: Progress::default(),
            is_exhausted: false,
        })
    }

    /// An opener for what was agreed instead: under the same key it goes on, under a new one its sources may.
    pub(super) fn replaced(&self, params: &KeyParams, same_key: SameKey) -> Option<Self> {
        let mut opener = Opener::new(params)?;
        if same_key == SameKey::Yes {
            // A provider that cannot begins anew, which costs replays their memory and no more.
            opener.resume(&self.progress());
        }
        opener.former = self.heard();
        opener.transform.succeed(&opener.former);
        Some(opener)
    }

    /// Every source heard under this key, then under former ones.
    fn heard(&self) -> Progress {
        let mut heard = self.progress();
        let is_new = |source: &&SourceIndex| heard.rtp.iter().all(|known| known.ssrc != source.ssrc);
        let before: Vec<SourceIndex> = self.former.rtp.iter().filter(is_new).copied().collect();
        heard.rtp.extend(before);
        heard.rtp.truncate(SOURCES_MAX);
        heard
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

    pub(super) fn open<'p>(&mut self, sealed: Sealed<'p>) -> Result<Clear<'p>, Why> {
        let Sealed { buffer, head } = sealed;
        if let Some(mki) = &self.params.mki {
            strip_mki(buffer, mki, bytes_after_mki(self.params.suite, head))?;
        }
        match head {
            Head::Rtp(rtp) => self.transform.open_rtp(&rtp, buffer),
            Head::Rtcp(rtcp) => self.transform.open_rtcp(&rtcp, buffer),
        }
        // Only an authentic packet may tell that the key is used up.
        .and_then(|()| self.budget.check(head))
        .inspect_err(|why| self.is_exhausted |= *why == Why::KeyExhausted)?;
        self.budget.spend(head);
        Clear::new(buffer, head)
    }
}

/// The MKI is not covered by the tag, so it is compared and cut out.
fn strip_mki(buffer: &mut PacketBuffer, mki: &Mki, tail: usize) -> Result<(), Why> {
    let mki = mki.as_bytes();
    let packet = buffer.as_slice();
    let start = packet.len().checked_sub(mki.len() + tail).ok_or(Why::NotSealed)?;
    if packet.get(start..start + mki.len()) != Some(mki) {
        return Err(Why::Unauthentic);
    }
    if buffer.cut_before_tail(mki.len(), tail) { Ok(()) } else { Err(Why::NotSealed) }
}
