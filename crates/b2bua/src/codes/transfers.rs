//! `UMB-XFER`: REFER, Replaces, and calls that change hands.

use super::registry;

const DECLINE: (u16, &str) = (603, "Decline");

registry! {
    REFER_MALFORMED = "UMB-XFER001", "REFER cannot be read", sip Some((400, "Bad Request")), ms None,
        cause "A REFER needs exactly one Refer-To with one address (RFC 3515 §2.4.1).", exchange "", lync "", umbra "";
    REFER_REFUSED = "UMB-XFER002", "transfers are not allowed", sip Some(DECLINE), ms Some(61005),
        cause "A REFER or an INVITE with Replaces came for a call of a dial plan that refuses them.",
        exchange "", lync "", umbra "Set `transfer` (and `replaces`) of the [[dial_plan]].";
    REPLACES_FOREIGN = "UMB-XFER003", "Replaces names a dialog of another peer", sip Some((403, "Forbidden")), ms Some(61005),
        cause "Only the peer that has a dialog may give it away or take it over.",
        exchange "", lync "List every Front End of the pool.", umbra "If the peer has several names, list them as `members` of its [[pool]]; `replaces = \"same_plan\"` lets every UM IP gateway of the dial plan take over.";
    REPLACES_UNKNOWN = "UMB-XFER004", "Replaces names no call", sip Some((481, "Call/Transaction Does Not Exist")), ms None,
        cause "No dialog of this gateway has that Call-ID and those tags, or it is one that the gateway did not begin and that is not answered yet (RFC 3891 §3).", exchange "", lync "", umbra "";
    REPLACES_CONFIRMED = "UMB-XFER005", "Replaces is for an early dialog only", sip Some((486, "Busy Here")), ms None,
        cause "`early-only` was demanded, but the call is answered already (RFC 3891 §3).", exchange "", lync "", umbra "";
    REPLACES_OVER = "UMB-XFER006", "Replaces names a call that is over", sip Some(DECLINE), ms None,
        cause "The call ended while the INVITE was on its way (RFC 3891 §3).", exchange "", lync "", umbra "";
    REPLACES_MALFORMED = "UMB-XFER007", "Replaces cannot be read", sip Some((400, "Bad Request")), ms None,
        cause "More than one Replaces, one in another request than INVITE, one beside Join, or one without both tags (RFC 3891 §3).", exchange "", lync "", umbra "";
    REPLACES_EARLY = "UMB-XFER008", "ringing server cannot be replaced", sip Some((488, "Not Acceptable Here")), ms None,
        cause "A UM server wanted to take over a leg that still rings: caller and server would both have an offer open, and neither could be answered. The call goes on unchanged (RFC 3891 §3).", exchange "", lync "", umbra "";
    TRANSFER_TARGET = "UMB-XFER009", "Refer-To cannot be called", sip Some(DECLINE), ms Some(61005),
        cause "The gateway carries out transfers to a sip, sips or tel URI by INVITE only, sips only over TLS, and never to the caller itself.",
        exchange "Look at the extension or number the attendant or the user transfers to.", lync "", umbra "";
    TRANSFER_FAILED = "UMB-XFER010", "transferred caller was left alone", sip None, ms None,
        cause "UM hung up after its REFER, and the target then refused, did not answer or could not be connected.",
        exchange "Check the number the attendant or the user transfers to.", lync "Check that the pool routes calls from this gateway to that number.", umbra "";
}
