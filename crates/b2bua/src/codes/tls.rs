//! `UMB-TLS`: certificates and handshakes, ours and the peers'.

use super::registry;

registry! {
    NO_CLIENT_CERTIFICATE = "UMB-TLS001", "peer presented no certificate", sip None, ms None,
        cause "Mutual TLS: every peer must present a certificate; this one sent none.",
        exchange "Assign a certificate to the UM services.", lync "Assign a certificate to the Front End: Set-CsCertificate -Type Default.", umbra "";
    UNTRUSTED_CHAIN = "UMB-TLS002", "certificate chain is not trusted", sip None, ms None,
        cause "The peer's certificate does not end in a root listed in `trusted_roots`.",
        exchange "Send intermediate certificates along, or use the same CA as Lync.", lync "Send intermediate certificates along.", umbra "Add the issuing root to `trusted_roots` in [tls].";
    NAME_MISMATCH = "UMB-TLS003", "certificate is for another name", sip None, ms None,
        cause "The certificate's names do not include the server that was called.",
        exchange "Request a certificate whose subject is the server's FQDN.", lync "", umbra "Check that the server's `name` is the FQDN in its certificate.";
    WILDCARD_SUBJECT = "UMB-TLS004", "wildcard subject", sip None, ms None,
        cause "The subject name is a wildcard. Deposits seem to work, but message waiting and Play-on-Phone silently break; a wildcard is tolerated among the SANs only.",
        exchange "Reissue for the FQDN and assign it to the UM services.", lync "Reissue for the pool's FQDN.", umbra "Reissue the gateway's certificate for `fqdn`.";
    EXPIRED = "UMB-TLS005", "certificate has expired", sip None, ms None,
        cause "The life of the certificate is over, or a clock is ahead. One whose life has not begun is UMB-TLS047.",
        exchange "Renew it, assign it to the UM services, restart them.", lync "Renew it and run Set-CsCertificate.", umbra "Renew the file named by `certificate`.";
    WEAK_KEY = "UMB-TLS006", "weak key", sip None, ms None,
        cause "An RSA key of less than 2048 bits.", exchange "", lync "", umbra "Issue a certificate with RSA 2048 or more, or ECDSA P-256.";
    WRONG_PURPOSE = "UMB-TLS007", "certificate lacks the server-authentication purpose", sip None, ms None,
        cause "The extended key usage does not contain serverAuth; Lync and Exchange refuse it.", exchange "", lync "", umbra "Reissue from a web-server template.";
    KEY_MISMATCH = "UMB-TLS008", "private key does not belong to the certificate", sip None, ms None,
        cause "`certificate` and `private_key` are not a pair.", exchange "", lync "", umbra "Name the key that the certificate was requested with.";
    FILE_UNUSABLE = "UMB-TLS009", "certificate or key file cannot be used", sip None, ms None,
        cause "The file is missing, unreadable, or holds no PEM object of the expected kind.", exchange "", lync "", umbra "Give PEM files; relative paths start at the folder of the configuration file.";
    HANDSHAKE_FAILED = "UMB-TLS010", "TLS handshake failed", sip None, ms None,
        cause "The peer broke the handshake off, spoke no TLS, or was too slow.", exchange "", lync "", umbra "A server that closes without a word right after our offer may have found nothing in it: `umbra explain UMB-TLS014`.";
    SUBJECT_NOT_FQDN = "UMB-TLS011", "certificate subject is not the gateway's FQDN", sip None, ms None,
        cause "Lync and Exchange know the gateway by the subject of its certificate, which must equal `fqdn`.",
        exchange "", lync "", umbra "Reissue with the FQDN as subject CN and as first SAN.";
    PSS_SIGNATURE = "UMB-TLS012", "certificate signed with RSASSA-PSS", sip None, ms None,
        cause "Lync does not accept RSASSA-PSS signatures.", exchange "", lync "", umbra "Let the CA sign with PKCS #1 v1.5 (sha256RSA).";
    NO_CRL_POINT = "UMB-TLS013", "no CRL distribution point", sip None, ms None,
        cause "Lync checks revocation and wants a distribution point in the certificate.", exchange "", lync "", umbra "Issue from a CA that publishes CRLs; labs may ignore this.";
    NO_COMMON_SUITE = "UMB-TLS014", "no protocol version or cipher suite in common", sip None, ms None,
        cause "With an RSA certificate Windows Server 2012 R2 and older have ECDHE with CBC, but not with GCM, and rustls has only GCM; Windows Server 2008 R2 stops at TLS 1.0 unless told otherwise. The log line names what we take or offer, what the peer offers where that can be known, and what would help.",
        exchange "Use an ECDSA certificate for the UM services (with it even these offer GCM), or a newer Windows; on Windows Server 2008 R2 enable TLS 1.2. Or let it be, with `tls = { backend = \"openssl\" }` for it here.", lync "The same: an ECDSA certificate, or a newer Windows; or `tls` for it here.", umbra "For that listener or peer alone: `tls = { backend = \"openssl\" }`; with `min_version = \"1.0\"` for hosts without TLS 1.2, with `ciphers = \"modern cbc rsa\"` for hosts that know RSA key exchange only. It is old and will be warned of.";
    EXPIRES_SOON = "UMB-TLS015", "certificate expires soon", sip None, ms None,
        cause "The certificate ends within 30 days.", exchange "", lync "", umbra "Renew it; a reload picks it up without dropping calls.";
    ROOT_MISSING = "UMB-TLS016", "certificate's issuer is not among the trusted roots", sip None, ms None,
        cause "The gateway's own chain does not lead to a root in `trusted_roots`; peers that share those roots would refuse it.", exchange "", lync "", umbra "Append intermediates to `certificate`, and list the root.";
    CLIENT_CERTIFICATE_BAD = "UMB-TLS017", "peer's certificate refused", sip None, ms None,
        cause "The certificate could not be parsed or breaks a rule of RFC 5280.", exchange "", lync "", umbra "";
    WEAK_SIGNATURE = "UMB-TLS018", "certificate signed with SHA-1 or MD5", sip None, ms None,
        cause "Certificates signed over MD5 or SHA-1 can be forged; this gateway refuses such a chain.",
        exchange "Reissue the certificate from a CA that signs with SHA-256, assign it to the UM services, restart them.", lync "Reissue it from a CA that signs with SHA-256 and run Set-CsCertificate.", umbra "Let the CA sign with SHA-256 (sha256RSA). For an old lab, `weak_certificates = \"Allowed\"` at that one peer takes SHA-1, never MD5.";
    REFUSED_BY_PEER = "UMB-TLS019", "peer refuses our certificate", sip None, ms None,
        cause "The peer asked for a certificate, got the gateway's, and broke off. The alert says why: UnknownCA = it does not trust the issuer; BadCertificate or CertificateUnknown = name or content; CertificateExpired = life, or its clock; AccessDenied or a silent close = the name belongs to no peer it knows.",
        exchange "Import the issuing root into Trusted Root Certification Authorities of the server; New-UMIPGateway -Address <fqdn of the gateway>.", lync "Import the issuing root on every Front End, and check that the topology knows the gateway by this FQDN.", umbra "Check that the subject of `certificate` is `fqdn`, and that `certificate` holds the intermediates.";
    CERTIFICATE_DEMANDED = "UMB-TLS020", "peer demands a client certificate", sip None, ms None,
        cause "The peer asks for a client certificate and ends the connection when none comes; nothing was presented in this look.",
        exchange "", lync "", umbra "Name the configuration with -c, so that the gateway's own certificate is presented.";
    NOT_ASKED = "UMB-TLS021", "peer does not ask for our certificate", sip None, ms None,
        cause "The peer finished the handshake without asking who we are. UM servers and pools always ask: this is another service, or a proxy in between ends TLS.",
        exchange "Set-UMService <server> -UMStartupMode Dual (or TLS), and restart the service.", lync "", umbra "Check host and port.";
    NOT_TLS = "UMB-TLS022", "no TLS is spoken there", sip None, ms None,
        cause "Something accepted the connection and answered with bytes that are no TLS: a plain SIP port, or another service.",
        exchange "The UM Call Router has TLS on 5061, the UM service on 5063, when UMStartupMode is TLS or Dual.", lync "", umbra "Check the port.";
    NO_CONNECTION = "UMB-TLS023", "no connection to the peer", sip None, ms None,
        cause "The name has no address, nothing listens on the port, or a firewall drops the connection.",
        exchange "Check that the UM service runs in startup mode TLS or Dual.", lync "", umbra "Check name, `address` and port, and the firewalls between.";
    PFX_PASSWORD = "UMB-TLS024", "PFX file does not open", sip None, ms None,
        cause "The password is wrong, or the file is damaged: its integrity check fails.",
        exchange "", lync "", umbra "Give the password of the export in a file (--password-file); its first line counts.";
    PFX_UNSUPPORTED = "UMB-TLS025", "PFX file of an unsupported form", sip None, ms None,
        cause "The PFX file uses an encryption or a structure that is not read here, or it holds no private key.",
        exchange "Export-ExchangeCertificate -BinaryEncoded, with the private key.", lync "", umbra "Export again with the private key, with TripleDES-SHA1 or AES256-SHA256; or convert with openssl pkcs12 -in FILE -out FILE.pem -nodes and import that.";
    NOT_A_CA = "UMB-TLS026", "issuer is no certification authority", sip None, ms None,
        cause "A certificate of the chain was issued by one that is not a CA (basic constraints, RFC 5280 §4.2.1.9).", exchange "", lync "", umbra "";
    PATH_TOO_LONG = "UMB-TLS027", "certificate chain is longer than allowed", sip None, ms None,
        cause "An issuer's path length constraint is exceeded, or the chain has more than six intermediates.", exchange "", lync "", umbra "";
    CA_AS_PEER = "UMB-TLS028", "authority's certificate used by a peer", sip None, ms None,
        cause "The peer presents the certificate of a CA as its own.", exchange "Assign a server certificate to the UM services.", lync "", umbra "";
    NAME_CONSTRAINT = "UMB-TLS029", "name outside the issuer's constraints", sip None, ms None,
        cause "An issuer may sign certain names only (RFC 5280 §4.2.1.10) and this is none of them; a common name does not count under such an issuer.", exchange "", lync "", umbra "";
    REVOKED = "UMB-TLS030", "certificate has been revoked", sip None, ms None,
        cause "The peer's certificate, or one of its issuers, stands in a list of `crls`.",
        exchange "Request a new certificate and assign it to the UM services.", lync "Request a new certificate: Request-CsCertificate.", umbra "";
    REVOCATION_UNKNOWN = "UMB-TLS031", "nobody knows whether the certificate is revoked", sip None, ms None,
        cause "`crls` is set, `crl_policy` is require, and for one issuer of the chain there is no list that is its own and in date.",
        exchange "", lync "", umbra "Fetch the current list of every issuer in the chain and reload; or `crl_policy = \"prefer\"`.";
    UNKNOWN_CRITICAL_EXTENSION = "UMB-TLS032", "unknown critical extension", sip None, ms None,
        cause "The certificate has an extension that must be understood (RFC 5280 §4.2) and is not.", exchange "", lync "", umbra "";
    OLD_VERSION = "UMB-TLS033", "certificate is not X.509 version 3", sip None, ms None,
        cause "Older versions have no extensions: neither names nor purpose can be checked.", exchange "Reissue from a current CA.", lync "", umbra "";
    LONG_SERIAL = "UMB-TLS034", "serial number is too long", sip None, ms None,
        cause "The serial number has more than 20 octets (RFC 5280 §4.1.2.2).", exchange "", lync "", umbra "";
    CRL_UNUSABLE = "UMB-TLS035", "revocation list cannot be used", sip None, ms None,
        cause "A file of `crls` is missing, unreadable or too long, or holds no certificate revocation list.",
        exchange "", lync "", umbra "Give PEM or DER files; with `crl_policy = \"prefer\"` the gateway goes on without this one.";
    CRL_STALE = "UMB-TLS036", "revocation list is out of date", sip None, ms None,
        cause "The next update of a list of `crls` is past; with `crl_policy` require the peers of its issuer are refused.",
        exchange "", lync "", umbra "Fetch the current list and reload.";
    WEAK_ALLOWED = "UMB-TLS037", "weak certificates are allowed", sip None, ms None,
        cause "For this peer SHA-1 signatures and RSA keys of 1024 bits and more are accepted: who can forge them is taken for the peer.",
        exchange "Reissue its certificate with SHA-256 and RSA 2048.", lync "Reissue its certificate with SHA-256 and RSA 2048.", umbra "Remove `weak_certificates` when the peer has a better one; `umbra_tls_weak_certificates_total` counts the uses.";
    NAME_NOT_COVERED = "UMB-TLS038", "certificate does not cover the gateway's FQDN", sip None, ms None,
        cause "The subject fits, but peers look at the alternative names first and `fqdn` is not among them; it is what Via, Contact and Record-Route announce over TLS.",
        exchange "", lync "", umbra "Reissue with `fqdn` among the alternative names.";
    ISSUER_FORGED = "UMB-TLS039", "issuer's name with another key", sip None, ms None,
        cause "The certificate names one of our roots, or an intermediate, as issuer, but its signature is not of that key.",
        exchange "", lync "", umbra "If the CA was set up anew under its old name, add the new root to `trusted_roots`; otherwise somebody imitates it.";
    ISSUER_MISSING = "UMB-TLS040", "issuing certificate is missing", sip None, ms None,
        cause "The peer's certificate was issued by an authority that is neither sent along nor listed in `trusted_roots`.",
        exchange "Install the intermediate certificate on the server, so that it is sent along.", lync "Install the intermediate certificate on the Front End.", umbra "Add the issuing root to `trusted_roots` in [tls].";
    SELF_SIGNED = "UMB-TLS041", "self-signed certificate", sip None, ms None,
        cause "The certificate is its own issuer and no configured root.",
        exchange "Replace the certificate that setup made by one of the CA shared with Lync.", lync "Request a certificate: Request-CsCertificate.", umbra "";
    ISSUER_EXPIRED = "UMB-TLS042", "issuing certificate outside its lifetime", sip None, ms None,
        cause "The peer's own certificate is in date, one of its issuers is not.",
        exchange "Renew the intermediate CA and send its new certificate along.", lync "Renew the intermediate CA and send its new certificate along.", umbra "";
    NO_NAME = "UMB-TLS043", "certificate carries no name", sip None, ms None,
        cause "There is no dNSName, no address and no host name as subject, so nobody is named.",
        exchange "Request a certificate whose subject is the server's FQDN.", lync "", umbra "";
    MALFORMED_NAME = "UMB-TLS044", "malformed name in a certificate", sip None, ms None,
        cause "A name holds NUL, control or other characters that no host name has, an empty label, or a wildcard that is no whole label on the left.",
        exchange "", lync "", umbra "Names outside ASCII stand in certificates in their A-label form (xn--).";
    TOO_MANY_NAMES = "UMB-TLS045", "too many names in a certificate", sip None, ms None,
        cause "The certificate lists more than 256 alternative names.", exchange "Request a certificate for the UM servers only.", lync "", umbra "";
    TLS_LEGACY = "UMB-TLS046", "old TLS is allowed", sip None, ms None,
        cause "For this listener or peer `tls` allows what is no longer held safe: TLS 1.0 or 1.1, suites with CBC, RSA key exchange (who gets the key later reads what was recorded), SHA-1.",
        exchange "Move UM to Windows Server 2016 or newer, or to an ECDSA certificate.", lync "The same for the Front End.", umbra "Take the setting out when the host is gone: `umbra_tls_legacy_handshakes_total` shows who still uses it, `umbra_tls_legacy_allowed` what is allowed where.";
    NOT_YET_VALID = "UMB-TLS047", "certificate is not valid yet", sip None, ms None,
        cause "The life of the certificate, or of one of its issuers, has not begun: it was issued a moment ago or for a later day, or a clock is behind.",
        exchange "Check w32tm /query /status on the server and on the CA; until then assign the certificate before it.", lync "Check w32tm /query /status on the Front End and on the CA.", umbra "Compare this host's clock with theirs: umbra doctor time.";
    KEYS_LOGGED = "UMB-TLS060", "TLS secrets are written to a file", sip None, ms None,
        cause "--keylog or SSLKEYLOGFILE is set: whoever reads the file can decrypt captures of every connection made since, the SRTP keys and PIN digits in them included.",
        exchange "", lync "", umbra "Stop, start without it, and delete the file when the capture has been looked at.";
}
