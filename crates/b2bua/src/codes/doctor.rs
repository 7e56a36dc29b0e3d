//! `UMB-HOST`, `UMB-DNS`, `UMB-TIME`, `UMB-LYNC`, `UMB-TLS050` and on: what `umbra doctor` finds around the gateway.

use super::registry;

registry! {
    LISTENER_TAKEN = "UMB-HOST001", "listener port is taken", sip None, ms None,
        cause "Another process listens on a port that this gateway is to listen on.",
        exchange "", lync "", umbra "Stop the process that is named, or change the port in [listen] or [admin].";
    LISTENER_ADDRESS = "UMB-HOST002", "listening address cannot be used", sip None, ms None,
        cause "The address is none of this host, or the system does not let this user listen there.",
        exchange "", lync "", umbra "Correct `addresses` in [listen], or `http` in [admin].";
    RTP_PORTS_TAKEN = "UMB-HOST003", "RTP ports in use by somebody else", sip None, ms None,
        cause "Sockets of other processes lie inside `rtp_ports`; a call that is given such a port has to take another.",
        exchange "", lync "", umbra "Move `rtp_ports`, or the process that is named.";
    DESCRIPTORS_FEW = "UMB-HOST004", "too few file descriptors", sip None, ms None,
        cause "Each anchored call takes four sockets; with `max_calls_allowed` calls the limit on open files would be reached.",
        exchange "", lync "", umbra "Raise LimitNOFILE= of the service (or ulimit -n), or lower `max_calls_allowed`.";
    SOCKET_BUFFER_CAPPED = "UMB-HOST005", "socket buffers are capped below what media asks for", sip None, ms None,
        cause "net.core.rmem_max is smaller than the receive buffer of an RTP socket, so bursts are lost in the kernel.",
        exchange "", lync "", umbra "sysctl -w net.core.rmem_max=212992 (the usual value), or more.";
    DNS_NO_ADDRESS = "UMB-DNS001", "peer's name cannot be resolved", sip None, ms None,
        cause "DNS has no address for a pool, a member or a UM IP gateway, or no name server answered.",
        exchange "", lync "Publish A or AAAA records for the pool and each of its Front Ends.", umbra "Fix DNS, correct the name, or give the peer an `address`.";
    DNS_REVERSE = "UMB-DNS002", "address leads back to another name", sip None, ms None,
        cause "The PTR record of a peer's address names other hosts only; logs and firewalls of the far side may know it by that name.",
        exchange "", lync "", umbra "Correct the PTR record, or the address.";
    DNS_SHARED_ADDRESS = "UMB-DNS003", "two UM IP gateways on one address", sip None, ms None,
        cause "A peer on plain TCP is known by its address only; of two gateways with one address the first gets all calls.",
        exchange "Keep one UM IP gateway for each address.", lync "", umbra "Give the gateways addresses of their own, or let both come over TLS.";
    DNS_SEARCH_DOMAIN = "UMB-DNS004", "name resolves only with a search domain", sip None, ms None,
        cause "The configured name has no address, but with a search domain of this host appended it has one: other tools seem to reach the peer, the gateway does not.",
        exchange "", lync "", umbra "Write the full name as it stands in the certificate.";
    LYNC_AUTODISCOVER_URI = "UMB-LYNC001", "Autodiscover URI has another form", sip None, ms None,
        cause "Lync's OAuth configuration wants https://autodiscover.<domain>/autodiscover/autodiscover.svc, clients the same with .xml.",
        exchange "Set-ClientAccessService -AutoDiscoverServiceInternalUri https://autodiscover.<domain>/autodiscover/autodiscover.xml.",
        lync "Set-CsOAuthConfiguration -ExchangeAutodiscoverUrl https://autodiscover.<domain>/autodiscover/autodiscover.svc.", umbra "Correct `autodiscover` in [lync].";
    LYNC_AUTODISCOVER_DNS = "UMB-LYNC002", "Autodiscover host has no DNS record", sip None, ms None,
        cause "The host of the Autodiscover URI has no address, so Lync cannot find the mailbox's Exchange.",
        exchange "Publish a DNS record for the Autodiscover host.", lync "", umbra "Correct `autodiscover` in [lync].";
    LYNC_LOCATION_PROFILE = "UMB-LYNC003", "SIP URI dial plan without location profile", sip None, ms None,
        cause "Each SIP URI dial plan of UM needs a location profile (Lync: dial plan) of its own; up to Office Communications Server 2007 R2 its name must be the UM dial plan's FQDN, the phone-context.",
        exchange "", lync "New-CsDialPlan -Identity <scope> -SimpleName <phone-context of the UM dial plan>.", umbra "Add the name to `location_profiles` in [lync] when there is one.";
    LYNC_OAUTH_CERTIFICATE = "UMB-LYNC004", "OAuth certificate breaks a rule", sip None, ms None,
        cause "Server-to-server (OAuth) certificates carry the SIP domain in the subject, have 2048 bits or more, and are within their life.",
        exchange "", lync "Request a new one: Request-CsCertificate -New -Type OAuthTokenIssuer, then Set-CsCertificate.", umbra "";
    LYNC_OAUTH_DIFFERENT = "UMB-LYNC005", "Front Ends have different OAuth certificates", sip None, ms None,
        cause "The OAuth certificate must be the same on all Front Ends; tokens of one are else refused by the others.",
        exchange "", lync "Set-CsCertificate -Type OAuthTokenIssuer with the same certificate everywhere; look at Invoke-CsManagementStoreReplication.", umbra "Correct `oauth_certificates` in [lync].";
    PEER_EXPIRES_SOON = "UMB-TLS050", "peer's certificate expires soon", sip None, ms None,
        cause "The certificate that a peer presents ends within 30 days; from then on every connection with it is refused.",
        exchange "Renew-ExchangeCertificate (or New-ExchangeCertificate), Enable-ExchangeCertificate -Services UM,UMCallRouter, restart the services.",
        lync "Request-CsCertificate -New -Type Default, then Set-CsCertificate on each Front End.", umbra "";
    OTHER_AUTHORITIES = "UMB-TLS051", "peer names other authorities than ours", sip None, ms None,
        cause "With its wish for a client certificate the peer names the authorities it trusts, and none of them issued the gateway's certificate or its chain; it will probably refuse it.",
        exchange "Import the gateway's root into Trusted Root Certification Authorities of the server.", lync "Import the gateway's root into Trusted Root Certification Authorities of each Front End.", umbra "Use a certificate of the CA that Lync and Exchange share.";
    NO_COMMON_ROOT = "UMB-TLS052", "no authority in common with a peer", sip None, ms None,
        cause "Each side must trust the authority that the other's certificate leads to: `trusted_roots` here, the store of trusted roots there. For this peer one of the two is missing.",
        exchange "Import the gateway's root into Trusted Root Certification Authorities of the server (Local Computer); send intermediate certificates along.",
        lync "Import the gateway's root into Trusted Root Certification Authorities of each Front End (Local Computer); send intermediate certificates along.", umbra "Add the root of the peer's certificate to `trusted_roots` in [tls]; best is one CA that all three share.";
    CLOCK_SKEW = "UMB-TIME001", "clock differs from a peer's", sip None, ms None,
        cause "The Date of a peer's answer is far from this host's time: certificates and tokens near the ends of their lives are refused, and logs do not fit together.",
        exchange "Check w32tm /query /status on the server.", lync "Check w32tm /query /status on the Front End.", umbra "Synchronise this host with the same source: timedatectl, chronyc tracking.";
    CLOCK_EDGE = "UMB-TIME002", "certificate at the edge of its life", sip None, ms None,
        cause "A certificate began less than an hour ago or ends within a day: a clock that is off by that much refuses it.",
        exchange "", lync "", umbra "Compare the clocks; renew what ends.";
    CLOCK_UNSYNCHRONISED = "UMB-TIME003", "clock is not synchronised", sip None, ms None,
        cause "The time service of this host says that it has not been synchronised since the start.",
        exchange "", lync "", umbra "timedatectl timesync-status names the servers asked; check the path to them.";
}
