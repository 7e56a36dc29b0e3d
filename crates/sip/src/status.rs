//! Status codes: a number from 100 to 699, its class, and the reason phrase that its RFC registers.
//! rsip's table supplies the number vocabulary; phrases are ours because rsip prints identifiers instead.

use std::fmt;

/// A response status, 100 to 699.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct StatusCode(u16);

impl StatusCode {
    /// The code, unless it is outside 100..=699.
    pub const fn new(code: u16) -> Option<StatusCode> {
        if code >= 100 && code <= 699 { Some(StatusCode(code)) } else { None }
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The three digits as they stand in a status line.
    pub(crate) const fn digits(self) -> [u8; 3] {
        [b'0' + (self.0 / 100) as u8, b'0' + (self.0 / 10 % 10) as u8, b'0' + (self.0 % 10) as u8]
    }

    /// 1 to 6.
    pub const fn class(self) -> u16 {
        self.0 / 100
    }

    /// 1xx.
    pub const fn is_provisional(self) -> bool {
        self.class() == 1
    }

    /// 2xx.
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }

    /// 3xx.
    pub const fn is_redirect(self) -> bool {
        self.class() == 3
    }

    /// Anything but 1xx.
    pub const fn is_final(self) -> bool {
        self.class() != 1
    }

    /// Whether the number stands in the common vocabulary (rsip's table of registered codes).
    pub fn is_registered(self) -> bool {
        !matches!(rsip::StatusCode::from(self.0), rsip::StatusCode::Other(..))
    }

    /// The registered reason phrase, or the phrase of the class for numbers nobody registered.
    pub fn default_reason(self) -> &'static str {
        match PHRASES.binary_search_by_key(&self.0, |(code, _)| *code) {
            Ok(at) => PHRASES[at].1,
            Err(_) => match self.class() {
                1 => "Session Progress",
                2 => "OK",
                3 => "Redirection",
                4 => "Bad Request",
                5 => "Server Internal Error",
                _ => "Global Failure",
            },
        }
    }
}

impl fmt::Debug for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<StatusCode> for rsip::StatusCode {
    fn from(status: StatusCode) -> rsip::StatusCode {
        rsip::StatusCode::from(status.0)
    }
}

impl TryFrom<rsip::StatusCode> for StatusCode {
    type Error = OutOfRange;

    fn try_from(status: rsip::StatusCode) -> Result<StatusCode, OutOfRange> {
        StatusCode::new(status.code()).ok_or(OutOfRange)
    }
}

/// A status outside 100..=699.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("status code outside 100..=699")]
pub struct OutOfRange;

macro_rules! named {
    ($($name:ident = $code:literal, $phrase:literal;)*) => {
        impl StatusCode {
            $(#[doc = concat!("`", stringify!($code), " ", $phrase, "`")] pub const $name: StatusCode = StatusCode($code);)*
        }
        /// Sorted by number, which a test checks.
        const PHRASES: &[(u16, &str)] = &[$(($code, $phrase)),*];
    };
}

named! {
    TRYING = 100, "Trying";
    RINGING = 180, "Ringing";
    CALL_IS_BEING_FORWARDED = 181, "Call Is Being Forwarded";
    QUEUED = 182, "Queued";
    SESSION_PROGRESS = 183, "Session Progress";
    EARLY_DIALOG_TERMINATED = 199, "Early Dialog Terminated";
    OK = 200, "OK";
    ACCEPTED = 202, "Accepted";
    NO_NOTIFICATION = 204, "No Notification";
    MULTIPLE_CHOICES = 300, "Multiple Choices";
    MOVED_PERMANENTLY = 301, "Moved Permanently";
    MOVED_TEMPORARILY = 302, "Moved Temporarily";
    USE_PROXY = 305, "Use Proxy";
    ALTERNATIVE_SERVICE = 380, "Alternative Service";
    BAD_REQUEST = 400, "Bad Request";
    UNAUTHORIZED = 401, "Unauthorized";
    PAYMENT_REQUIRED = 402, "Payment Required";
    FORBIDDEN = 403, "Forbidden";
    NOT_FOUND = 404, "Not Found";
    METHOD_NOT_ALLOWED = 405, "Method Not Allowed";
    NOT_ACCEPTABLE = 406, "Not Acceptable";
    PROXY_AUTHENTICATION_REQUIRED = 407, "Proxy Authentication Required";
    REQUEST_TIMEOUT = 408, "Request Timeout";
    GONE = 410, "Gone";
    CONDITIONAL_REQUEST_FAILED = 412, "Conditional Request Failed";
    REQUEST_ENTITY_TOO_LARGE = 413, "Request Entity Too Large";
    REQUEST_URI_TOO_LONG = 414, "Request-URI Too Long";
    UNSUPPORTED_MEDIA_TYPE = 415, "Unsupported Media Type";
    UNSUPPORTED_URI_SCHEME = 416, "Unsupported URI Scheme";
    UNKNOWN_RESOURCE_PRIORITY = 417, "Unknown Resource-Priority";
    BAD_EXTENSION = 420, "Bad Extension";
    EXTENSION_REQUIRED = 421, "Extension Required";
    SESSION_INTERVAL_TOO_SMALL = 422, "Session Interval Too Small";
    INTERVAL_TOO_BRIEF = 423, "Interval Too Brief";
    ANONYMITY_DISALLOWED = 433, "Anonymity Disallowed";
    TEMPORARILY_UNAVAILABLE = 480, "Temporarily Unavailable";
    CALL_DOES_NOT_EXIST = 481, "Call/Transaction Does Not Exist";
    LOOP_DETECTED = 482, "Loop Detected";
    TOO_MANY_HOPS = 483, "Too Many Hops";
    ADDRESS_INCOMPLETE = 484, "Address Incomplete";
    AMBIGUOUS = 485, "Ambiguous";
    BUSY_HERE = 486, "Busy Here";
    REQUEST_TERMINATED = 487, "Request Terminated";
    NOT_ACCEPTABLE_HERE = 488, "Not Acceptable Here";
    BAD_EVENT = 489, "Bad Event";
    REQUEST_PENDING = 491, "Request Pending";
    UNDECIPHERABLE = 493, "Undecipherable";
    SECURITY_AGREEMENT_REQUIRED = 494, "Security Agreement Required";
    SERVER_INTERNAL_ERROR = 500, "Server Internal Error";
    NOT_IMPLEMENTED = 501, "Not Implemented";
    BAD_GATEWAY = 502, "Bad Gateway";
    SERVICE_UNAVAILABLE = 503, "Service Unavailable";
    SERVER_TIMEOUT = 504, "Server Time-out";
    VERSION_NOT_SUPPORTED = 505, "Version Not Supported";
    MESSAGE_TOO_LARGE = 513, "Message Too Large";
    PRECONDITION_FAILURE = 580, "Precondition Failure";
    BUSY_EVERYWHERE = 600, "Busy Everywhere";
    DECLINE = 603, "Decline";
    DOES_NOT_EXIST_ANYWHERE = 604, "Does Not Exist Anywhere";
    NOT_ACCEPTABLE_ANYWHERE = 606, "Not Acceptable";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phrase_table_is_sorted_and_known_to_the_common_vocabulary() {
        assert!(PHRASES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(StatusCode::NOT_ACCEPTABLE_HERE.is_registered());
        assert!(!StatusCode(499).is_registered());
        assert_eq!(StatusCode::try_from(rsip::StatusCode::from(StatusCode::OK)), Ok(StatusCode::OK));
    }

    #[test]
    fn codes_outside_the_six_classes_do_not_exist() {
        assert_eq!(StatusCode::new(99), None);
        assert_eq!(StatusCode::new(700), None);
        assert_eq!(StatusCode::new(699).map(StatusCode::class), Some(6));
    }

    #[test]
    fn phrases_are_spelled_as_registered_and_unknown_codes_use_their_class() {
        assert_eq!(StatusCode::CALL_DOES_NOT_EXIST.default_reason(), "Call/Transaction Does Not Exist");
        assert_eq!(StatusCode::SERVER_TIMEOUT.default_reason(), "Server Time-out");
        assert_eq!(StatusCode(499).default_reason(), "Bad Request");
        assert!(StatusCode::RINGING.is_provisional() && !StatusCode::RINGING.is_final());
    }
}
