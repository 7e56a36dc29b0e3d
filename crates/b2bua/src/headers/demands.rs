//! What a request demands of whoever serves it (RFC 3261 §8.2.2.3). Owns the list of what is met here; what a demand
//! means stands with the feature.

use sip::{HeaderId, Message, Method};

use crate::verdict::clean;

/// Option tags that a request may require.
const REQUIRABLE: [&str; 3] = ["timer", "100rel", "replaces"];
const REQUIRABLE_OF_REFER: [&str; 2] = ["norefersub", "replaces"];

/// The option tags a request requires and that are unknown here, as the value of Unsupported; empty when all are known.
pub(crate) fn unsupported(request: &Message) -> String {
    let known: &[&str] = match request.method() {
        Method::Refer => &REQUIRABLE_OF_REFER,
        _ => &REQUIRABLE,
    };
    let tags = request.values(HeaderId::Require).flat_map(|list| list.split(|byte| *byte == b','));
    let is_unknown = |tag: &&[u8]| !known.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(tag));
    let unknown = tags.map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty()).filter(is_unknown);
    unknown.map(|tag| clean(&String::from_utf8_lossy(tag))).collect::<Vec<_>>().join(", ")
}
