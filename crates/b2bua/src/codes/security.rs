//! `UMB-SEC`: pool level, plan security and what the wire says do not fit together.

use super::registry;

const INCOMPATIBLE: Option<(u16, &str)> = Some((488, "Incompatible security setting"));
const EXPECTED: Option<u32> = Some(61001);

registry! {
    POOL_PLAN_MISMATCH = "UMB-SEC001", "pool encryption level and dial plan security do not fit", sip INCOMPATIBLE, ms EXPECTED,
        cause "The pool's media encryption level and the dial plan's VoIPSecurity exclude each other: RequireEncryption works with Secured only, SupportEncryption with SIPSecured and Secured, DoNotSupportEncryption with SIPSecured only; no pool works with Unsecured. The defaults of the two products do not fit.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity Secured (or SIPSecured for a pool that does not support encryption), then restart the UM services.",
        lync "Set-CsMediaConfiguration -EncryptionLevel to a level that the plan works with.",
        umbra "Make `voip_security` of the dial plan and `encryption` of the pool say what Exchange and Lync are really set to.";
    TLS_REQUIRED = "UMB-SEC002", "secured dial plan called without TLS", sip INCOMPATIBLE, ms EXPECTED,
        cause "The dial plan is Secured or SIPSecured, which means mutual TLS; the request came over TCP or UDP.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity Unsecured, if calls in the clear are what you want.",
        lync "Let the peer use the TLS port (5061) with a certificate for its FQDN.",
        umbra "Send the peer to the TLS listener, or use a hunt group whose dial plan is Unsecured.";
    SRTP_REQUIRED = "UMB-SEC003", "offer without SRTP on a Secured dial plan", sip INCOMPATIBLE, ms EXPECTED,
        cause "The dial plan is Secured, so media must be SRTP; the offer has RTP/AVP and no usable key.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity SIPSecured, if RTP in the clear is what you want.",
        lync "Set-CsMediaConfiguration -EncryptionLevel SupportEncryption or RequireEncryption.",
        umbra "";
    SRTP_NOT_TAKEN = "UMB-SEC004", "offer demands SRTP on a dial plan without it", sip INCOMPATIBLE, ms EXPECTED,
        cause "The offer is RTP/SAVP; the dial plan is SIPSecured or Unsecured, so UM takes RTP only.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity Secured, then restart the UM services.",
        lync "Set-CsMediaConfiguration -EncryptionLevel SupportEncryption or DoNotSupportEncryption.",
        umbra "";
    PLAN_TAKES_NO_TLS = "UMB-SEC005", "Unsecured dial plan called over TLS", sip INCOMPATIBLE, ms EXPECTED,
        cause "The dial plan is Unsecured, so UM takes plain TCP only; the request came over TLS and would be sent on in the clear.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity SIPSecured or Secured.",
        lync "",
        umbra "Point the peer to the TCP port, or its hunt group to a secured dial plan.";
    NO_USABLE_KEYS = "UMB-SEC006", "SRTP offered without a usable key", sip INCOMPATIBLE, ms EXPECTED,
        cause "The description is RTP/SAVP, but no a=crypto line has a known suite and well-formed key parameters.",
        exchange "",
        lync "Let the peer offer AES_CM_128_HMAC_SHA1_80 with SDES keys; DTLS-SRTP is not part of this island.",
        umbra "";
    ANSWER_INCOMPATIBLE = "UMB-SEC007", "answer does not keep the security of the offer", sip INCOMPATIBLE, ms EXPECTED,
        cause "The far side answered with a media profile that the dial plan does not allow, or with keys that were not asked for.",
        exchange "Check Get-UMDialPlan | fl VoIPSecurity against `voip_security` here, and UMStartupMode of the UM service.",
        lync "Check the pool's EncryptionLevel against `encryption` here.",
        umbra "Make `voip_security` say what Exchange is really set to.";
    DOWNGRADE = "UMB-SEC008", "change of media security inside a call refused", sip INCOMPATIBLE, ms EXPECTED,
        cause "A re-INVITE, UPDATE or late offer would change the protection of the media that was agreed when the call began.",
        exchange "",
        lync "Nothing to set: the endpoint must keep its media profile during a call.",
        umbra "";
    SECURED_NEEDS_FQDN = "UMB-SEC009", "secured dial plan needs a gateway known by FQDN", sip None, ms None,
        cause "A hunt group leads from a UM IP gateway with an IP address to a Secured or SIPSecured dial plan; TLS peers are known by the name in their certificate.",
        exchange "Set-UMIPGateway <gateway> -Address <fqdn>.",
        lync "",
        umbra "Set `address` of the [[ip_gateway]] to the FQDN in the peer's certificate; its IPs may follow in the same list.";
    SECURED_NEEDS_TLS = "UMB-SEC010", "secured dial plan needs the TLS listener", sip None, ms None,
        cause "A dial plan is Secured or SIPSecured, but the listener runs in startup mode TCP, or there is no [tls] section.",
        exchange "The same rule holds there: Set-UMService <server> -UMStartupMode Dual (or TLS).",
        lync "",
        umbra "Set `startup_mode = \"Dual\"` in [listen] and add a [tls] section with a certificate.";
    UNSECURED_NEEDS_TCP = "UMB-SEC011", "Unsecured dial plan needs the TCP listener", sip None, ms None,
        cause "A dial plan is Unsecured, but the listener runs in startup mode TLS, so its calls can never arrive.",
        exchange "",
        lync "",
        umbra "Set `startup_mode = \"Dual\"` in [listen], or secure the dial plan.";
    BRIDGE_IN_USE = "UMB-SEC012", "media bridge between pool and dial plan is on", sip None, ms None,
        cause "`media_bridge` lets a pool and a dial plan whose media levels differ talk by SRTP-RTP transcryption; one side's media is in the clear.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity Secured makes the bridge unnecessary.",
        lync "",
        umbra "Remove `media_bridge` once both sides agree.";
    PHONE_EDITION = "UMB-SEC013", "Lync Phone Edition needs a Secured dial plan", sip None, ms None,
        cause "The dial plan of a Lync pool is not Secured; Lync Phone Edition devices speak SRTP only and cannot reach voice mail then.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity Secured.",
        lync "",
        umbra "";
}
