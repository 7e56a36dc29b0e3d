//! Simple headers through rsip's typed grammar, on values the wire layer has cut and limited. Tokens that rsip does
//! not know are kept beside what it types, so that nothing a peer listed is lost.

use crate::wire::scan::{is_token, trim};
use crate::{HeaderId, Message, Method};
use bytes::Bytes;
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::{headers, typed};

/// Every method of the Allow lines, in order.
pub fn allow(message: &Message) -> Vec<Method> {
    message.values_bytes(HeaderId::Allow).flat_map(|value| list(&value)).map(|token| method(&token)).collect()
}

/// rsip compares methods without regard to case; only its exact matches are taken.
fn method(token: &Bytes) -> Method {
    let typed = std::str::from_utf8(token).ok().and_then(|text| headers::Allow::new(text).typed().ok());
    match typed.as_ref().map(|allow| allow.0.as_slice()) {
        Some([one]) if one.to_string().as_bytes() == &token[..] => Method::from(*one),
        _ => Method::from_bytes(token),
    }
}

/// Every option tag of Supported, Require, Proxy-Require or Unsupported, in order.
pub fn option_tags(message: &Message, id: HeaderId) -> Vec<Bytes> {
    message.values_bytes(id).flat_map(|value| list(&value)).filter(|tag| is_token(tag)).collect()
}

/// Whether an option tag is listed, in any case.
pub fn has_option(message: &Message, id: HeaderId, tag: &str) -> bool {
    option_tags(message, id).iter().any(|listed| listed.eq_ignore_ascii_case(tag.as_bytes()))
}

/// Expires in seconds; `None` when absent or not a 32-bit number.
pub fn expires(message: &Message) -> Option<u32> {
    headers::Expires::new(text(message, HeaderId::Expires)?).seconds().ok()
}

/// Content-Type with its parameters.
pub fn content_type(message: &Message) -> Option<typed::ContentType> {
    headers::ContentType::new(text(message, HeaderId::ContentType)?).typed().ok()
}

/// Content-Disposition with its parameters.
pub fn content_disposition(message: &Message) -> Option<typed::ContentDisposition> {
    headers::ContentDisposition::new(text(message, HeaderId::ContentDisposition)?).typed().ok()
}

/// Whether the Accept lines admit a media type; a message without Accept admits it (RFC 3261 §20.1 gives
/// `application/sdp` as the default of INVITE and OPTIONS, which are what is asked about).
pub fn accepts(message: &Message, kind: &str, subtype: &str) -> bool {
    let mut ranges = message.values_bytes(HeaderId::Accept).flat_map(|value| list(&value)).peekable();
    let full = format!("{kind}/{subtype}");
    let any = format!("{kind}/*");
    ranges.peek().is_none()
        || ranges.any(|range| {
            let range = trim(range.split(|byte| *byte == b';').next().unwrap_or_default());
            [full.as_str(), any.as_str(), "*/*"].iter().any(|one| range.eq_ignore_ascii_case(one.as_bytes()))
        })
}

fn text(message: &Message, id: HeaderId) -> Option<String> {
    String::from_utf8(message.value_bytes(id)?.to_vec()).ok()
}

fn list(value: &Bytes) -> Vec<Bytes> {
    let items = value.split(|byte| *byte == b',').map(trim).filter(|item| !item.is_empty());
    items.map(|item| value.slice_ref(item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn message(lines: &str) -> Message {
        let text = format!(
            "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nFrom: <sip:f>;tag=1\r\nTo: <sip:t>\r\nCall-ID: c\r\n\
             CSeq: 1 OPTIONS\r\n{lines}\r\n"
        );
        Message::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    #[test]
    fn lists_spread_over_lines_are_joined_and_unknown_tokens_kept() {
        let message = message("Allow: INVITE, PRACK,\r\n BENOTIFY\r\nAllow: invite\r\nk: 100rel , Timer\r\n");
        let expected = [Method::Invite, Method::Prack, Method::Benotify, Method::from_bytes(b"invite")];
        assert_eq!(allow(&message), expected);
        assert!(has_option(&message, HeaderId::Supported, "timer"));
        assert!(!has_option(&message, HeaderId::Require, "timer"));
    }

    #[test]
    fn numbers_and_media_types_are_typed() {
        let message = message(
            "Expires: 60\r\nc: application/sdp\r\nContent-Disposition: session;handling=optional\r\nAccept: application/*;q=1\r\n",
        );
        assert_eq!(expires(&message), Some(60));
        assert_eq!(content_type(&message).map(|typed| typed.to_string()).as_deref(), Some("application/sdp"));
        assert!(content_disposition(&message).is_some_and(|typed| typed.is_session()));
        assert!(accepts(&message, "application", "sdp"));
        assert!(!accepts(&message, "text", "plain"));
    }

    #[test]
    fn rfc_3261_section_20_1_a_media_type_is_accepted_by_name_by_kind_or_with_all_others() {
        for (accept, is_accepted) in [
            ("application/sdp", true),
            ("text/plain, Application/SDP;level=1", true),
            ("application/*", true),
            ("*/*;q=0.1", true),
            ("text/plain", false),
            ("application/pidf+xml, text/*", false),
        ] {
            let message = message(&format!("Accept: {accept}\r\n"));
            assert_eq!(accepts(&message, "application", "sdp"), is_accepted, "{accept}");
        }
    }

    #[test]
    fn what_does_not_type_is_none() {
        let message = message("Expires: 99999999999999\r\n");
        assert_eq!(expires(&message), None);
        assert!(content_type(&message).is_none());
        assert!(accepts(&message, "application", "sdp"));
    }
}
