//! Which entries of Active Directory are which objects, and which attribute is which property of the cmdlet that prints the object.
//! Data only. Names of classes and attributes are Microsoft's; where a number stands for a word, the README says what is published.

/// Under which base entries stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// The configuration naming context: one for the forest.
    Configuration,
    /// The domains of the users.
    Users,
}

/// Entries that are objects of one kind.
#[derive(Debug)]
pub(super) struct Entries {
    /// Table of the configuration; users' settings stand with their mailboxes.
    pub table: &'static str,
    /// Cmdlet that prints the same objects.
    pub cmdlet: &'static str,
    pub base: Base,
    pub filter: &'static str,
    /// Attribute and bit without which an entry is none.
    pub bit: Option<(&'static str, u32)>,
    pub rows: &'static [Row],
}

/// One property.
#[derive(Debug)]
pub(super) struct Row {
    pub property: &'static str,
    pub attribute: &'static str,
    pub reading: Reading,
}

/// How values become the property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The first.
    Text,
    /// All.
    Texts,
    /// A number.
    Whole,
    /// A number; 0 says nothing.
    Port,
    /// `TRUE` or `FALSE`.
    Flag,
    /// A number that stands for a word; the word itself will do.
    Word(&'static [(&'static str, &'static str)]),
    /// The name of the object at a DN.
    Name,
    /// The names of the objects at DNs.
    Names,
    /// The name of the entry above.
    Parent,
    /// The network address for TCP, else the entry below `CN=Servers`.
    Host,
    /// Addresses of UM.
    Eum,
    /// The first address of UM that is a number, without its phone context.
    EumNumber,
    /// `name=1` or `name=0`.
    Setting(&'static str),
}

const fn row(property: &'static str, attribute: &'static str, reading: Reading) -> Row {
    Row { property, attribute, reading }
}

const URI_TYPES: Reading = Reading::Word(&[("1", "TelExtn"), ("2", "E164"), ("3", "SipName")]);
const SECURITY: Reading = Reading::Word(&[("1", "SIPSecured"), ("2", "Unsecured"), ("3", "Secured")]);
const STATES: Reading = Reading::Word(&[("0", "Enabled"), ("1", "Disabled"), ("2", "NoNewCalls")]);
const MODES: Reading = Reading::Word(&[("0", "TCP"), ("1", "TLS"), ("2", "Dual")]);
/// Bit of `msExchUMEnabledFlags` of a mailbox that has UM.
const UM_ENABLED: u32 = 1;

/// Every kind that is read.
#[rustfmt::skip]
pub(super) const ENTRIES: &[Entries] = &[
    Entries {
        table: "dial_plan", cmdlet: "Get-UMDialPlan", base: Base::Configuration, filter: "(objectClass=msExchUMDialPlan)", bit: None,
        rows: &[
            row("Name", "cn", Reading::Text),
            row("URIType", "msExchUMDialPlanURIType", URI_TYPES),
            row("VoIPSecurity", "msExchUMDialPlanVoipSecurity", SECURITY),
            row("PhoneContext", "msExchUMPhoneContext", Reading::Text),
            row("EquivalentDialPlanPhoneContexts", "msExchUMEquivalentDialPlanPhoneContexts", Reading::Texts),
            row("NumberOfDigitsInExtension", "msExchUMNumberingPlanDigits", Reading::Whole),
            row("CountryOrRegionCode", "msExchUMCountryCode", Reading::Text),
            row("AccessTelephoneNumbers", "msExchUMVoiceMailPilotNumbers", Reading::Texts),
            row("MaxCallDuration", "msExchUMMaxCallDuration", Reading::Whole),
            row("MaxRecordingDuration", "msExchUMMaxRecordingDuration", Reading::Whole),
            row("RecordingIdleTimeout", "msExchUMRecordingIdleTimeout", Reading::Whole),
            row("LogonFailuresBeforeDisconnect", "msExchUMLogonFailuresBeforeDisconnect", Reading::Whole),
            row("InputFailuresBeforeDisconnect", "msExchUMCallFailuresToDisconnect", Reading::Whole),
            row("FaxEnabled", "msExchUMFaxEnabled", Reading::Flag),
            row("OperatorExtension", "msExchUMOperatorExtension", Reading::Text),
        ],
    },
    Entries {
        table: "ip_gateway", cmdlet: "Get-UMIPGateway", base: Base::Configuration, filter: "(objectClass=msExchUMIPGateway)", bit: None,
        rows: &[
            row("Name", "cn", Reading::Text),
            row("Address", "msExchUMIPGatewayAddress", Reading::Text),
            row("Port", "msExchUMIPGatewayPort", Reading::Port),
            row("Status", "msExchUMIPGatewayStatus", STATES),
            row("OutcallsAllowed", "msExchUMOutcallsAllowed", Reading::Flag),
        ],
    },
    Entries {
        table: "hunt_group", cmdlet: "Get-UMHuntGroup", base: Base::Configuration, filter: "(objectClass=msExchUMHuntGroup)", bit: None,
        rows: &[
            row("Name", "cn", Reading::Text),
            row("UMIPGateway", "", Reading::Parent),
            row("UMDialPlan", "msExchUMHuntGroupDialPlanLink", Reading::Name),
            row("PilotIdentifier", "msExchUMPilotIdentifier", Reading::Text),
        ],
    },
    Entries {
        table: "auto_attendant", cmdlet: "Get-UMAutoAttendant", base: Base::Configuration, filter: "(objectClass=msExchUMAutoAttendant)", bit: None,
        rows: &[
            row("Name", "cn", Reading::Text),
            row("UMDialPlan", "msExchUMAutoAttendantDialPlanLink", Reading::Name),
            row("PilotIdentifierList", "msExchUMAutoAttendantDialedNumbers", Reading::Texts),
            row("SpeechEnabled", "msExchUMASREnabled", Reading::Flag),
            row("OperatorExtension", "msExchUMOperatorExtension", Reading::Text),
        ],
    },
    Entries {
        table: "mailbox_policy", cmdlet: "Get-UMMailboxPolicy", base: Base::Configuration, filter: "(objectClass=msExchUMRecipientTemplate)", bit: None,
        rows: &[
            row("Name", "cn", Reading::Text),
            row("UMDialPlan", "msExchUMMailboxPolicyDialPlanLink", Reading::Name),
            row("MinPINLength", "msExchUMPinPolicyMinPasswordLength", Reading::Whole),
            row("MaxLogonAttempts", "msExchUMPinPolicyAccountLockoutFailures", Reading::Whole),
            row("LogonFailuresBeforePINReset", "msExchUMLogonFailuresBeforePINReset", Reading::Whole),
            row("MaxGreetingDuration", "msExchUMMaxGreetingDuration", Reading::Whole),
        ],
    },
    Entries {
        table: "call_router", cmdlet: "Get-UMCallRouterSettings", base: Base::Configuration, filter: "(objectClass=msExchProtocolCfgSIPFEServer)", bit: None,
        rows: &[
            row("Fqdn", "networkAddress", Reading::Host),
            row("UMStartupMode", "msExchUMStartupMode", MODES),
            row("SipTcpListeningPort", "msExchUMTcpListeningPort", Reading::Port),
            row("SipTlsListeningPort", "msExchUMTlsListeningPort", Reading::Port),
            row("DialPlans", "msExchUMServerDialPlanLink", Reading::Names),
        ],
    },
    Entries {
        table: "mailbox_server", cmdlet: "Get-UMService", base: Base::Configuration,
        filter: "(&(objectClass=msExchExchangeServer)(msExchUMServerDialPlanLink=*))", bit: None,
        rows: &[
            row("Fqdn", "networkAddress", Reading::Host),
            row("UMStartupMode", "msExchUMStartupMode", MODES),
            row("MaxCallsAllowed", "msExchUMMaximumCallsAllowed", Reading::Whole),
            row("Status", "msExchUMServerStatus", STATES),
            row("DialPlans", "msExchUMServerDialPlanLink", Reading::Names),
        ],
    },
    Entries {
        table: "mailbox", cmdlet: "Get-UMMailbox", base: Base::Users, filter: "(msExchUMRecipientDialPlanLink=*)", bit: Some(("msExchUMEnabledFlags", UM_ENABLED)),
        rows: &[
            row("Name", "mailNickname", Reading::Text),
            row("SIPResourceIdentifier", "msRTCSIP-PrimaryUserAddress", Reading::Text),
            row("Extensions", "proxyAddresses", Reading::EumNumber),
            row("EmailAddresses", "proxyAddresses", Reading::Eum),
            row("UMDialPlan", "msExchUMRecipientDialPlanLink", Reading::Name),
            row("UMMailboxPolicy", "msExchUMTemplateLink", Reading::Name),
        ],
    },
    Entries {
        table: "mailbox", cmdlet: "Get-CsUser", base: Base::Users, filter: "(&(msRTCSIP-PrimaryUserAddress=*)(msExchUCVoiceMailSettings=*))", bit: None,
        rows: &[
            row("SipAddress", "msRTCSIP-PrimaryUserAddress", Reading::Text),
            row("HostedVoiceMail", "msExchUCVoiceMailSettings", Reading::Setting("CsHostedVoiceMail")),
        ],
    },
    Entries {
        table: "pool", cmdlet: "Get-CsPool", base: Base::Configuration, filter: "(objectClass=msRTCSIP-Pool)", bit: None,
        rows: &[row("Fqdn", "dNSHostName", Reading::Text)],
    },
];

/// Tables that are read unless the configuration says which. Pools are not: the directory does not say their encryption level.
pub const TABLES_READ: [&str; 8] = [
    "dial_plan",
    "ip_gateway",
    "hunt_group",
    "auto_attendant",
    "mailbox_policy",
    "call_router",
    "mailbox_server",
    "mailbox",
];

/// Tables that can be read.
pub const TABLES: [&str; 9] = [
    "dial_plan",
    "ip_gateway",
    "hunt_group",
    "auto_attendant",
    "mailbox_policy",
    "call_router",
    "mailbox_server",
    "mailbox",
    "pool",
];
