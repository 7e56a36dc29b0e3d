//! `UMB-PEER`, `UMB-REDIR`, `UMB-SRV`: strangers, redirects, UM servers.

use super::registry;

const FORBIDDEN: (u16, &str) = (403, "Forbidden");
const NONE_LEFT: Option<(u16, &str)> = Some((503, "Service Unavailable"));

registry! {
    UNKNOWN_NAME = "UMB-PEER001", "certificate name is no peer", sip Some(FORBIDDEN), ms Some(61002),
        cause "The certificate is good, but none of its names is a UM IP gateway, a pool member or a server.",
        exchange "New-UMIPGateway -Address <fqdn of the peer>.", lync "The certificate's subject must be the pool FQDN.", umbra "Add an [[ip_gateway]] with this name as `address`, or the host to `members` of its [[pool]].";
    UNKNOWN_ADDRESS = "UMB-PEER002", "source address is no peer", sip Some(FORBIDDEN), ms Some(61002),
        cause "A request over TCP or UDP came from an address that belongs to no UM IP gateway and no server.",
        exchange "New-UMIPGateway -Address <ip>.", lync "", umbra "Add an [[ip_gateway]] with this address.";
    SERVER_DOWN = "UMB-PEER003", "UM server left out of choice", sip None, ms None,
        cause "A call failed there, or OPTIONS did in a row (`down_after`); calls prefer other servers until its rest is over or it answers again. `umbra servers why` tells the reason.",
        exchange "Check that the Microsoft Exchange Unified Messaging (or Call Router) service runs and listens: Test-UMConnectivity.", lync "", umbra "Check name resolution and the path to the server; the log names the step that failed.";
    FOREIGN_DIALOG = "UMB-PEER004", "call touched by a peer that has no part in it", sip Some((481, "Call/Transaction Does Not Exist")), ms None,
        cause "An in-dialog request came on a connection of another peer than the call's.",
        exchange "", lync "", umbra "If the peer has several names, list them as `members` of its [[pool]].";
    MALFORMED_STREAM = "UMB-PEER005", "connection carried no SIP", sip Some((400, "Bad Request")), ms None,
        cause "Bytes on the connection could not be framed as SIP messages; it was closed.",
        exchange "", lync "", umbra "";
    ROUTE_FOREIGN = "UMB-PEER006", "route set leads to a name that is none of the peer's", sip None, ms None,
        cause "A leg lost its connection, and the first Route, Contact or Via of its peer names a host that is neither the UM IP gateway nor a member of its pool nor the server; the call was ended.",
        exchange "", lync "The Record-Route of a Front End must name the pool or one of its members.", umbra "List the host as a `members` entry of the [[pool]], or as `address` of the peer.";
    ROUTE_TRANSPORT = "UMB-PEER007", "route set leads to another transport", sip None, ms None,
        cause "A leg lost its connection, and the way back asks for another transport than the leg had; nothing is sent on a weaker one.",
        exchange "", lync "", umbra "";
    FORMER_PEER = "UMB-PEER008", "peer is not accepted any more", sip Some(FORBIDDEN), ms Some(61002),
        cause "Since this connection was made, the peer left the configuration, its certificate was revoked or ended, or its issuer is trusted no longer. Calls on the connection go on for a while, nothing new begins there, and it is closed.",
        exchange "Give the server a certificate that is valid and not revoked.", lync "Give the pool a certificate that is valid and not revoked.", umbra "The line `connections_refused` in the log names the reason. If it is not meant, put the peer or the root back and reload; the peer then connects anew.";
    REDIRECT_ESCAPE = "UMB-REDIR001", "redirect to a server outside the dial plan", sip NONE_LEFT, ms Some(62002),
        cause "A 3xx named a host that is no server of the call's dial plan.",
        exchange "Add the Mailbox server to the dial plan: Set-UMService <server> -DialPlans <plan>.", lync "", umbra "Add the host as [[mailbox_server]] with this plan in `dial_plans`.";
    REDIRECT_LOOP = "UMB-REDIR002", "redirect loop", sip NONE_LEFT, ms Some(62002),
        cause "A 3xx named a target that was already tried in this attempt.", exchange "Restart the UM service of the server that redirects to itself.", lync "", umbra "";
    REDIRECT_HOPS = "UMB-REDIR003", "too many redirects", sip NONE_LEFT, ms Some(62002),
        cause "More redirects in a row, or more targets, than [routing] allows.", exchange "", lync "", umbra "Two are normal: Call Router, then UM service.";
    REDIRECT_WEAKER = "UMB-REDIR004", "redirect to a weaker transport", sip NONE_LEFT, ms Some(62002),
        cause "A 3xx received over TLS named a target without TLS, or the reverse for an Unsecured plan.",
        exchange "Set-UMService <server> -UMStartupMode Dual, and restart the service.", lync "", umbra "";
    REDIRECT_BUDGET = "UMB-REDIR005", "redirects took too long", sip NONE_LEFT, ms Some(62001),
        cause "The time that [routing] allows for finding a worker was used up.", exchange "", lync "", umbra "";
    REDIRECT_UNUSABLE = "UMB-REDIR006", "redirect without a usable Contact", sip NONE_LEFT, ms Some(62002),
        cause "A 3xx had no Contact, or none that could be parsed.", exchange "", lync "", umbra "";
    REDIRECT_MADDR = "UMB-REDIR007", "redirect with a foreign maddr", sip NONE_LEFT, ms Some(62002),
        cause "The maddr of the Contact does not name the same server as its host.", exchange "", lync "", umbra "";
    NO_SERVER_LEFT = "UMB-SRV001", "no UM server left", sip NONE_LEFT, ms Some(62001),
        cause "Every server of the dial plan is down, disabled, or failed this call.",
        exchange "Check the UM services of the plan's servers: Get-UMService, Test-UMConnectivity.", lync "", umbra "`umbra_peer_up` in /metrics shows each server's state.";
    SERVER_CONNECT = "UMB-SRV002", "UM server cannot be connected", sip NONE_LEFT, ms Some(62001),
        cause "The connection was refused, could not be routed, or timed out.", exchange "Check that the service listens: startup mode and port.", lync "", umbra "Check name and ports of the server.";
    SERVER_TIMEOUT = "UMB-SRV003", "UM server did not answer in time", sip NONE_LEFT, ms Some(62001),
        cause "No answer other than 100 within the budget.", exchange "Look at the load of the server.", lync "", umbra "";
    SERVER_FAILED = "UMB-SRV004", "UM server failed the call", sip NONE_LEFT, ms Some(62001),
        cause "The server answered with a status after which the next one is tried.", exchange "Look into the server's event log.", lync "", umbra "";
    SERVER_TLS = "UMB-SRV005", "TLS with the UM server failed", sip NONE_LEFT, ms Some(62001),
        cause "The server's certificate has another name, another issuer, or no suite in common.",
        exchange "Assign a certificate for the server's FQDN to the UM services: Enable-ExchangeCertificate -Services UM,UMCallRouter.", lync "", umbra "Add the issuer to `trusted_roots`.";
    SERVER_UNRESOLVED = "UMB-SRV006", "UM server's name cannot be resolved", sip NONE_LEFT, ms Some(62001),
        cause "DNS has no address for the server.", exchange "", lync "", umbra "Fix DNS, or give the server an `address`.";
    DNS_SILENT = "UMB-SRV010", "name servers do not answer", sip NONE_LEFT, ms Some(62001),
        cause "No name server answered in time, so the name could not be located.",
        exchange "", lync "", umbra "Check `servers` in [dns] or /etc/resolv.conf and the path to port 53; an `address` needs no DNS.";
    SERVER_NOT_IN_PLAN = "UMB-SRV007", "server is missing from a SIP URI dial plan", sip None, ms None,
        cause "All Client Access and Mailbox servers must be in every SIP URI dial plan; a server missing from a plan is not trusted by Lync.",
        exchange "Set-UMService / Set-UMCallRouterSettings -DialPlans with every SIP URI plan.", lync "", umbra "Add the plan to the server's `dial_plans`.";
    LONE_SERVER = "UMB-SRV008", "only one server, no fail-over", sip None, ms None,
        cause "The dial plan has a single Call Router or Mailbox server; when it stops, voice mail stops.",
        exchange "Add a second server to the dial plan.", lync "", umbra "";
    PLAN_WITHOUT_SERVER = "UMB-SRV009", "dial plan without servers", sip None, ms None,
        cause "No Call Router or no Mailbox server names the plan, so its calls cannot be answered.",
        exchange "Set-UMService <server> -DialPlans <plan>.", lync "", umbra "Add the plan to `dial_plans` of a [[call_router]] and a [[mailbox_server]].";
    SERVER_MODE = "UMB-SRV011", "startup mode of a UM server does not serve its dial plans", sip None, ms None,
        cause "A server with startup mode TCP does not listen for TLS, so no call of a Secured or SIPSecured dial plan reaches it; with TLS, none of an Unsecured one.",
        exchange "Set-UMService (or Set-UMCallRouterSettings) <server> -UMStartupMode Dual, assign a certificate to UM, restart the service.", lync "", umbra "Make `startup_mode` say what the server is really set to.";
    WORKER_UNREACHABLE = "UMB-SRV020", "worker port cannot be reached", sip None, ms None,
        cause "A UM worker port of the configuration takes no connection; calls that the UM service redirects there fail over, or fail. Which ports workers use is Exchange's choice: the redirect decides.",
        exchange "Check that UM workers run (the UM service starts them) and that no firewall stands before 5065 to 5068.", lync "", umbra "Correct `worker_ports`.";
    PEER_UNREACHABLE = "UMB-PEER020", "pool or gateway cannot be reached", sip None, ms None,
        cause "No connection to the UM IP gateway from here: message waiting, and calls whose connection was lost, cannot reach it. Calls that it places may work all the same.",
        exchange "", lync "Check that the Front End service runs and that the firewall lets this gateway in on its SIP port.", umbra "Check `address` and `port` of the [[ip_gateway]].";
    OPTIONS_REFUSED = "UMB-PEER021", "OPTIONS answered with a refusal", sip None, ms None,
        cause "The peer takes the connection and answers, but not with 200: it may not know this gateway.",
        exchange "New-UMIPGateway -Address <fqdn of this gateway>, and give it a hunt group.", lync "New-CsTrustedApplicationPool (or a PSTN gateway) with the FQDN of this gateway.", umbra "";
}
