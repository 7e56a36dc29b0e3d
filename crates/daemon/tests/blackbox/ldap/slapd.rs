//! A directory for one test: OpenLDAP's `slapd` on the test's own loopback network, with a schema that has the names of Active
//! Directory's UM and Lync attributes, and the objects of the plain configuration in `traffic`.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::pki::{CertSpec, Pki};

use crate::harness::{Net, Process};

pub const PORT: u16 = 3389;
pub const TLS_PORT: u16 = 3636;
pub const PASSWORD: &str = "s3cret-of-the-directory";
pub const BIND_DN: &str = "cn=umbra,dc=contoso,dc=test";
pub const FQDN: &str = "dc01.contoso.test";
/// Host number of the directory.
const HOST: u8 = 50;
const UM: &str = "CN=First Organization,CN=Configuration,DC=contoso,DC=test";
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox/ldap/um-lync.schema");

/// A running directory.
pub struct Slapd {
    folder: tempfile::TempDir,
    pub address: Ipv4Addr,
    process: Option<Process>,
    pub root: PathBuf,
}

impl Slapd {
    /// With the objects of [`objects`] and more of them.
    pub fn start(net: Net, more: &str) -> Self {
        let folder = crate::harness::folder();
        let pki = Pki::open(&folder.path().join("pki")).unwrap();
        let address = net.host(HOST);
        let spec = CertSpec { more_names: vec![address.to_string()], ..CertSpec::host(FQDN) };
        let files = pki.issue_files("dc01", &spec).unwrap();
        std::fs::create_dir(folder.path().join("db")).unwrap();
        let config = config(folder.path(), &files.certificate, &files.key, &pki.root_file());
        std::fs::write(folder.path().join("slapd.conf"), config).unwrap();
        let root = pki.root_file();
        let mut slapd = Self { folder, address, process: None, root };
        slapd.fill(&(objects(net) + more));
        slapd.up();
        slapd
    }

    /// Starts it, again if it was ended.
    pub fn up(&mut self) {
        let addresses = format!("ldap://{0}:{PORT}/ ldaps://{0}:{TLS_PORT}/", self.address);
        let mut command = Command::new("slapd");
        command.arg("-f").arg(self.conf()).args(["-h", &addresses, "-d", "0"]);
        let mut process = Process::start("slapd", &mut command, self.folder.path());
        process.wait_for_port(self.address.into(), PORT);
        self.process = Some(process);
    }

    /// Ends it at once.
    pub fn down(&mut self) {
        self.process = None;
    }

    /// Changes it while it runs, by LDIF.
    pub fn change(&self, ldif: &str) {
        let url = format!("ldap://{}:{PORT}", self.address);
        let mut command = Command::new("ldapmodify");
        command.args(["-x", "-H", &url, "-D", BIND_DN, "-w", PASSWORD, "-a"]);
        piped(&mut command, ldif);
    }

    fn fill(&self, ldif: &str) {
        piped(Command::new("slapadd").arg("-f").arg(self.conf()), ldif);
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("slapd.conf")
    }

    /// `[directory]` of a configuration in this folder, over plain LDAP.
    pub fn section(&self, folder: &Path) -> String {
        std::fs::write(folder.join("directory.password"), format!("{PASSWORD}\n")).unwrap();
        format!(
            "[directory]\nurl = \"ldap://{}:{PORT}\"\nconfiguration_base = \"CN=Configuration,DC=contoso,DC=test\"\n\
             users_bases = [\"OU=People,DC=contoso,DC=test\"]\nbind_dn = \"{BIND_DN}\"\n\
             password_file = \"directory.password\"\nrefresh = \"1s\"\n",
            self.address
        )
    }
}

fn piped(command: &mut Command, ldif: &str) {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(ldif.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}\n{ldif}");
}

fn config(folder: &Path, certificate: &Path, key: &Path, root: &Path) -> String {
    let schema =
        ["core", "cosine", "inetorgperson"].map(|name| format!("include /etc/ldap/schema/{name}.schema\n"));
    format!(
        "{}include {SCHEMA}\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {}/pid\n\
         TLSCertificateFile {}\nTLSCertificateKeyFile {}\nTLSCACertificateFile {}\n\
         database mdb\nsuffix \"dc=contoso,dc=test\"\nrootdn \"{BIND_DN}\"\nrootpw {PASSWORD}\n\
         access to * by * none\nsizelimit size.prtotal=unlimited\ndirectory {}/db\n",
        schema.concat(),
        folder.display(),
        certificate.display(),
        key.display(),
        root.display(),
        folder.display(),
    )
}

/// The containers, and the plan, UM IP gateway and hunt group that `traffic::config` has, with a mailbox.
fn objects(net: Net) -> String {
    let mut all = "dn: DC=contoso,DC=test\nobjectClass: dcObject\nobjectClass: organization\no: Contoso\ndc: contoso\n\n\
                   dn: OU=People,DC=contoso,DC=test\nobjectClass: organizationalUnit\nou: People\n\n"
        .to_owned();
    let containers = ["CN=Configuration,DC=contoso,DC=test", UM];
    let below = [
        "UM DialPlan Container",
        "UM IPGateway Container",
        "UM Mailbox Policies",
        "UM AutoAttendant Container",
    ];
    for dn in
        containers.iter().map(|dn| (*dn).to_owned()).chain(below.iter().map(|name| format!("CN={name},{UM}")))
    {
        let name = dn.trim_start_matches("CN=").split(',').next().unwrap().to_owned();
        all += &format!("dn: {dn}\nobjectClass: container\ncn: {name}\n\n");
    }
    all + &plan("DP", 2)
        + &gateway("pbx", net.host(10))
        + &group("pbx", "pbx-hunt", "DP", "88895")
        + &user("ken", "1001")
}

/// A dial plan of telephone extensions: 1 = SIP secured, 2 = unsecured, 3 = secured.
pub fn plan(name: &str, security: u8) -> String {
    format!(
        "dn: CN={name},CN=UM DialPlan Container,{UM}\nobjectClass: msExchUMDialPlan\ncn: {name}\nmsExchUMDialPlanURIType: 1\n\
         msExchUMDialPlanVoipSecurity: {security}\nmsExchUMPhoneContext: {name}.contoso.test\nmsExchUMNumberingPlanDigits: 4\n\
         msExchUMMaxCallDuration: 30\nmsExchUMFaxEnabled: TRUE\n\n"
    )
}

pub fn plan_dn(name: &str) -> String {
    format!("CN={name},CN=UM DialPlan Container,{UM}")
}

pub fn group_dn(gateway: &str, name: &str) -> String {
    format!("CN={name},CN={gateway},CN=UM IPGateway Container,{UM}")
}

fn gateway(name: &str, address: Ipv4Addr) -> String {
    format!(
        "dn: CN={name},CN=UM IPGateway Container,{UM}\nobjectClass: msExchUMIPGateway\ncn: {name}\n\
         msExchUMIPGatewayAddress: {address}\nmsExchUMIPGatewayPort: 5070\nmsExchUMIPGatewayStatus: 0\nmsExchUMOutcallsAllowed: TRUE\n\n"
    )
}

pub fn group(gateway: &str, name: &str, plan: &str, pilot: &str) -> String {
    format!(
        "dn: {}\nobjectClass: msExchUMHuntGroup\ncn: {name}\nmsExchUMHuntGroupDialPlanLink: {}\nmsExchUMPilotIdentifier: {pilot}\n\n",
        group_dn(gateway, name),
        plan_dn(plan)
    )
}

pub fn user(alias: &str, extension: &str) -> String {
    format!(
        "dn: CN={alias},OU=People,DC=contoso,DC=test\nobjectClass: inetOrgPerson\nobjectClass: umbraUser\ncn: {alias}\nsn: {alias}\n\
         mailNickname: {alias}\nmsExchUMEnabledFlags: 831\nmsRTCSIP-PrimaryUserAddress: sip:{alias}@contoso.test\n\
         msExchUMRecipientDialPlanLink: {}\nproxyAddresses: SMTP:{alias}@contoso.test\n\
         proxyAddresses: eum:{extension};phone-context=DP.contoso.test\n\n",
        plan_dn("DP")
    )
}
