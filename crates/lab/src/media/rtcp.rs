//! Sender reports (RFC 3550 §6.4.1) with a CNAME: enough to keep a trunk that watches RTCP alive.

use super::rtp::Sender;

const VERSION: u8 = 2;
const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
const CNAME: u8 = 1;
const NAME: &[u8] = b"umbra-lab";

/// Writes a compound packet into `out`.
pub(super) fn write_report(sender: &Sender, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[VERSION << 6, SENDER_REPORT, 0, 6]);
    out.extend_from_slice(&sender.ssrc.to_be_bytes());
    // No wall clock here: a sender without one may send zero (RFC 3550 §6.4.1).
    out.extend_from_slice(&[0; 8]);
    for word in [sender.timestamp, sender.packets, sender.octets] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let start = out.len();
    out.extend_from_slice(&[VERSION << 6 | 1, SOURCE_DESCRIPTION, 0, 0]);
    out.extend_from_slice(&sender.ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME, NAME.len() as u8]);
    out.extend_from_slice(NAME);
    out.push(0);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    out[start + 3] = ((out.len() - start) / 4 - 1) as u8;
}
