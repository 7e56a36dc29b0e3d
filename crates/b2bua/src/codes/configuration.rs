//! `UMB-CFG`: findings of `umbra check` that belong to no other area.

use super::registry;

registry! {
    CFG_SYNTAX = "UMB-CFG001", "not TOML", sip None, ms None,
        cause "The file breaks TOML's grammar.", exchange "", lync "", umbra "Fix the marked place.";
    CFG_UNKNOWN_KEY = "UMB-CFG002", "unknown key", sip None, ms None,
        cause "No setting has this name; an ignored setting would be a false sense of safety.", exchange "", lync "", umbra "Use the suggested name, or remove the key.";
    CFG_MISSING_KEY = "UMB-CFG003", "required key missing", sip None, ms None,
        cause "The key has no default, because none would be right for everybody.", exchange "", lync "", umbra "Add the key.";
    CFG_TYPE = "UMB-CFG004", "wrong type", sip None, ms None,
        cause "The value is of another TOML type than the key takes.", exchange "", lync "", umbra "Write the value as shown.";
    CFG_VALUE = "UMB-CFG005", "value not understood", sip None, ms None,
        cause "The value is none of the words or forms that the key takes.", exchange "", lync "", umbra "Use one of the words named.";
    CFG_UNRESOLVED = "UMB-CFG006", "name refers to nothing", sip None, ms None,
        cause "The value names an object that is not configured.", exchange "", lync "", umbra "Correct the name or add the object.";
    CFG_DUPLICATE = "UMB-CFG007", "name used twice", sip None, ms None,
        cause "Two objects of one kind have the same name or address; names compare without case.", exchange "", lync "", umbra "Rename or remove one.";
    CFG_DUPLICATE_PILOT = "UMB-CFG008", "two hunt groups with one pilot", sip None, ms None,
        cause "Two hunt groups of one UM IP gateway have the same pilot identifier, or both are its default.",
        exchange "Remove-UMHuntGroup one of them.", lync "", umbra "Keep one.";
    CFG_NOT_E164 = "UMB-CFG009", "not an E.164 number", sip None, ms None,
        cause "Access numbers and attendants' pilots are E.164: `+`, then 2 to 15 digits.", exchange "Set-UMDialPlan -AccessTelephoneNumbers +…", lync "", umbra "Write the number with `+` and country code, without spaces.";
    CFG_RTP_TOO_FEW = "UMB-CFG010", "too few RTP ports", sip None, ms None,
        cause "Each call takes 4 ports (RTP and RTCP on both legs), and released ports rest.", exchange "", lync "", umbra "Widen `rtp_ports` or lower `max_calls_allowed`.";
    CFG_RTP_OVERLAP = "UMB-CFG011", "RTP ports overlap a listener", sip None, ms None,
        cause "A listening port lies inside `rtp_ports`.", exchange "", lync "", umbra "Move one of them.";
    CFG_RTP_ODD = "UMB-CFG012", "RTP range does not start even", sip None, ms None,
        cause "RTP uses even ports, RTCP the odd ones after them.", exchange "", lync "", umbra "Start the range with an even port.";
    CFG_RANGE = "UMB-CFG013", "value out of range", sip None, ms None,
        cause "The value lies outside what the products or this gateway allow.", exchange "", lync "", umbra "Choose a value inside the named range.";
    CFG_FILE = "UMB-CFG014", "configuration file cannot be read", sip None, ms None,
        cause "The file is missing, too long, or may not be read.", exchange "", lync "", umbra "Name it with -c FILE, or try `umbra demo`, which needs none.";
    CFG_ENVIRONMENT = "UMB-CFG015", "environment override not understood", sip None, ms None,
        cause "An UMBRA__… variable names no setting, or its value does not fit.", exchange "", lync "", umbra "Write UMBRA__SECTION__KEY, e.g. UMBRA__LISTEN__TLS_PORT=5061.";
    CFG_ADMIN_TOKEN = "UMB-CFG016", "admin address reachable from outside", sip None, ms None,
        cause "[admin] http is not a loopback address, and this version asks nobody for a token.", exchange "", lync "", umbra "Listen on a loopback address; let a proxy with authentication stand in front where it must be reached.";
    CFG_HOSTING_PROVIDER = "UMB-CFG017", "hosting provider cannot serve UM", sip None, ms None,
        cause "A provider used for UM must be enabled, share the address space, host no users and not be local.",
        exchange "", lync "Set-CsHostingProvider -Enabled $true -EnabledSharedAddressSpace $true -HostsOCSUsers $false -IsLocal $false.", umbra "";
    CFG_HOSTED_POLICY = "UMB-CFG018", "hosted voice mail policy without destination", sip None, ms None,
        cause "A hosted voice mail policy needs a destination; Lync's cmdlet accepts none and enabling users fails later.",
        exchange "", lync "Set-CsHostedVoicemailPolicy -Destination <fqdn> -Organization <domain>.", umbra "";
    CFG_NOT_FQDN = "UMB-CFG019", "not a fully qualified name", sip None, ms None,
        cause "The value must be a DNS name with at least one dot, no wildcard, no address.", exchange "", lync "", umbra "Write the full name as it stands in the certificate.";
    CFG_RTP_EPHEMERAL = "UMB-CFG020", "RTP ports overlap the kernel's ephemeral range", sip None, ms None,
        cause "The kernel may give a port of the range to an outgoing connection.", exchange "", lync "", umbra "Choose a range below 32768, narrow net.ipv4.ip_local_port_range, or name the range in net.ipv4.ip_local_reserved_ports.";
    CFG_FAX = "UMB-CFG021", "fax on a SIP URI dial plan", sip None, ms None,
        cause "Users of a SIP URI dial plan cannot receive fax: a Mediation Server carries no T.38.", exchange "Set-UMDialPlan <plan> -FaxEnabled $false.", lync "", umbra "Remove `fax_enabled`.";
    CFG_NOT_YET = "UMB-CFG022", "setting has no effect yet", sip None, ms None,
        cause "The key is part of the documented shape, but this version does not act on it.", exchange "", lync "", umbra "Keep it for later versions, or remove it.";
    CFG_PORT_CLASH = "UMB-CFG023", "two listeners on one port", sip None, ms None,
        cause "The TCP, TLS and admin listeners need ports of their own.", exchange "", lync "", umbra "Change one of the ports.";
    CFG_NO_LISTENER = "UMB-CFG024", "startup mode needs a TLS section", sip None, ms None,
        cause "`startup_mode` is TLS or Dual, but there is no [tls] section to take certificate and key from.", exchange "", lync "", umbra "Add [tls], or set `startup_mode = \"TCP\"`.";
    CFG_BACKEND = "UMB-CFG025", "TLS backend not in this build", sip None, ms None,
        cause "`backend = \"openssl\"` needs a program that was built with the cargo feature `openssl`; this one was not.", exchange "", lync "", umbra "Build with `cargo build --release --features openssl` (libssl-dev and pkg-config), or use the container image, which has it; or set `backend = \"rustls\"`.";
    CFG_PLAN_UNUSED = "UMB-CFG026", "nothing leads to this dial plan", sip None, ms None,
        cause "No hunt group names the plan; only a phone-context in the URI can reach it.", exchange "New-UMHuntGroup -UMDialPlan <plan>.", lync "", umbra "Add a [[hunt_group]].";
    CFG_UNANCHORED = "UMB-CFG027", "media is not anchored", sip None, ms None,
        cause "[media] mode is `unanchored`: descriptions carry the peers' own addresses and keys, so no packet passes this gateway; nothing is checked, re-keyed, counted or missed. It exists to measure signalling alone.", exchange "", lync "", umbra "Remove `mode`, or set it to `anchored`, wherever calls matter.";
    CFG_TLS_NEEDS_OPENSSL = "UMB-CFG028", "rustls cannot do that", sip None, ms None,
        cause "rustls has TLS 1.2 and 1.3 with ECDHE and AEAD, and leaves everything older out on purpose.", exchange "Better: TLS 1.2 and an ECDSA certificate, or a newer Windows, at the host that needs it.", lync "The same.", umbra "For the one listener or peer that needs it: `tls = { backend = \"openssl\", … }`.";
    CFG_EXTENSION = "UMB-CFG029", "extension has another length", sip None, ms None,
        cause "Extensions of a dial plan all have as many digits as it says; UM takes others for numbers of somebody else.", exchange "Set-UMMailbox, or a dial plan with that NumberOfDigitsInExtension.", lync "", umbra "Correct `extension` of the mailbox or `extension_digits` of the dial plan.";
    PILOT_TWICE = "UMB-CFG030", "pilot used twice", sip None, ms None,
        cause "Two objects of one dial plan have the same number: nobody can say which of them is called.", exchange "Set-UMAutoAttendant -PilotIdentifierList, or Set-UMDialPlan -AccessTelephoneNumbers, without it.", lync "", umbra "Keep the number at one of the two places.";
    PILOT_WITHOUT_GROUP = "UMB-CFG031", "pilot without hunt group", sip None, ms None,
        cause "The number belongs to a dial plan to which no hunt group leads, so no call to it ever arrives.", exchange "New-UMHuntGroup -UMDialPlan <plan> -UMIPGateway <gateway>.", lync "", umbra "Add a [[hunt_group]] for the dial plan.";
    POOL_PLAN_NOT_SIP = "UMB-CFG032", "pool on a dial plan that is not SipName", sip None, ms None,
        cause "Users of a Lync pool are known by SIP address; only a dial plan of URI type SipName finds their mailboxes. The type cannot be changed later.", exchange "New-UMDialPlan -URIType SipName, and move the users to it.", lync "", umbra "Let the hunt group of the pool lead to a SipName plan.";
    PHONE_CONTEXT_FORM = "UMB-CFG033", "unusual phone-context", sip None, ms None,
        cause "Exchange makes the phone-context of a dial plan out of its name and the forest's DNS name: <plan>.<forest>.", exchange "Get-UMDialPlan | Format-List Name, PhoneContext.", lync "", umbra "Copy `phone_context` from there; case does not matter.";
    CONTACT_WITHOUT_SERVICE = "UMB-CFG034", "contact object for nothing", sip None, ms None,
        cause "A contact object stands for Outlook Voice Access of a dial plan or for an auto attendant, and shares its number; this one has the number of neither, and no hosted voice mail policy.", exchange "", lync "Run OcsUmUtil again, or Set-CsExUmContact -DisplayNumber.", umbra "Correct `display_number` or `auto_attendant`, or name its hosted policy in `policy`.";
}
