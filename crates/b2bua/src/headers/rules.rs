//! What the configuration adds to the header table: unknown headers per direction, names that pass or stop beside it.
//! Known names are compiled to one bit each, so that a header costs a look at a number.

use sip::HeaderId;

const _: () = assert!(HeaderId::COUNT <= 128, "one bit per known header");

/// What happens to a header this gateway does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownHeaders {
    /// Passed byte for byte.
    Pass,
    /// Left out.
    Drop,
}

/// Whether UM is told the name of a caller whose mailbox is known here, whatever dial plan it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallerNames {
    /// What the caller's side says, and nothing else.
    #[default]
    Off,
    /// Where the caller's side gives no name.
    Missing,
    /// Instead of what the caller's side says.
    Always,
}

/// Configured additions to the header table.
#[derive(Clone, Debug)]
pub struct HeaderRules {
    to_um: UnknownHeaders,
    from_um: UnknownHeaders,
    pass: Vec<String>,
    stop: Vec<String>,
    stopped: u128,
    caller_names: CallerNames,
}

impl HeaderRules {
    /// Unknown headers toward UM and from UM; further names that pass (unknown ones only: what the table stops stays
    /// stopped) and names that stop in both directions.
    pub fn new(to_um: UnknownHeaders, from_um: UnknownHeaders, pass: Vec<String>, stop: Vec<String>) -> Self {
        let known = stop.iter().map(|name| HeaderId::from_name(name.as_bytes()));
        let stopped = known.filter(|id| *id != HeaderId::Other).fold(0, |bits, id| bits | bit(id));
        Self { to_um, from_um, pass, stop, stopped, caller_names: CallerNames::default() }
    }

    /// The same with another rule for callers' names.
    #[must_use]
    pub fn naming_callers(self, caller_names: CallerNames) -> Self {
        Self { caller_names, ..self }
    }

    /// Whether callers get names from the mailboxes.
    pub fn caller_names(&self) -> CallerNames {
        self.caller_names
    }

    /// What happens to unknown headers toward UM.
    pub fn unknown_to_um(&self) -> UnknownHeaders {
        self.to_um
    }

    /// What happens to unknown headers from UM.
    pub fn unknown_from_um(&self) -> UnknownHeaders {
        self.from_um
    }

    /// Whether a known header is stopped by name.
    pub(super) fn stops(&self, id: HeaderId) -> bool {
        self.stopped & bit(id) != 0
    }

    /// Whether an unknown header is stopped by name.
    pub(super) fn stops_named(&self, name: &[u8]) -> bool {
        is_listed(&self.stop, name)
    }

    /// Whether an unknown header is let through by name.
    pub(super) fn passes_named(&self, name: &[u8]) -> bool {
        is_listed(&self.pass, name)
    }
}

impl Default for HeaderRules {
    fn default() -> Self {
        Self::new(UnknownHeaders::Pass, UnknownHeaders::Pass, Vec::new(), Vec::new())
    }
}

const fn bit(id: HeaderId) -> u128 {
    1 << id as u32
}

fn is_listed(list: &[String], name: &[u8]) -> bool {
    list.iter().any(|listed| name.eq_ignore_ascii_case(listed.as_bytes()))
}
