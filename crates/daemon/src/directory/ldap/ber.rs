//! Messages of a directory, cut out of the stream and looked through before `ldap3` sees them: that crate reads on for a length of
//! any size, calls itself for every level of nesting and panics where an element is missing. Knows shapes, not what they mean.
//!
//! ```text
//! 30 len  02 len id   64 len …            a0 len …
//!         message id  one of OPERATIONS   controls, at most once
//! ```

/// Longest message. One entry is one message, and of an entry a few attributes are asked for.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting; the attributes of an entry need five.
const DEPTH_MAX: usize = 8;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const CONSTRUCTED: u8 = 0x20;
const TAG_NUMBER: u8 = 0x1f;
const CONTROLS: u8 = 0xa0;
const EXTENDED_RESPONSE: u8 = 0x78;
/// Responses that a client which binds, searches and starts TLS may see (RFC 4511 §4.2.2, §4.5.2, §4.12): bind, entry, done, reference,
/// extended.
const OPERATIONS: [u8; 5] = [0x61, 0x64, 0x65, 0x73, EXTENDED_RESPONSE];

/// Why a stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadMessage {
    #[error("a message is longer than {MESSAGE_BYTES_MAX} octets")]
    TooLong,
    #[error("a message is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("what came is no LDAP message")]
    NoMessage,
    #[error("the directory ended the connection by a notice")]
    Notice,
}

/// One element and what follows it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

/// How long the message is that begins here; `None` while its head is not there.
pub(super) fn message_length(bytes: &[u8]) -> Result<Option<usize>, BadMessage> {
    if bytes.first().is_some_and(|tag| *tag != SEQUENCE) {
        return Err(BadMessage::NoMessage);
    }
    let Some((head, content)) = lengths(bytes)? else { return Ok(None) };
    match head.checked_add(content).filter(|length| *length <= MESSAGE_BYTES_MAX) {
        Some(length) => Ok(Some(length)),
        None => Err(BadMessage::TooLong),
    }
}

/// Whether a whole message has the shape of one.
pub(super) fn check(message: &[u8]) -> Result<(), BadMessage> {
    let (operation, controls) = parts(message)?;
    walk(operation.content, DEPTH_MAX)?;
    match controls {
        [] => Ok(()),
        more => {
            let controls = element(more)?;
            let is_fit = controls.tag == CONTROLS && controls.rest.is_empty();
            if is_fit { walk(controls.content, DEPTH_MAX) } else { Err(BadMessage::NoMessage) }
        }
    }
}

/// The result code of an extended response.
pub(super) fn extended_result(message: &[u8]) -> Result<u8, BadMessage> {
    let (operation, _) = parts(message)?;
    let code = element(operation.content)?;
    match (operation.tag, code.tag, code.content) {
        (EXTENDED_RESPONSE, ENUMERATED, [code]) => Ok(*code),
        _ => Err(BadMessage::NoMessage),
    }
}

/// The operation, and the octets behind it.
fn parts(message: &[u8]) -> Result<(Element<'_>, &[u8]), BadMessage> {
    let whole = element(message)?;
    let id = element(whole.content)?;
    let is_id =
        id.tag == INTEGER && matches!(id.content, [first, ..] if *first < 0x80) && id.content.len() <= 4;
    if whole.tag != SEQUENCE || !whole.rest.is_empty() || !is_id {
        return Err(BadMessage::NoMessage);
    }
    // Message id 0 is that of unsolicited notifications; the one there is says goodbye (RFC 4511 §4.4.1).
    if id.content.iter().all(|octet| *octet == 0) {
        return Err(BadMessage::Notice);
    }
    let operation = element(id.rest)?;
    match OPERATIONS.contains(&operation.tag) {
        true => Ok((Element { rest: &[], ..operation }, operation.rest)),
        false => Err(BadMessage::NoMessage),
    }
}

fn walk(mut bytes: &[u8], depth: usize) -> Result<(), BadMessage> {
    while !bytes.is_empty() {
        let next = element(bytes)?;
        if next.tag & CONSTRUCTED != 0 {
            walk(next.content, depth.checked_sub(1).ok_or(BadMessage::TooDeep)?)?;
        }
        bytes = next.rest;
    }
    Ok(())
}

fn element(bytes: &[u8]) -> Result<Element<'_>, BadMessage> {
    let (head, content) = lengths(bytes)?.ok_or(BadMessage::NoMessage)?;
    let end = head.checked_add(content).filter(|end| *end <= bytes.len()).ok_or(BadMessage::NoMessage)?;
    let (Some(content), Some(rest), Some(tag)) = (bytes.get(head..end), bytes.get(end..), bytes.first())
    else {
        return Err(BadMessage::NoMessage);
    };
    Ok(Element { tag: *tag, content, rest })
}

/// Octets of tag and length, and of the content. Lengths are definite (RFC 4511 §5.1), and no tag of LDAP needs a second octet.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, BadMessage> {
    let [tag, length, more @ ..] = bytes else { return Ok(None) };
    if tag & TAG_NUMBER == TAG_NUMBER {
        return Err(BadMessage::NoMessage);
    }
    match *length {
        short @ 0..=0x7f => Ok(Some((2, usize::from(short)))),
        0x81..=0x84 => {
            let count = usize::from(length - 0x80);
            let number = more
                .get(..count)
                .map(|octets| octets.iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet)));
            let number = number.map(|number| usize::try_from(number).map_err(|_| BadMessage::TooLong));
            Ok(number.transpose()?.map(|number| (2 + count, number)))
        }
        _ => Err(BadMessage::NoMessage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bind response: success.
    const BOUND: [u8; 14] = [0x30, 12, 0x02, 1, 1, 0x61, 7, 0x0a, 1, 0, 0x04, 0, 0x04, 0];

    fn whole(bytes: &[u8]) -> Result<(), BadMessage> {
        assert_eq!(message_length(bytes), Ok(Some(bytes.len())));
        check(bytes)
    }

    #[test]
    fn a_message_is_cut_once_its_head_is_there_and_checked_once_it_is_whole() {
        for had in 0..2 {
            assert_eq!(message_length(&BOUND[..had]), Ok(None), "{had}");
        }
        assert_eq!(message_length(&BOUND[..2]), Ok(Some(14)));
        assert_eq!(whole(&BOUND), Ok(()));
        let long = [&[0x30, 0x83, 0, 0, 12], &BOUND[2..]].concat();
        assert_eq!(whole(&long), Ok(()), "a length in more octets than it needs");
        let with_controls = [&[0x30, 14], &BOUND[2..], &[0xa0, 0]].concat();
        assert_eq!(whole(&with_controls), Ok(()));
        let started = [0x30, 12, 0x02, 1, 1, 0x78, 7, 0x0a, 1, 52, 0x04, 0, 0x04, 0];
        assert_eq!(extended_result(&started), Ok(52));
        assert_eq!(extended_result(&BOUND), Err(BadMessage::NoMessage));
    }

    #[test]
    fn what_is_longer_deeper_or_other_than_a_message_is_refused_before_anything_is_kept_for_it() {
        assert_eq!(message_length(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(BadMessage::TooLong));
        assert_eq!(message_length(&[0x30, 0x85, 1, 0, 0, 0, 0]), Err(BadMessage::NoMessage));
        assert_eq!(message_length(&[0x30, 0x80]), Err(BadMessage::NoMessage), "no definite length");
        assert_eq!(message_length(b"HTTP/1.1 400"), Err(BadMessage::NoMessage));
        let mut deep = vec![0x04, 0];
        for _ in 0..40 {
            deep = [&[0x30, u8::try_from(deep.len()).unwrap()], deep.as_slice()].concat();
        }
        let inner = [&[0x02, 1, 1, 0x64, u8::try_from(deep.len()).unwrap()], deep.as_slice()].concat();
        let message = [&[0x30, u8::try_from(inner.len()).unwrap()], inner.as_slice()].concat();
        assert_eq!(whole(&message), Err(BadMessage::TooDeep));
    }

    #[test]
    fn no_change_of_an_octet_is_read_beyond_the_message() {
        for at in 0..BOUND.len() {
            for octet in 0..=u8::MAX {
                let mut bytes = BOUND;
                bytes[at] = octet;
                let _any_answer_will_do = (message_length(&bytes), check(&bytes), extended_result(&bytes));
            }
        }
        let farewell = [0x30, 12, 0x02, 1, 0, 0x78, 7, 0x0a, 1, 52, 0x04, 0, 0x04, 0];
        assert_eq!(check(&farewell), Err(BadMessage::Notice));
        let request = [0x30, 5, 0x02, 1, 1, 0x42, 0];
        assert_eq!(check(&request), Err(BadMessage::NoMessage), "a request");
        let nested = [0x30, 9, 0x02, 1, 1, 0x64, 4, 0x30, 9, 0x04, 0];
        assert_eq!(check(&nested), Err(BadMessage::NoMessage), "an element longer than its parent");
    }
}
