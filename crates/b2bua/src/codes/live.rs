//! `UMB-DIR`: the live directory.

use super::registry;

registry! {
    DIR_URL = "UMB-DIR001", "address of the directory not understood", sip None, ms None,
        cause "`url` of [directory] is no ldap:// or ldaps:// with a host and nothing behind it but a port, or `start_tls` stands with ldaps://.", exchange "", lync "", umbra "Write url = \"ldaps://dc01.contoso.test\"; bases have keys of their own.";
    DIR_CLEAR = "UMB-DIR002", "password would be sent in the clear", sip None, ms None,
        cause "`bind_dn` is set, `url` is ldap:// and `start_tls` is not true: whoever is on the way reads the password. To a loopback address it is a warning.", exchange "", lync "", umbra "Use ldaps://, or ldap:// with start_tls = true.";
    DIR_PASSWORD = "UMB-DIR003", "no password for the directory", sip None, ms None,
        cause "`bind_dn` and `password_file` are not both there, or the file cannot be read, has an empty first line or more than 1,024 octets. With an empty password a directory takes us for nobody and says yes.", exchange "", lync "", umbra "Put the password into the first line of a file that only the gateway's user reads, and name it in `password_file`.";
    DIR_ROOTS = "UMB-DIR004", "nobody vouches for the directory", sip None, ms None,
        cause "The connection is to be sealed, and neither [directory] nor [tls] names trusted roots.", exchange "", lync "", umbra "Name the roots of the domain controllers' certificates in `trusted_roots` of [directory].";
    DIR_UNREACHABLE = "UMB-DIR005", "directory does not answer", sip None, ms None,
        cause "No connection within 5 s, no answer within 20 s, not done within 60 s, or the connection was closed. What was read last stays in force.", exchange "", lync "", umbra "Look at host and port in `url`, at firewalls and at the domain controller. It is tried again every 30 s, or every `refresh` if that is shorter.";
    DIR_TLS = "UMB-DIR006", "no TLS with the directory", sip None, ms None,
        cause "The certificate of the directory is not for the name in `url`, not from a trusted root, over, or weak; or StartTLS was refused. Nothing was asked.", exchange "", lync "", umbra "Use the name that the certificate has, and the root that issued it in `trusted_roots`; `umbra cert verify HOST:636` shows what is presented.";
    DIR_BIND = "UMB-DIR007", "directory refuses the bind", sip None, ms None,
        cause "Name or password is wrong, the account is locked or over, or the directory wants TLS.", exchange "", lync "", umbra "Look at `bind_dn` and `password_file`; the file is read anew at each try, so a new password needs no restart. It is tried again every `refresh` and at SIGHUP only, lest the account be locked.";
    DIR_SEARCH = "UMB-DIR008", "directory refuses the search", sip None, ms None,
        cause "The base does not exist, the right to read it is missing, a limit of the directory was exceeded, or another directory was named instead: referrals are not followed.", exchange "", lync "", umbra "Look at `configuration_base` and `users_bases`, and name a directory that has them.";
    DIR_ANSWER = "UMB-DIR009", "answer of the directory not taken", sip None, ms None,
        cause "What came is no LDAP, longer than a message may be (1 MiB), or more than is taken: 20,000 entries, 64 MiB in all. A part is never taken for the whole.", exchange "", lync "", umbra "Narrow the bases or `tables`.";
    DIR_EMPTY = "UMB-DIR010", "directory shows nothing", sip None, ms None,
        cause "The directory answered every question, and there is no object of UM or Lync in it; Active Directory says the same to an account without the right to see them. What was read last stays in force.", exchange "", lync "", umbra "Look at the bases, and at what the account may read: `ldapsearch` with the same name shows it.";
    DIR_VIEW = "UMB-DIR011", "view of the directory refused", sip None, ms None,
        cause "Objects of the directory are broken, or do not go together with each other or with those of the file. The view is refused as a whole; what was read last stays in force.", exchange "Correct the object that the log names.", lync "", umbra "Or give this configuration an object of the same identity: the file's is taken.";
    DIR_OLD = "UMB-DIR012", "view of the directory is an old one", sip None, ms None,
        cause "What was kept of the directory in `state_dir` is what counts here, or nothing was kept: objects that stand only in the directory are then unknown.", exchange "", lync "", umbra "Bring the directory back; `umbra import ldap` reads it now and says what is wrong.";
    DIR_KEEP = "UMB-DIR013", "view of the directory cannot be kept", sip None, ms None,
        cause "`state_dir` cannot be written, so a start without the directory will know only what was kept before, if anything.", exchange "", lync "", umbra "Give the gateway's user the right to write there, and room.";
    DIR_LEFT_OUT = "UMB-DIR014", "part of the directory left out", sip None, ms None,
        cause "An object lacks what it cannot be without, or names one that is neither in the directory nor here, or one of its values does not fit; the rest of the view is taken.", exchange "Correct the object that is named.", lync "", umbra "Or leave its kind out of `tables` in [directory].";
}
