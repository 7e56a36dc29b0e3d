//! Names of header fields: recognised in any case and in compact form, printed in one spelling.
//! What a header's value means stands in `header`.

macro_rules! header_names {
    ($($variant:ident = $name:literal $(, $compact:literal)?;)*) => {
        /// A header field that Umbra knows by name.
        #[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
        #[allow(missing_docs)] // each variant is the header of that name
        pub enum HeaderId { $($variant,)* /// Any other name; `Header::name` has its spelling.
            Other }

        const NAMES: &[(HeaderId, &str, &[u8])] = &[$((HeaderId::$variant, $name, &[$($compact)?])),*];
    };
}

header_names! {
    Via = "Via", b'v';
    From = "From", b'f';
    To = "To", b't';
    CallId = "Call-ID", b'i';
    CSeq = "CSeq";
    MaxForwards = "Max-Forwards";
    Contact = "Contact", b'm';
    Route = "Route";
    RecordRoute = "Record-Route";
    ContentType = "Content-Type", b'c';
    ContentLength = "Content-Length", b'l';
    ContentDisposition = "Content-Disposition";
    ContentEncoding = "Content-Encoding", b'e';
    ContentLanguage = "Content-Language";
    ContentId = "Content-ID";
    MimeVersion = "MIME-Version";
    Allow = "Allow";
    AllowEvents = "Allow-Events", b'u';
    Supported = "Supported", b'k';
    Require = "Require";
    ProxyRequire = "Proxy-Require";
    Unsupported = "Unsupported";
    Accept = "Accept";
    AcceptEncoding = "Accept-Encoding";
    AcceptLanguage = "Accept-Language";
    AcceptContact = "Accept-Contact", b'a';
    RejectContact = "Reject-Contact", b'j';
    RequestDisposition = "Request-Disposition", b'd';
    Expires = "Expires";
    MinExpires = "Min-Expires";
    SessionExpires = "Session-Expires", b'x';
    MinSe = "Min-SE";
    RSeq = "RSeq";
    RAck = "RAck";
    Event = "Event", b'o';
    SubscriptionState = "Subscription-State";
    ReferTo = "Refer-To", b'r';
    ReferSub = "Refer-Sub";
    ReferredBy = "Referred-By", b'b';
    Replaces = "Replaces";
    Join = "Join";
    Diversion = "Diversion";
    HistoryInfo = "History-Info";
    PAssertedIdentity = "P-Asserted-Identity";
    PPreferredIdentity = "P-Preferred-Identity";
    RemotePartyId = "Remote-Party-ID";
    Privacy = "Privacy";
    Identity = "Identity", b'y';
    Reason = "Reason";
    Warning = "Warning";
    RetryAfter = "Retry-After";
    UserAgent = "User-Agent";
    Server = "Server";
    Subject = "Subject", b's';
    Organization = "Organization";
    Priority = "Priority";
    Date = "Date";
    Timestamp = "Timestamp";
    InReplyTo = "In-Reply-To";
    ReplyTo = "Reply-To";
    AlertInfo = "Alert-Info";
    CallInfo = "Call-Info";
    ErrorInfo = "Error-Info";
    Path = "Path";
    ServiceRoute = "Service-Route";
    Authorization = "Authorization";
    ProxyAuthorization = "Proxy-Authorization";
    WwwAuthenticate = "WWW-Authenticate";
    ProxyAuthenticate = "Proxy-Authenticate";
    AuthenticationInfo = "Authentication-Info";
    UserToUser = "User-to-User";
    MsDiagnostics = "ms-diagnostics";
    MsClientDiagnostics = "ms-client-diagnostics";
    MsDiagnosticsPublic = "ms-diagnostics-public";
    MsSensitivity = "Ms-Sensitivity";
    MsUserLogonData = "ms-user-logon-data";
    MsSubnet = "ms-subnet";
    MsEndpointLocationData = "ms-endpoint-location-data";
    MsConversationId = "Ms-Conversation-ID";
    MsExchangeCommand = "Ms-Exchange-Command";
    MsMrasAddress = "Ms-Mras-Address";
    MsKeepAlive = "ms-keep-alive";
    MsFe = "ms-fe";
    ProxyConnection = "Proxy-Connection";
    PChargingVector = "P-Charging-Vector";
}

const SLOTS: usize = 256;
const EMPTY: u8 = u8::MAX;
/// Open-addressed table from a name's hash to its place in `NAMES`, built at compile time.
static TABLE: [u8; SLOTS] = build_table();

const fn slot_of(name: &[u8]) -> usize {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let first = name[0].to_ascii_lowercase() as usize;
    let middle = name[len / 2].to_ascii_lowercase() as usize;
    let last = name[len - 1].to_ascii_lowercase() as usize;
    (len * 43 + first * 7 + middle * 29 + last * 3) % SLOTS
}

const fn build_table() -> [u8; SLOTS] {
    let mut table = [EMPTY; SLOTS];
    let mut at = 0;
    while at < NAMES.len() {
        let mut slot = slot_of(NAMES[at].1.as_bytes());
        while table[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = at as u8;
        at += 1;
    }
    table
}

impl HeaderId {
    /// How many names are known; every id but `Other` is below it as a number, `Other` is equal to it.
    pub const COUNT: usize = NAMES.len();

    /// Every known header, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = HeaderId> {
        NAMES.iter().map(|(id, _, _)| *id)
    }

    /// Recognises a name in any case, or its one-letter compact form.
    pub fn from_name(name: &[u8]) -> HeaderId {
        if let [letter] = name {
            return HeaderId::from_compact(letter.to_ascii_lowercase());
        }
        let mut slot = slot_of(name);
        while let Some((id, full, _)) = NAMES.get(usize::from(TABLE[slot])) {
            // nearly everybody spells them as registered
            if full.as_bytes() == name || full.as_bytes().eq_ignore_ascii_case(name) {
                return *id;
            }
            slot = (slot + 1) % SLOTS;
        }
        HeaderId::Other
    }

    fn from_compact(letter: u8) -> HeaderId {
        NAMES
            .iter()
            .find(|(_, _, compact)| compact.contains(&letter))
            .map_or(HeaderId::Other, |(id, _, _)| *id)
    }

    /// The full name in the spelling its document uses; empty for `Other`.
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |(_, name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_recognised_in_any_case_and_prints_as_itself() {
        for (at, (id, name, compact)) in NAMES.iter().enumerate() {
            assert_eq!(*id as usize, at);
            assert_eq!(HeaderId::all().nth(at), Some(*id));
            assert_eq!(HeaderId::from_name(name.as_bytes()), *id);
            assert_eq!(HeaderId::from_name(name.to_uppercase().as_bytes()), *id);
            assert_eq!(HeaderId::from_name(name.to_lowercase().as_bytes()), *id);
            assert_eq!(id.name(), *name);
            for letter in *compact {
                assert_eq!(HeaderId::from_name(&[*letter]), *id);
                assert_eq!(HeaderId::from_name(&[letter.to_ascii_uppercase()]), *id);
            }
        }
    }

    #[test]
    fn unknown_and_near_names_are_other() {
        for name in [&b""[..], b"z", b"C%6Fntact", b"Vi", b"Viaa", b"Content_Length", b"\xe5\xa4\xa7"] {
            assert_eq!(HeaderId::from_name(name), HeaderId::Other);
        }
        assert_eq!(HeaderId::Other.name(), "");
        assert_eq!(HeaderId::Other as usize, HeaderId::COUNT);
    }

    #[test]
    fn a_name_is_found_within_a_few_steps() {
        let steps = |name: &[u8]| {
            let start = slot_of(name);
            (0..SLOTS).take_while(|step| TABLE[(start + step) % SLOTS] != EMPTY).count()
        };
        for (_, name, _) in NAMES {
            assert!(steps(name.as_bytes()) <= 8, "{name}");
        }
    }
}
