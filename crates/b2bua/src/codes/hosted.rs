//! `UMB-FED`: users whose voice mail is hosted elsewhere, and the way there.

use super::registry;

registry! {
    HOSTED_NO_POLICY = "UMB-FED001", "hosted user without hosted voice mail policy", sip Some((404, "Not Found")), ms Some(61002),
        cause "The user's voice mail is hosted, but no hosted voice mail policy applies: none was granted, the site of the pool has none, and there is no global one with a destination and an organization.",
        exchange "", lync "Set-CsHostedVoicemailPolicy -Destination <fqdn> -Organization <tenant>, or Grant-CsHostedVoicemailPolicy to the user.", umbra "Add a [[hosted_voicemail_policy]] with `identity = \"global\"`, or name one in `hosted_policy` of the [[mailbox]].";
    FEDERATION_OFF = "UMB-FED002", "Access Edge lets no federated call out", sip Some((403, "Forbidden")), ms Some(61002),
        cause "Hosted voice mail is reached through the Access Edge as a federated partner is, and `allow_federated_users` is not on.",
        exchange "", lync "Set-CsAccessEdgeConfiguration -AllowFederatedUsers $true.", umbra "Set `allow_federated_users = true` in [access_edge].";
    NO_HOSTING_PROVIDER = "UMB-FED003", "no way to the hosted voice mail's destination", sip Some((503, "Service Unavailable")), ms Some(62001),
        cause "No hosting provider leads to the destination of the hosted voice mail policy, and partners may not be discovered.",
        exchange "", lync "New-CsHostingProvider -ProxyFqdn <destination>, or Set-CsAccessEdgeConfiguration -UseDnsSrvRouting -EnablePartnerDiscovery $true.", umbra "Add a [[hosting_provider]] with the destination as `proxy_fqdn` (or name one in `hosting_provider` of the policy), or set `enable_partner_discovery = true` in [access_edge].";
    HOSTED_NEEDS_TLS = "UMB-FED004", "hosted user on an Unsecured dial plan", sip Some((488, "Incompatible security setting")), ms Some(61001),
        cause "Hosted voice mail is reached over mutual TLS only, and the user's dial plan is Unsecured.",
        exchange "Set-UMDialPlan <plan> -VoIPSecurity Secured (or SIPSecured).", lync "", umbra "Secure the dial plan that the hunt group leads to.";
    PROXY_IMMUTABLE = "UMB-FED005", "proxy of a hosting provider changed", sip None, ms None,
        cause "ProxyFQDN of a hosting provider cannot be changed once it is made; a reload that would change it is refused, and what was in force stays.",
        exchange "", lync "Remove-CsHostingProvider, then New-CsHostingProvider with the new proxy.", umbra "Give the provider with the new proxy another `identity`, or restart.";
    HOSTED_FLAG_UNUSED = "UMB-FED006", "hosted user in an on-premises deployment", sip None, ms None,
        cause "`deployment` is on_premises, so the hosted flag of users is not looked at and their calls stay here.",
        exchange "", lync "Set-CsUser -HostedVoiceMail $false, if the mailbox is on premises.", umbra "Set `deployment = \"mixed\"` in [hosted], or remove `hosted`.";
}
