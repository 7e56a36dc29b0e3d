//! Reports inside readable compound RTCP packets (RFC 3550 §6.4).
//!
//! Owns where their fields stand. Refuses to judge: the walk in [`crate::head`] has checked that the parts fit.
//!
//! ```text
//!  |V=2|P|   RC    |  200 or 201   |             length            |
//!  |                        SSRC of sender                         |
//!  |   NTP time, RTP time, packets, octets: 20 octets, 200 only    |
//!  |  report blocks, RC × 24 octets: SSRC, loss, highest sequence, |
//!  |                 jitter, last SR, delay since last SR          |
//! ```

use crate::head::word32;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const HEAD_BYTES: usize = 8;
const SENDER_INFO_BYTES: usize = 20;
const BLOCK_BYTES: usize = 24;
/// The middle 32 bits of the NTP time, as "last SR" repeats them.
const NTP_MIDDLE_AT: usize = HEAD_BYTES + 2;
const LAST_REPORT_AT: usize = 16;
const DELAY_AT: usize = 20;

/// What one report block says about the way there and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    pub(crate) last_report: u32,
    /// In 1/65536 s.
    pub(crate) delay: u32,
}

/// The middle of the NTP time of the first sender report.
pub(crate) fn sender_report(compound: &[u8]) -> Option<u32> {
    let report = parts(compound).find(|part| part.get(1) == Some(&SENDER_REPORT))?;
    (report.len() >= HEAD_BYTES + SENDER_INFO_BYTES).then(|| word32(report, NTP_MIDDLE_AT))
}

/// All report blocks of all reports.
pub(crate) fn report_blocks(compound: &[u8]) -> impl Iterator<Item = ReportBlock> {
    parts(compound).flat_map(|part| {
        let skipped = match part.get(1) {
            Some(&SENDER_REPORT) => HEAD_BYTES + SENDER_INFO_BYTES,
            Some(&RECEIVER_REPORT) => HEAD_BYTES,
            _ => part.len(),
        };
        let count = part.first().map_or(0, |octet| usize::from(octet & 0x1F));
        let blocks = part.get(skipped..).unwrap_or_default().chunks_exact(BLOCK_BYTES).take(count);
        blocks.map(|block| ReportBlock {
            last_report: word32(block, LAST_REPORT_AT),
            delay: word32(block, DELAY_AT),
        })
    })
}

fn parts(compound: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let words = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
        let (part, behind) = rest.split_at_checked((usize::from(words) + 1) * 4)?;
        rest = behind;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_behind_sender_and_receiver_reports() {
        let mut compound = vec![0x81, 200, 0, 12, 0, 0, 0, 1];
        compound.extend((0..20).map(|octet| octet as u8));
        compound.extend([9; 16]);
        compound.extend([0, 0, 0, 5, 0, 0, 0, 6]);
        compound.extend([0x81, 202, 0, 1, 0, 0, 0, 1]);
        compound.extend([0x81, 201, 0, 7, 0, 0, 0, 2]);
        compound.extend([9; 16]);
        compound.extend([0, 0, 0, 7, 0, 0, 0, 8]);
        let blocks: Vec<_> = report_blocks(&compound).map(|block| (block.last_report, block.delay)).collect();
        assert_eq!(blocks, [(5, 6), (7, 8)]);
        assert_eq!(sender_report(&compound), Some(0x0203_0405));
    }

    #[test]
    fn a_report_that_claims_more_than_it_has_says_what_it_has() {
        let short = [0x9F, 201, 0, 1, 0, 0, 0, 1];
        assert_eq!(report_blocks(&short).count(), 0);
        assert_eq!(sender_report(&[0x80, 200, 0, 1, 0, 0, 0, 1]), None);
        assert_eq!(sender_report(&[0x80, 200, 0, 99, 0, 0, 0, 1]), None);
    }
}
