//! Reports inside readable compound RTCP packets (RFC 3550 §6.4), read and written.
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

use crate::buffer::PacketBuffer;
use crate::head::word32;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const VERSION_BITS: u8 = 2 << 6;
/// Item type of a canonical name (RFC 3550 §6.5.1).
const CNAME: u8 = 1;
const WORD_BYTES: usize = 4;
const SENDER_AT: usize = 4;
const HEAD_BYTES: usize = 8;
const SENDER_INFO_BYTES: usize = 20;
const BLOCK_BYTES: usize = 24;
/// The middle 32 bits of the NTP time, as "last SR" repeats them.
const NTP_MIDDLE_AT: usize = HEAD_BYTES + 2;
const LAST_REPORT_AT: usize = 16;
const DELAY_AT: usize = 20;

/// What a "delay since last SR" counts, per second.
pub(crate) const DELAY_HZ: u32 = 65_536;

/// What one report block says about the way there and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    pub(crate) last_report: u32,
    /// In 1/65536 s.
    pub(crate) delay: u32,
}

/// Who sent the first sender report, and the middle of its NTP time.
pub(crate) fn sender_report(compound: &[u8]) -> Option<(u32, u32)> {
    let report = parts(compound).find(|part| part.get(1) == Some(&SENDER_REPORT))?;
    let is_whole = report.len() >= HEAD_BYTES + SENDER_INFO_BYTES;
    is_whole.then(|| (word32(report, SENDER_AT), word32(report, NTP_MIDDLE_AT)))
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

/// What a sender report says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderInfo {
    /// NTP time, 32.32 bits.
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

/// What a report block says of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) ssrc: u32,
    /// Lost since the last report, in 1/256 of what was expected.
    pub(crate) fraction: u8,
    /// Lost so far.
    pub(crate) lost: u32,
    /// Sequence number with its cycles.
    pub(crate) highest: u32,
    /// In timestamp units.
    pub(crate) jitter: u32,
}

/// The largest number of lost packets that a block can tell.
const LOST_MAX: u32 = 0x7F_FFFF;

/// Writes a report of `ssrc` and the description of its canonical name: a compound (RFC 3550 §6.1).
pub(crate) fn write_report(
    out: &mut PacketBuffer,
    ssrc: u32,
    info: Option<SenderInfo>,
    received: Option<(Received, Option<ReportBlock>)>,
    name: &[u8],
) {
    let kind = if info.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
    let block_bytes = if received.is_some() { BLOCK_BYTES } else { 0 };
    let info_bytes = if info.is_some() { SENDER_INFO_BYTES } else { 0 };
    out.truncate(0);
    write_head(out, u8::from(received.is_some()), kind, HEAD_BYTES + info_bytes + block_bytes);
    out.append(&ssrc.to_be_bytes());
    if let Some(info) = info {
        out.append(&info.ntp.to_be_bytes());
        write_words(out, &[info.timestamp, info.packets, info.octets]);
    }
    if let Some((received, report)) = received {
        let report = report.unwrap_or(ReportBlock { last_report: 0, delay: 0 });
        let loss = u32::from(received.fraction) << 24 | received.lost.min(LOST_MAX);
        write_words(out, &[received.ssrc, loss, received.highest, received.jitter]);
        write_words(out, &[report.last_report, report.delay]);
    }
    write_name(out, ssrc, name);
}

/// One chunk with one item, ended by at least one zero octet and filled to a word (RFC 3550 §6.5).
fn write_name(out: &mut PacketBuffer, ssrc: u32, name: &[u8]) {
    let items = 2 + name.len();
    let filled = (items / WORD_BYTES + 1) * WORD_BYTES;
    write_head(out, 1, SOURCE_DESCRIPTION, HEAD_BYTES + filled);
    out.append(&ssrc.to_be_bytes());
    out.append(&[CNAME, name.len() as u8]);
    out.append(name);
    (items..filled).for_each(|_| {
        out.append(&[0]);
    });
}

fn write_words(out: &mut PacketBuffer, words: &[u32]) {
    for word in words {
        out.append(&word.to_be_bytes());
    }
}

fn write_head(out: &mut PacketBuffer, count: u8, kind: u8, bytes: usize) {
    let words = (bytes / WORD_BYTES - 1) as u16;
    out.append(&[VERSION_BITS | count, kind]);
    out.append(&words.to_be_bytes());
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
        assert_eq!(sender_report(&compound), Some((1, 0x0203_0405)));
    }

    #[test]
    fn what_is_written_walks_to_its_end_and_reads_back() {
        let info = SenderInfo { ntp: 0x1111_2222_3333_4444, timestamp: 5, packets: 6, octets: 7 };
        let block = Received { ssrc: 8, fraction: 9, lost: u32::MAX, highest: 0x1_0002, jitter: 11 };
        let answered = ReportBlock { last_report: 12, delay: 13 };
        for name in [&b"sixteen-letters-"[..], b"one", b"si", b""] {
            let mut out = PacketBuffer::new();
            for sender in [Some(info), None] {
                write_report(&mut out, 77, sender, Some((block, Some(answered))), name);
                assert_eq!(crate::head::walk_compound(out.as_slice()), Ok(crate::head::Compound::Reports));
                assert!(out.as_slice().len().is_multiple_of(4));
                assert_eq!(sender_report(out.as_slice()), sender.map(|_| (77, 0x2222_3333)));
                assert_eq!(report_blocks(out.as_slice()).collect::<Vec<_>>(), [answered]);
                let at = if sender.is_some() { 28 } else { 8 };
                assert_eq!(word32(out.as_slice(), at + 4), 9 << 24 | LOST_MAX);
                assert_eq!(word32(out.as_slice(), at + 8), 0x1_0002);
                let described = at + 24;
                let text = out.as_slice().get(described + 10..).unwrap();
                assert!(text.starts_with(name) && text[name.len()..].iter().all(|octet| *octet == 0));
                assert!(text.len() > name.len(), "a zero ends the items");
            }
            write_report(&mut out, 77, None, None, name);
            assert_eq!((out.as_slice()[0], report_blocks(out.as_slice()).count()), (0x80, 0));
        }
    }

    #[test]
    fn a_report_that_claims_more_than_it_has_says_what_it_has() {
        let short = [0x9F, 201, 0, 1, 0, 0, 0, 1];
        assert_eq!(report_blocks(&short).count(), 0);
        assert_eq!(sender_report(&[0x80, 200, 0, 1, 0, 0, 0, 1]), None);
        assert_eq!(sender_report(&[0x80, 200, 0, 99, 0, 0, 0, 1]), None);
    }
}
