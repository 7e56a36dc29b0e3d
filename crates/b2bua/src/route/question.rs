//! The parts of a request that routing looks at, parsed once. Refuses to know messages beyond these headers.

/// What is asked of [`super::route`].
#[derive(Clone, Debug)]
pub struct RouteQuestion {
    /// Index into `ip_gateways`: the peer the request came from.
    pub gateway: usize,
    /// Request-URI, raw.
    pub request_uri: Vec<u8>,
    /// From header value, raw.
    pub from: Vec<u8>,
    /// To header value, raw.
    pub to: Vec<u8>,
    /// P-Asserted-Identity values, raw.
    pub asserted: Vec<Vec<u8>>,
    /// Diverting parties, newest first, as the headers list them.
    pub diversions: Vec<Diverter>,
}

/// One diverting party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverter {
    /// `user@host`, or the number of a tel URI.
    pub party: String,
    /// `reason` parameter, lower case.
    pub reason: Option<String>,
}
