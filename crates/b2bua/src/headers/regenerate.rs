//! Headers that are stated anew: P-Asserted-Identity, History-Info, Referred-By. An entry that parses is repeated byte
//! for byte, any other is left out; a line of which nothing was left out is repeated as a whole.
//!
//! A gateway between two trust domains answers for what it asserts (RFC 3325 §5), so nothing crosses that it cannot
//! read. Every configured peer is trusted; strangers get no call.

use sip::{HeaderId, Message, NameAddr, Scheme};

use super::block::Block;

/// Entries of History-Info that cross; longer histories are loops.
const HISTORY_ENTRIES_MAX: usize = 32;

/// States every line of a header of a message anew.
pub(super) fn restate(message: &Message, id: HeaderId, block: &mut Block) {
    match id {
        HeaderId::PAssertedIdentity => {
            let mut told = Told::default();
            lists(message, id, block, |entry| told.takes(entry));
        }
        HeaderId::HistoryInfo => {
            let mut left = HISTORY_ENTRIES_MAX;
            lists(message, id, block, |entry| {
                let fits = left > 0 && entry.uri.scheme() != Scheme::Other;
                left = left.saturating_sub(1);
                fits
            });
        }
        _ => referrer(message, id, block),
    }
}

fn lists(message: &Message, id: HeaderId, block: &mut Block, mut keeps: impl FnMut(&NameAddr) -> bool) {
    for value in message.values_bytes(id) {
        let Ok(entries) = NameAddr::parse_list(value.clone()) else { continue };
        let all = entries.len();
        let kept: Vec<NameAddr> = entries.into_iter().filter(&mut keeps).collect();
        if kept.is_empty() {
            continue;
        }
        if kept.len() == all {
            block.header(id, &value);
            continue;
        }
        let raw: Vec<&[u8]> = kept.iter().map(|entry| &entry.raw[..]).collect();
        block.header(id, raw.join(&b", "[..]));
    }
}

/// RFC 3325 §9.1: one identity, or one `sip` or `sips` and one `tel`.
#[derive(Default)]
struct Told {
    sip: usize,
    tel: usize,
}

impl Told {
    fn takes(&mut self, entry: &NameAddr) -> bool {
        let told = match entry.uri.scheme() {
            Scheme::Sip | Scheme::Sips => &mut self.sip,
            Scheme::Tel => &mut self.tel,
            Scheme::Other => return false,
        };
        *told += 1;
        *told == 1
    }
}

/// RFC 3892 §2.1: `cid` points to a body part, and the body does not cross.
fn referrer(message: &Message, id: HeaderId, block: &mut Block) {
    let Some(value) = message.value_bytes(id) else { return };
    let Ok(entry) = NameAddr::parse_one(value.clone()) else { return };
    if entry.param("cid").is_none() {
        block.header(id, &value);
        return;
    }
    let mut out = Vec::with_capacity(value.len());
    out.extend_from_slice(entry.display.as_deref().unwrap_or_default());
    out.push(b'<');
    out.extend_from_slice(entry.uri.raw());
    out.push(b'>');
    for (name, value) in entry.params().filter(|(name, _)| !name.eq_ignore_ascii_case(b"cid")) {
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    block.header(id, out);
}
