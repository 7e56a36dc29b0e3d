//! What can be wrong with bytes that claim to be SIP. All of it is the peer's fault; the fitting status is named
//! here, whether it is sent is the endpoint's business.

use super::HeaderId;
use super::reject::reject_bytes;
use crate::StatusCode;
use bytes::Bytes;

/// Why a framed message or datagram is not a SIP message that can be handled.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the message says it
pub enum ParseError {
    #[error("no blank line ends the header block")]
    HeaderBlockUnterminated,
    #[error("header block larger than the limit")]
    HeaderBlockTooLong,
    #[error("start line larger than the limit")]
    StartLineTooLong,
    #[error("malformed start line")]
    StartLineMalformed,
    #[error("not SIP/2.0")]
    VersionNotSupported,
    #[error("malformed Request-URI")]
    RequestUriMalformed,
    #[error("status code outside 100..=699")]
    StatusOutOfRange,
    #[error("malformed header line")]
    HeaderLineMalformed,
    #[error("NUL, bare CR or bare LF in the header block")]
    ForbiddenByte,
    #[error("more header lines than the limit")]
    TooManyHeaders,
    #[error("{} missing", .0.name())]
    Missing(HeaderId),
    #[error("{} present more than once", .0.name())]
    Repeated(HeaderId),
    #[error("malformed {}", .0.name())]
    Malformed(HeaderId),
    #[error("CSeq names another method than the request line")]
    MethodMismatch,
    #[error("Content-Length larger than the bytes received")]
    BodyTruncated,
    #[error("body larger than the limit")]
    BodyTooLong,
}

impl ParseError {
    /// The status that tells the sender of a request what was wrong.
    pub fn status(&self) -> StatusCode {
        match self {
            ParseError::VersionNotSupported => StatusCode::VERSION_NOT_SUPPORTED,
            ParseError::HeaderBlockTooLong | ParseError::TooManyHeaders => StatusCode::MESSAGE_TOO_LARGE,
            ParseError::BodyTooLong => StatusCode::REQUEST_ENTITY_TOO_LARGE,
            ParseError::StartLineTooLong => StatusCode::REQUEST_URI_TOO_LONG,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// What broke the framing of a stream.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the message says it
pub enum FrameFault {
    #[error("the bytes do not start a SIP message")]
    NotSip,
    #[error("start line larger than the limit")]
    StartLineTooLong,
    #[error("header block larger than the limit")]
    HeaderBlockTooLong,
    #[error("Content-Length missing")]
    ContentLengthMissing,
    #[error("Content-Length is not a number")]
    ContentLengthMalformed,
    #[error("Content-Length present more than once")]
    ContentLengthRepeated,
    #[error("body larger than the limit")]
    BodyTooLong,
    #[error("more bytes pushed than a framer holds between polls")]
    Overflow,
}

/// Framing is lost: nothing more can be read from this connection, which has to be closed.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("{fault}")]
pub struct FrameError {
    /// What broke it.
    pub fault: FrameFault,
    /// The header block as far as it was received, when there is one.
    pub head: Option<Bytes>,
}

impl FrameError {
    /// The status that tells the sender of a request what was wrong.
    pub fn status(&self) -> StatusCode {
        match self.fault {
            FrameFault::BodyTooLong => StatusCode::REQUEST_ENTITY_TOO_LARGE,
            FrameFault::HeaderBlockTooLong | FrameFault::Overflow => StatusCode::MESSAGE_TOO_LARGE,
            FrameFault::StartLineTooLong => StatusCode::REQUEST_URI_TOO_LONG,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// A refusal to send before closing, if the header block holds what a response must copy.
    pub fn reject_bytes(&self) -> Option<Bytes> {
        reject_bytes(self.head.as_ref()?, self.status(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3261_section_21_each_limit_has_its_status_and_all_else_is_400() {
        let parse = |error: ParseError| error.status().code();
        assert_eq!(parse(ParseError::BodyTooLong), 413);
        assert_eq!(parse(ParseError::StartLineTooLong), 414);
        assert_eq!(parse(ParseError::VersionNotSupported), 505);
        assert_eq!([ParseError::HeaderBlockTooLong, ParseError::TooManyHeaders].map(parse), [513; 2]);
        let other =
            [ParseError::MethodMismatch, ParseError::BodyTruncated, ParseError::Missing(HeaderId::Via)];
        assert_eq!(other.map(parse), [400; 3]);
        let frame = |fault| FrameError { fault, head: None }.status().code();
        assert_eq!(frame(FrameFault::BodyTooLong), 413);
        assert_eq!(frame(FrameFault::StartLineTooLong), 414);
        assert_eq!([FrameFault::HeaderBlockTooLong, FrameFault::Overflow].map(frame), [513; 2]);
        assert_eq!([FrameFault::ContentLengthMissing, FrameFault::NotSip].map(frame), [400; 2]);
    }
}
