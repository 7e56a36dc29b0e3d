//! Which object of Exchange or Lync is which table here, and which property is which key. Data only.

/// Whose object it is, and in whose shell cmdlets are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Exchange Management Shell.
    Exchange,
    /// Lync or Skype for Business Management Shell.
    Lync,
}

/// One kind of object.
#[derive(Debug)]
pub(super) struct Kind {
    /// Table of the configuration.
    pub table: &'static str,
    /// Whether there are several.
    pub count: Count,
    /// Cmdlet that prints it.
    pub cmdlet: &'static str,
    /// Pipeline that gives the objects, where the cmdlet alone does not.
    pub source: Option<&'static str>,
    /// Whose it is.
    pub side: Side,
    /// A property that no other kind has, by which bare output is known.
    pub telltale: &'static str,
    /// Keys by which one object is told from the others.
    pub identity: &'static [&'static str],
    /// Keys without which it is left out.
    pub required: &'static [&'static str],
    /// How it is made.
    pub make: Option<Make>,
    /// Its properties.
    pub fields: &'static [Field],
}

/// Whether there are several objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// `[[table]]`.
    Many,
    /// `[table]`.
    One,
}

/// The cmdlets that make an object.
#[derive(Debug)]
pub(super) struct Make {
    /// Makes it; empty where it is there already.
    pub new: &'static str,
    /// Keys that go with `new`.
    pub with: &'static [&'static str],
    /// Changes it; empty where nothing can be changed.
    pub set: &'static str,
    /// The parameter of `set` that names it.
    pub named: &'static str,
    /// What `new` changes, and what `set` changes.
    pub what: [&'static str; 2],
}

/// One property.
#[derive(Debug)]
pub(super) struct Field {
    /// Key of the configuration.
    pub key: &'static str,
    /// Property of the object, and parameter of its cmdlets.
    pub property: &'static str,
    /// How it is written.
    pub form: Form,
    /// What the product has when the configuration says nothing; empty = nothing is known.
    pub default: &'static str,
}

/// How a property is written there and here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text.
    Text,
    /// Text that cannot be set.
    ReadOnly,
    /// The name of another object, however it is spelled.
    Name,
    /// The name of a server, to be an FQDN.
    Server,
    /// Whole number.
    Whole,
    /// Minutes; here a duration.
    Minutes,
    /// Seconds; here a duration.
    Seconds,
    /// True or false.
    Flag,
    /// List of texts.
    Texts,
    /// List of E.164 numbers.
    Numbers,
    /// List of names of other objects.
    Names,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Key mappings of an attendant.
    Keys,
    /// Proxy addresses, of which those of UM count.
    Eum,
    /// Names with commas between them.
    Commas,
    /// `Site:NAME`.
    Site,
    /// An address that begins with `sip:`.
    Sip,
    /// The first of a list.
    First,
}

const fn field(key: &'static str, property: &'static str, form: Form, default: &'static str) -> Field {
    Field { key, property, form, default }
}

const MODES: Form = Form::Word(&["TCP", "TLS", "Dual"]);
const STATES: Form = Form::Word(&["Enabled", "Disabled", "NoNewCalls"]);

/// Every kind, in the order in which a configuration has them.
#[rustfmt::skip]
pub(super) const KINDS: &[Kind] = &[
    Kind {
        table: "pool", count: Count::Many, cmdlet: "Get-CsPool", source: None, side: Side::Lync, telltale: "Computers",
        identity: &["fqdn"], required: &["name", "fqdn", "encryption"], make: None,
        fields: &[
            field("fqdn", "Fqdn", Form::Text, ""),
            field("members", "Computers", Form::Texts, ""),
            field("site", "Site", Form::Site, ""),
        ],
    },
    Kind {
        table: "ip_gateway", count: Count::Many, cmdlet: "Get-UMIPGateway", source: None, side: Side::Exchange, telltale: "OutcallsAllowed",
        identity: &["name"], required: &["name", "address"],
        make: Some(Make {
            new: "New-UMIPGateway", with: &["name", "address"], set: "Set-UMIPGateway", named: "Identity",
            what: ["lets the peer at this address send calls to UM, as ExchUcUtil.ps1 does for each pool", "port, outgoing calls and message waiting of the gateway"],
        }),
        fields: &[
            field("name", "Name", Form::Text, ""),
            field("address", "Address", Form::Text, ""),
            field("port", "Port", Form::Whole, "5060"),
            field("status", "Status", STATES, "Enabled"),
            field("outcalls_allowed", "OutcallsAllowed", Form::Flag, "true"),
            field("message_waiting_indicator_allowed", "MessageWaitingIndicatorAllowed", Form::Flag, "true"),
        ],
    },
    Kind {
        table: "hunt_group", count: Count::Many, cmdlet: "Get-UMHuntGroup", source: None, side: Side::Exchange, telltale: "PilotIdentifier",
        identity: &["ip_gateway", "pilot_identifier"], required: &["name", "ip_gateway", "dial_plan"],
        make: Some(Make {
            new: "New-UMHuntGroup", with: &["name", "dial_plan", "ip_gateway", "pilot_identifier"], set: "", named: "",
            what: ["calls of the gateway to this pilot identifier belong to the dial plan; without one, all others", ""],
        }),
        fields: &[
            field("name", "Name", Form::Text, ""),
            field("ip_gateway", "UMIPGateway", Form::Name, ""),
            field("dial_plan", "UMDialPlan", Form::Name, ""),
            field("pilot_identifier", "PilotIdentifier", Form::Text, ""),
        ],
    },
    Kind {
        table: "dial_plan", count: Count::Many, cmdlet: "Get-UMDialPlan", source: None, side: Side::Exchange, telltale: "VoIPSecurity",
        identity: &["name"], required: &["name", "voip_security", "phone_context"],
        make: Some(Make {
            new: "New-UMDialPlan", with: &["name", "uri_type", "extension_digits", "country_or_region_code", "voip_security"], set: "Set-UMDialPlan", named: "Identity",
            what: ["makes the dial plan; its URI type cannot be changed later", "limits and numbers of the dial plan"],
        }),
        fields: &[
            field("name", "Name", Form::Text, ""),
            field("uri_type", "URIType", Form::Word(&["TelExtn", "E164", "SipName"]), "SipName"),
            field("voip_security", "VoIPSecurity", Form::Word(&["Unsecured", "SIPSecured", "Secured"]), ""),
            field("phone_context", "PhoneContext", Form::ReadOnly, ""),
            field("equivalent_phone_contexts", "EquivalentDialPlanPhoneContexts", Form::Texts, ""),
            field("extension_digits", "NumberOfDigitsInExtension", Form::Whole, "4"),
            field("country_or_region_code", "CountryOrRegionCode", Form::Text, ""),
            field("access_telephone_numbers", "AccessTelephoneNumbers", Form::Numbers, ""),
            field("max_call_duration", "MaxCallDuration", Form::Minutes, "30m"),
            field("max_recording_duration", "MaxRecordingDuration", Form::Minutes, "20m"),
            field("recording_idle_timeout", "RecordingIdleTimeout", Form::Seconds, "5s"),
            field("logon_failures_before_disconnect", "LogonFailuresBeforeDisconnect", Form::Whole, "3"),
            field("input_failures_before_disconnect", "InputFailuresBeforeDisconnect", Form::Whole, "3"),
            field("fax_enabled", "FaxEnabled", Form::Flag, ""),
            field("operator_extension", "OperatorExtension", Form::Text, ""),
        ],
    },
    Kind {
        table: "call_router", count: Count::Many, cmdlet: "Get-UMCallRouterSettings", side: Side::Exchange, telltale: "SipTlsListeningPort",
        source: Some("Get-ExchangeServer | Where-Object { $_.IsClientAccessServer } | ForEach-Object { $fqdn = $_.Fqdn; Get-UMCallRouterSettings -Server $_.Name }"),
        identity: &["name"], required: &["name"],
        make: Some(Make {
            new: "", with: &[], set: "Set-UMCallRouterSettings", named: "Server",
            what: ["", "dial plans and listeners of the Call Router; restart Microsoft Exchange Unified Messaging Call Router afterwards"],
        }),
        fields: &[
            field("name", "Fqdn", Form::Server, ""),
            field("startup_mode", "UMStartupMode", MODES, ""),
            field("tcp_port", "SipTcpListeningPort", Form::Whole, "5060"),
            field("tls_port", "SipTlsListeningPort", Form::Whole, "5061"),
            field("dial_plans", "DialPlans", Form::Names, ""),
        ],
    },
    Kind {
        table: "mailbox_server", count: Count::Many, cmdlet: "Get-UMService", side: Side::Exchange, telltale: "MaxCallsAllowed",
        source: Some("Get-ExchangeServer | Where-Object { $_.IsUnifiedMessagingServer } | ForEach-Object { $fqdn = $_.Fqdn; Get-UMService -Identity $_.Name }"),
        identity: &["name"], required: &["name"],
        make: Some(Make {
            new: "", with: &[], set: "Set-UMService", named: "Identity",
            what: ["", "dial plans, listeners and limit of the UM service; restart Microsoft Exchange Unified Messaging afterwards"],
        }),
        fields: &[
            field("name", "Fqdn", Form::Server, ""),
            field("startup_mode", "UMStartupMode", MODES, ""),
            field("max_calls_allowed", "MaxCallsAllowed", Form::Whole, "100"),
            field("status", "Status", STATES, "Enabled"),
            field("dial_plans", "DialPlans", Form::Names, ""),
        ],
    },
    Kind {
        table: "auto_attendant", count: Count::Many, cmdlet: "Get-UMAutoAttendant", source: None, side: Side::Exchange, telltale: "PilotIdentifierList",
        identity: &["name"], required: &["name", "dial_plan"],
        make: Some(Make {
            new: "New-UMAutoAttendant", with: &["name", "dial_plan", "pilot_identifiers"], set: "Set-UMAutoAttendant", named: "Identity",
            what: ["makes the attendant and gives it its numbers", "keys, hours, operator and speech of the attendant"],
        }),
        fields: &[
            field("name", "Name", Form::Text, ""),
            field("dial_plan", "UMDialPlan", Form::Name, ""),
            field("pilot_identifiers", "PilotIdentifierList", Form::Numbers, ""),
            field("speech_enabled", "SpeechEnabled", Form::Flag, ""),
            field("operator_extension", "OperatorExtension", Form::Text, ""),
            field("business_hours_keys", "BusinessHoursKeyMapping", Form::Keys, ""),
            field("after_hours_keys", "AfterHoursKeyMapping", Form::Keys, ""),
            field("business_hours", "BusinessHoursSchedule", Form::Texts, ""),
            field("info_announcement", "InfoAnnouncementFilename", Form::Text, ""),
        ],
    },
    Kind {
        table: "mailbox_policy", count: Count::Many, cmdlet: "Get-UMMailboxPolicy", source: None, side: Side::Exchange, telltale: "MinPINLength",
        identity: &["name"], required: &["name", "dial_plan"],
        make: Some(Make {
            new: "New-UMMailboxPolicy", with: &["name", "dial_plan"], set: "Set-UMMailboxPolicy", named: "Identity",
            what: ["makes the policy for users of the dial plan", "PINs, greetings and what users may do"],
        }),
        fields: &[
            field("name", "Name", Form::Text, ""),
            field("dial_plan", "UMDialPlan", Form::Name, ""),
            field("min_pin_length", "MinPINLength", Form::Whole, "6"),
            field("max_logon_attempts", "MaxLogonAttempts", Form::Whole, "15"),
            field("logon_failures_before_pin_reset", "LogonFailuresBeforePINReset", Form::Whole, "5"),
            field("max_greeting_duration", "MaxGreetingDuration", Form::Minutes, "5m"),
            field("allow_missed_call_notifications", "AllowMissedCallNotifications", Form::Flag, "true"),
            field("allow_message_waiting_indicator", "AllowMessageWaitingIndicator", Form::Flag, "true"),
            field("allow_play_on_phone", "AllowPlayOnPhone", Form::Flag, "true"),
            field("allow_subscriber_access", "AllowSubscriberAccess", Form::Flag, "true"),
        ],
    },
    Kind {
        table: "mailbox", count: Count::Many, cmdlet: "Get-UMMailbox", source: None, side: Side::Exchange, telltale: "UMMailboxPolicy",
        identity: &["alias"], required: &["alias", "dial_plan", "sip|extension|eum_addresses"],
        make: Some(Make {
            new: "Enable-UMMailbox", with: &["alias", "policy", "sip", "extension"], set: "", named: "",
            what: ["gives the mailbox UM; the PIN goes to the user by mail", ""],
        }),
        fields: &[
            field("alias", "Name", Form::Text, ""),
            field("sip", "SIPResourceIdentifier", Form::Sip, ""),
            field("extension", "Extensions", Form::First, ""),
            field("eum_addresses", "EmailAddresses", Form::Eum, ""),
            field("dial_plan", "UMDialPlan", Form::Name, ""),
            field("policy", "UMMailboxPolicy", Form::Name, ""),
        ],
    },
    Kind {
        table: "contact", count: Count::Many, cmdlet: "Get-CsExUmContact", source: None, side: Side::Lync, telltale: "AutoAttendant",
        identity: &["sip_address"], required: &["sip_address"], make: None,
        fields: &[
            field("sip_address", "SipAddress", Form::Text, ""),
            field("display_number", "DisplayNumber", Form::Text, ""),
            field("auto_attendant", "AutoAttendant", Form::Flag, "false"),
            field("policy", "HostedVoicemailPolicy", Form::Text, ""),
        ],
    },
    Kind {
        table: "access_edge", count: Count::One, cmdlet: "Get-CsAccessEdgeConfiguration", source: None, side: Side::Lync, telltale: "AllowFederatedUsers",
        identity: &[], required: &[], make: None,
        fields: &[
            field("allow_federated_users", "AllowFederatedUsers", Form::Flag, "false"),
            field("enable_partner_discovery", "EnablePartnerDiscovery", Form::Flag, "false"),
        ],
    },
    Kind {
        table: "hosting_provider", count: Count::Many, cmdlet: "Get-CsHostingProvider", source: None, side: Side::Lync, telltale: "ProxyFqdn",
        identity: &["identity"], required: &["identity", "proxy_fqdn"],
        make: Some(Make {
            new: "New-CsHostingProvider",
            with: &["identity", "proxy_fqdn", "enabled", "enabled_shared_address_space", "hosts_ocs_users", "is_local", "verification_level"],
            set: "", named: "",
            what: ["lets the Access Edge send what is for hosted UM to this proxy; the proxy cannot be changed later", ""],
        }),
        fields: &[
            field("identity", "Identity", Form::Text, ""),
            field("proxy_fqdn", "ProxyFqdn", Form::Text, ""),
            field("enabled", "Enabled", Form::Flag, "true"),
            field("enabled_shared_address_space", "EnabledSharedAddressSpace", Form::Flag, "true"),
            field("hosts_ocs_users", "HostsOCSUsers", Form::Flag, "false"),
            field("is_local", "IsLocal", Form::Flag, "false"),
            field("verification_level", "VerificationLevel", Form::Word(&["AlwaysVerifiable", "AlwaysUnverifiable", "UseSourceVerification"]), "UseSourceVerification"),
        ],
    },
    Kind {
        table: "hosted_voicemail_policy", count: Count::Many, cmdlet: "Get-CsHostedVoicemailPolicy", source: None, side: Side::Lync, telltale: "Destination",
        identity: &["identity"], required: &["identity", "destination", "organizations"],
        make: Some(Make {
            new: "New-CsHostedVoicemailPolicy", with: &["identity", "destination", "organizations"], set: "", named: "",
            what: ["says which hosted UM, and which tenant there, has the voice mail of those the policy is for", ""],
        }),
        fields: &[
            field("identity", "Identity", Form::Text, ""),
            field("destination", "Destination", Form::Text, ""),
            field("organizations", "Organization", Form::Commas, ""),
        ],
    },
];

/// Cmdlets whose output adds to other objects.
pub(super) const ADDITIONS: &[(&str, &str, Side)] = &[
    ("Get-CsMediaConfiguration", "EncryptionLevel", Side::Lync),
    ("Get-CsDialPlan", "SimpleName", Side::Lync),
    ("Get-CsOAuthConfiguration", "ExchangeAutodiscoverUrl", Side::Lync),
    ("Get-CsUser", "HostedVoiceMail", Side::Lync),
];

pub(super) fn kind_of(table: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.table == table)
}

/// The keys of a table that come from properties.
pub fn keys_of(table: &str) -> impl Iterator<Item = &'static str> {
    kind_of(table).into_iter().flat_map(|kind| kind.fields).map(|field| field.key)
}
