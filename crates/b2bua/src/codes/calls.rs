//! `UMB-ROUTE`, `UMB-GW`, `UMB-MEDIA`, `UMB-CAP`, `UMB-CALL`: what happens to one call.

use super::registry;

const UNAVAILABLE: (u16, &str) = (503, "Service Unavailable");
const NOT_ACCEPTABLE: (u16, &str) = (488, "Not Acceptable Here");

registry! {
    NO_ROUTE = "UMB-ROUTE001", "no hunt group matches", sip Some((404, "Not Found")), ms Some(61002),
        cause "Neither a phone-context, a pilot identifier, an access number, an attendant nor a mailbox of the Request-URI leads to a dial plan, and the UM IP gateway has no default hunt group.",
        exchange "New-UMHuntGroup -PilotIdentifier <number or plan name> -UMDialPlan <plan> -UMIPGateway <gateway>; without -PilotIdentifier it takes every call.",
        lync "Run OcsUmUtil or New-CsExUmContact so that the contact objects carry the right phone-context.",
        umbra "Add a [[hunt_group]] for this gateway; `umbra route explain` shows what was tried.";
    BAD_REQUEST_URI = "UMB-ROUTE002", "Request-URI cannot be routed", sip Some((416, "Unsupported URI Scheme")), ms Some(61002),
        cause "The Request-URI is not a well-formed sip, sips or tel URI.",
        exchange "", lync "Check the trunk's or the contact object's address.", umbra "";
    AMBIGUOUS_DEFAULT = "UMB-ROUTE003", "gateway has several hunt groups and none is the default", sip None, ms None,
        cause "Calls whose Request-URI carries no pilot identifier (every deposit from Lync) have no plan to go to.",
        exchange "New-UMHuntGroup without -PilotIdentifier makes a default.",
        lync "", umbra "Leave `pilot_identifier` out of one [[hunt_group]] of this gateway.";
    UNKNOWN_GATEWAY = "UMB-ROUTE004", "no such UM IP gateway", sip Some((403, "Forbidden")), ms Some(61002),
        cause "The request could not be tied to a configured UM IP gateway.",
        exchange "New-UMIPGateway -Address <fqdn>.", lync "", umbra "Add an [[ip_gateway]] for the peer.";
    GATEWAY_DISABLED = "UMB-GW001", "UM IP gateway is disabled", sip Some((403, "Forbidden")), ms Some(61003),
        cause "The gateway's status is Disabled.",
        exchange "Enable-UMIPGateway <gateway>.", lync "", umbra "Set `status = \"Enabled\"`.";
    SEVERAL_OUTCALL_GATEWAYS = "UMB-GW002", "several gateways allow outgoing calls", sip None, ms None,
        cause "For a dial plan UM picks any of its gateways that allows outgoing calls; Play-on-Phone then leaves through a pool that may not serve the user.",
        exchange "Set-UMIPGateway <gateway> -OutcallsAllowed $false on all but one of the dial plan.", lync "", umbra "Set `outcalls_allowed = false` on all but one [[ip_gateway]] of the dial plan.";
    NO_NEW_CALLS = "UMB-GW003", "UM IP gateway takes no new calls", sip Some(UNAVAILABLE), ms Some(61003),
        cause "The gateway's status is NoNewCalls: calls in progress go on, new ones are refused.",
        exchange "Enable-UMIPGateway <gateway>.", lync "", umbra "Set `status = \"Enabled\"`.";
    OUTCALLS_NOT_ALLOWED = "UMB-GW004", "outgoing call not allowed", sip Some((403, "Forbidden")), ms Some(61005),
        cause "UM placed a call (Play-on-Phone, find-me) and no hunt group of its dial plan names an Enabled UM IP gateway with outcalls_allowed; or a Call Router placed one.",
        exchange "Set-UMIPGateway <gateway> -OutcallsAllowed $true on exactly one of the dial plan.", lync "", umbra "Set `outcalls_allowed = true` on exactly one [[ip_gateway]] that a [[hunt_group]] ties to the dial plan.";
    MWI_NOT_ALLOWED = "UMB-GW005", "message waiting indication not allowed", sip Some((403, "Forbidden")), ms Some(61005),
        cause "UM sent a message-waiting NOTIFY for a user whose dial plan has no UM IP gateway with message_waiting_indicator_allowed, or which the server does not serve.",
        exchange "Set-UMIPGateway <gateway> -MessageWaitingIndicatorAllowed $true.", lync "", umbra "Set `message_waiting_indicator_allowed = true`.";
    NO_OUTCALL_GATEWAY = "UMB-GW006", "no gateway allows outgoing calls", sip None, ms None,
        cause "Play-on-Phone, find-me and outdialling of a dial plan need one UM IP gateway that a hunt group ties to it, with outcalls_allowed and not Disabled.",
        exchange "Set-UMIPGateway <gateway> -OutcallsAllowed $true on exactly one of the dial plan.", lync "", umbra "Set `outcalls_allowed = true` on exactly one [[ip_gateway]] of the dial plan.";
    GATEWAY_WITHOUT_HUNT_GROUP = "UMB-GW007", "UM IP gateway without hunt group", sip None, ms None,
        cause "No hunt group names this gateway, so each of its calls ends in 404 unless its URI names a phone-context.",
        exchange "New-UMHuntGroup -UMIPGateway <gateway> -UMDialPlan <plan>.", lync "", umbra "Add a [[hunt_group]] with `ip_gateway` set to it.";
    GATEWAY_PORT = "UMB-GW009", "pool's gateway is not on port 5061", sip None, ms None,
        cause "A Front End takes mutual TLS on port 5061 only; 5060 is the default of a UM IP gateway and has to be changed for a pool on a secured dial plan.",
        exchange "Set-UMIPGateway <gateway> -Port 5061.", lync "", umbra "Set `port = 5061` in the [[ip_gateway]].";
    MWI_OFF = "UMB-GW010", "message waiting is off", sip None, ms None,
        cause "The UM IP gateway of a pool does not allow message-waiting NOTIFY, so the lamps of its users stay dark.",
        exchange "Set-UMIPGateway <gateway> -MessageWaitingIndicatorAllowed $true.", lync "", umbra "Set `message_waiting_indicator_allowed = true`.";
    POOL_WITHOUT_GATEWAY = "UMB-GW008", "pool without UM IP gateway", sip None, ms None,
        cause "No [[ip_gateway]] has the pool's FQDN as its address, so its calls are those of a stranger.",
        exchange "Run ExchUcUtil.ps1, or New-UMIPGateway -Address <pool fqdn>.", lync "", umbra "Add an [[ip_gateway]] whose `address` is the pool's FQDN.";
    NOTIFIED_USER_UNKNOWN = "UMB-GW011", "user of a notification is not known", sip Some((404, "Not Found")), ms Some(61002),
        cause "UM sent a notification for a user that no [[mailbox]] names, and its dial plans have several UM IP gateways to choose from.",
        exchange "", lync "", umbra "Add a [[mailbox]] with the user's `sip` address or `extension` and its dial plan.";
    GATEWAY_NOT_REACHED = "UMB-GW012", "UM IP gateway could not be reached", sip Some(UNAVAILABLE), ms None,
        cause "A call or notification of UM was to go to the UM IP gateway, and none of its addresses took a connection or answered.",
        exchange "", lync "Check that the pool's Front Ends run and listen, and that their certificates carry the pool's FQDN.", umbra "Check `address` and `port` of the [[ip_gateway]]; `umbra doctor` tries them.";
    MEDIA_RESOURCES = "UMB-MEDIA001", "no media ports left", sip Some(UNAVAILABLE), ms Some(62003),
        cause "The RTP port range is used up, or the operating system gave no socket.",
        exchange "", lync "", umbra "Widen `rtp_ports` (at least 4, better 5 per call) or raise the limit on open files.";
    SDP_UNUSABLE = "UMB-MEDIA002", "session description cannot be used", sip Some(NOT_ACCEPTABLE), ms None,
        cause "The body is no well-formed SDP with one audio stream and an address, or exceeds a limit.",
        exchange "", lync "", umbra "";
    NO_COMMON_CODEC = "UMB-MEDIA003", "no audio encoding in common", sip Some(NOT_ACCEPTABLE), ms None,
        cause "None of the offered encodings is allowed here.",
        exchange "", lync "", umbra "Add the encoding to `codecs` in [media] if UM understands it (PCMU, PCMA).";
    MEDIA_INACTIVE = "UMB-MEDIA004", "no media from either side", sip None, ms None,
        cause "Neither RTP nor RTCP arrived for `inactivity_timeout`; the far end is gone or a firewall drops its packets.",
        exchange "", lync "Check that the RTP ports of this host can be reached from the pool and its clients.", umbra "Check `rtp_ports`, `advertised` and the firewall.";
    FAX_REFUSED = "UMB-MEDIA005", "fax refused", sip Some(NOT_ACCEPTABLE), ms Some(61006),
        cause "An image/T.38-only offer: users of a SIP URI dial plan cannot receive fax, because a Mediation Server carries no T.38.",
        exchange "Use a telephone-extension dial plan with a gateway of its own for fax.", lync "", umbra "";
    ANSWER_UNUSABLE = "UMB-MEDIA006", "answer of the far side cannot be used", sip Some(NOT_ACCEPTABLE), ms Some(62003),
        cause "The answer breaks RFC 3264: other media lines, a format or a key tag that was not offered.",
        exchange "", lync "", umbra "";
    KEY_EXHAUSTED = "UMB-MEDIA007", "SRTP key used up", sip None, ms None,
        cause "A master key protected as many packets as its crypto line allows (`2^20` and the like), or as RFC 3711 does, and its owner offered no new one.",
        exchange "", lync "", umbra "Let the peer re-key before its lifetime is over, or offer keys with a longer one.";
    MEDIA_FOREIGN = "UMB-MEDIA008", "media address outside the peer's networks", sip Some(NOT_ACCEPTABLE), ms Some(62003),
        cause "A session description names an address for RTP or RTCP that is in none of the `media_networks` of its sender: clients, phones or workers in a network that nobody listed, or somebody who wants packets sent to a third party.",
        exchange "", lync "", umbra "Add the network to `media_networks` of the [[ip_gateway]], [[call_router]] or [[mailbox_server]]; without the key any address goes.";
    MEDIA_FAMILY = "UMB-MEDIA009", "no media address of the peer's family", sip Some(NOT_ACCEPTABLE), ms Some(62003),
        cause "A session description wants media at an IPv6 address and this gateway has none for media, or the other way round; or an answer names another family than it was offered.",
        exchange "", lync "", umbra "Name an address of either family: `address = [\"192.0.2.20\", \"2001:db8::20\"]` in [media].";
    CALLS_MAX = "UMB-CAP001", "as many calls as allowed", sip Some(UNAVAILABLE), ms Some(61004),
        cause "`max_calls_allowed` calls are in progress.",
        exchange "", lync "", umbra "Raise `max_calls_allowed` in [gateway] together with `rtp_ports`.";
    DRAINING = "UMB-CAP002", "gateway is draining", sip Some(UNAVAILABLE), ms Some(61004),
        cause "The gateway is about to stop: it takes no new calls, and those not over when its patience ended are cut.",
        exchange "", lync "", umbra "Wait, or send calls to another entry of the dial plan.";
    SERVERS_FULL = "UMB-CAP003", "every UM server has as many calls as allowed", sip Some(UNAVAILABLE), ms Some(61004),
        cause "All healthy servers of the plan have reached MaxCallsAllowed.",
        exchange "Set-UMService <server> -MaxCallsAllowed <n>, or add a server to the plan.", lync "", umbra "Keep `max_calls_allowed` of the servers equal to Exchange's.";
    TRANSACTIONS_MAX = "UMB-CAP004", "transaction table is full", sip Some(UNAVAILABLE), ms Some(61004),
        cause "More open transactions than the gateway keeps: a flood, or peers that never answer.",
        exchange "", lync "", umbra "`umbra_calls_active` and `umbra_calls` by ip_gateway in /metrics show who fills it.";
    GATEWAY_CALLS_MAX = "UMB-CAP005", "UM IP gateway has as many calls as allowed", sip Some(UNAVAILABLE), ms Some(61004),
        cause "`max_calls_allowed` calls of this UM IP gateway are in progress.",
        exchange "", lync "", umbra "Raise `max_calls_allowed` of the [[ip_gateway]], or look why its calls do not end.";
    ADMISSION_RATE = "UMB-CAP006", "more new calls in a second than allowed", sip Some(UNAVAILABLE), ms Some(61004),
        cause "New calls come faster than `calls_per_second_max`; calls in progress are not touched.",
        exchange "", lync "", umbra "Raise `calls_per_second_max` in [gateway] if this machine carries more, or find out who calls so often.";
    OVERLOADED = "UMB-CAP007", "gateway is overloaded", sip Some(UNAVAILABLE), ms Some(61004),
        cause "Work waited longer than `queue_wait_max` for its turn, so new calls are refused until the queue is gone; calls in progress are not touched.",
        exchange "", lync "", umbra "Give the gateway more CPU or more `shards`, add another gateway to the dial plan, or set `calls_per_second_max` to what this machine carries.";
    COMPLETED = "UMB-CALL001", "call ended normally", sip None, ms None,
        cause "One side hung up after the call was answered.", exchange "", lync "", umbra "";
    CALLER_GAVE_UP = "UMB-CALL002", "caller gave up during set-up", sip Some((487, "Request Terminated")), ms None,
        cause "CANCEL before the call was answered: a missed call.", exchange "", lync "", umbra "";
    UM_REFUSED = "UMB-CALL003", "UM refused the call", sip None, ms None,
        cause "The UM server sent a final answer that is neither a redirect nor a reason to try the next server; it was passed on.",
        exchange "Look into the UM server's event log at this time; UMCore and UMService write the reason.", lync "", umbra "";
    HOPS_USED_UP = "UMB-CALL004", "Max-Forwards used up", sip Some((483, "Too Many Hops")), ms None,
        cause "The request passed too many elements; usually a loop.", exchange "", lync "Check routes and trunks for a circle.", umbra "";
    LOOP = "UMB-CALL005", "loop", sip Some((482, "Loop Detected")), ms None,
        cause "A request that this gateway sent came back to it.", exchange "Check that no UM server's address points at the gateway.", lync "Check that the pool does not route UM servers to the gateway.", umbra "";
    MAX_DURATION = "UMB-CALL006", "longest call reached", sip None, ms None,
        cause "The call lasted `max_call_duration`, as the dial plan's MaxCallDuration says.",
        exchange "Set-UMDialPlan <plan> -MaxCallDuration <minutes>.", lync "", umbra "Keep `max_call_duration` equal to it.";
    SESSION_EXPIRED = "UMB-CALL007", "session timer expired", sip None, ms None,
        cause "The refresher sent no re-INVITE or UPDATE in time (RFC 4028).", exchange "", lync "", umbra "";
    ACK_MISSING = "UMB-CALL008", "answer was never acknowledged", sip None, ms None,
        cause "No ACK for the 200 within 64*T1; the call was ended with BYE.", exchange "", lync "Check that the peer can reach the Contact of this gateway.", umbra "Check `advertised` in [listen].";
    NO_DIALOG = "UMB-CALL009", "no such call", sip Some((481, "Call/Transaction Does Not Exist")), ms None,
        cause "The request belongs to no call here, or came from a peer that has no part in it.", exchange "", lync "", umbra "";
    METHOD_UNKNOWN = "UMB-CALL010", "method not implemented", sip Some((501, "Not Implemented")), ms None,
        cause "An out-of-dialog request with a method that this gateway does not know.", exchange "", lync "", umbra "";
    METHOD_NOT_ALLOWED = "UMB-CALL011", "method not allowed", sip Some((405, "Method Not Allowed")), ms None,
        cause "The method is known but has no use here (REGISTER).", exchange "", lync "Users register with the Front End, not with the gateway.", umbra "";
    EXTENSION_REQUIRED = "UMB-CALL012", "required extension not supported", sip Some((420, "Bad Extension")), ms None,
        cause "Require names an option tag that is not implemented.", exchange "", lync "", umbra "";
    CONNECTION_LOST = "UMB-CALL013", "connection to the peer lost", sip None, ms None,
        cause "The connection that carried the call broke and could not be made again.", exchange "", lync "", umbra "";
    HUNG_UP_BY_OPERATOR = "UMB-CALL014", "ended by the operator", sip Some((480, "Temporarily Unavailable")), ms None,
        cause "Somebody ended the call by command.", exchange "", lync "", umbra "";
    INTERNAL = "UMB-CALL015", "fault in the gateway", sip Some((500, "Server Internal Error")), ms Some(62004),
        cause "An invariant did not hold; only this call was ended.", exchange "", lync "", umbra "Please report it with the log lines of this call.";
    MALFORMED = "UMB-CALL016", "malformed request", sip Some((400, "Bad Request")), ms None,
        cause "The message breaks RFC 3261 in a way that leaves no safe reading.", exchange "", lync "", umbra "";
    GLARE = "UMB-CALL017", "another request is pending", sip Some((491, "Request Pending")), ms None,
        cause "Both sides changed the session at once (RFC 3261 §14.2).", exchange "", lync "", umbra "";
    MEDIA_TYPE = "UMB-CALL018", "body type not supported", sip Some((415, "Unsupported Media Type")), ms None,
        cause "The body is neither application/sdp nor a multipart that holds one.", exchange "", lync "", umbra "";
    SETUP_TIMEOUT = "UMB-CALL019", "call was not answered in time", sip Some((408, "Request Timeout")), ms Some(62001),
        cause "A UM server, or the phone that UM calls, rang, but neither answered nor refused within the set-up time.", exchange "Check the UM worker process on the server.", lync "", umbra "";
    INTERVAL_TOO_SMALL = "UMB-CALL020", "session interval too small", sip Some((422, "Session Interval Too Small")), ms None,
        cause "Session-Expires is below `min_se`, 90 s by default (RFC 4028 §4).", exchange "", lync "", umbra "Lower `min_se` in [session].";
    PRACK_MISSING = "UMB-CALL021", "provisional response was never acknowledged", sip Some((504, "Server Time-out")), ms Some(62001),
        cause "The caller asked for reliable provisional responses (100rel), but sent no PRACK within 64*T1 (RFC 3262 §3).", exchange "", lync "Check that the peer can reach the Contact of this gateway.", umbra "Check `advertised` in [listen].";
    DIALOG_GONE = "UMB-CALL022", "peer no longer knows the call", sip None, ms None,
        cause "The peer answered a request inside the call with 481 or 408: its side of the call is gone, so both legs were ended.", exchange "Check whether the UM worker process was recycled.", lync "", umbra "";
    CALLED_PARTY_REFUSED = "UMB-CALL024", "called party did not take the call of UM", sip None, ms None,
        cause "UM placed a call (Play-on-Phone, find-me) and the pool, a gateway or the phone answered with a final refusal; it was passed on.",
        exchange "", lync "Look whether the number is E.164 or is made so by a normalization rule, and whether a route and the voice policy allow it.", umbra "";
    SDP_NOT_ACCEPTED = "UMB-CALL023", "caller accepts no session description", sip Some((406, "Not Acceptable")), ms None,
        cause "The Accept of the INVITE leaves application/sdp out, so the caller could read no answer (RFC 3261 §20.1).", exchange "", lync "", umbra "";
}
