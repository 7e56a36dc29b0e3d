//! A site for the tests of the checks: one configuration that nothing is wrong with, and edits of it.

use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use lab::pki::{CertSpec, Pki};

use crate::config::{self, Compiled};

/// A pool, a PBX, two servers of each kind, a Secured and an Unsecured plan.
pub(super) const TEXT: &str = r#"
[gateway]
fqdn = "umbra.contoso.test"

[listen]
addresses = ["127.0.0.20"]

[tls]
certificate = "umbra.pem"
private_key = "umbra.key"
trusted_roots = ["lab-root.pem"]

[media]
rtp_ports = "20000-20599"

[[pool]]
name = "pool01"
fqdn = "pool01.contoso.test"
address = ["127.0.0.10"]
encryption = "RequireEncryption"

[[ip_gateway]]
name = "pool01"
address = "pool01.contoso.test"
port = 5061
outcalls_allowed = true

[[ip_gateway]]
name = "pbx"
address = "127.0.0.40"
outcalls_allowed = true

[[hunt_group]]
name = "pool01-default"
ip_gateway = "pool01"
dial_plan = "DP-Sip"

[[hunt_group]]
name = "pbx-default"
ip_gateway = "pbx"
dial_plan = "DP-Pbx"

[[dial_plan]]
name = "DP-Sip"
voip_security = "Secured"
phone_context = "DP-Sip.contoso.test"

[[dial_plan]]
name = "DP-Pbx"
uri_type = "TelExtn"
voip_security = "Unsecured"
phone_context = "DP-Pbx.contoso.test"

[[call_router]]
name = "cas01.contoso.test"
address = ["127.0.0.30"]

[[call_router]]
name = "cas02.contoso.test"
address = ["127.0.0.29"]

[[mailbox_server]]
name = "mbx01.contoso.test"
address = ["127.0.0.31"]

[[mailbox_server]]
name = "mbx02.contoso.test"
address = ["127.0.0.32"]
"#;

/// A folder with certificates, made once.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        pki.issue_files("umbra", &CertSpec::host("umbra.contoso.test")).unwrap();
        folder
    });
    folder.path()
}

/// The configuration with more lines at its end.
pub(super) fn compiled(more: &str) -> Compiled {
    edited(|text| format!("{text}{more}"))
}

/// The configuration, changed.
pub(super) fn edited(edit: impl Fn(&str) -> String) -> Compiled {
    let text = edit(TEXT);
    let nobody: [(&str, &str); 0] = [];
    let compiled = config::compile(&folder().join("umbra.toml"), &text, nobody, SystemTime::now());
    compiled.unwrap_or_else(|problems| panic!("{problems}"))
}
