//! A folder of lab certificates: the root is made once, hosts are made when first asked for, and both survive a restart.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use super::identity::{Identity, IdentityFiles, files_of};
use super::{CertSpec, LabCa, Life, PkiError};

/// File name of the root certificate.
pub const ROOT_FILE: &str = "lab-root.pem";
/// File name of the root's key (mode 0600).
pub const ROOT_KEY_FILE: &str = "lab-root.key";
/// Common name of roots made here.
const ROOT_NAME: &str = "umbra lab root";
/// Longest host name (RFC 1035 §2.3.4).
const NAME_LEN_MAX: usize = 253;

/// The lab authority with its folder.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    ca: LabCa,
}

impl Pki {
    /// Opens the authority in `folder`, creating folder and root when there is none. A root older than its life should be removed with its
    /// folder: certificates are not renewed here.
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| PkiError::File { path: folder.to_owned(), source })?;
        let (root, key) = (folder.join(ROOT_FILE), folder.join(ROOT_KEY_FILE));
        let ca = if root.exists() && key.exists() {
            LabCa::load(&root, &key)?
        } else {
            let ca = LabCa::create(ROOT_NAME)?;
            ca.write_key(&key)?;
            ca.write_root(&root)?;
            ca
        };
        Ok(Pki { folder: folder.to_owned(), ca })
    }

    /// A new authority in `folder`, which is made when missing. Refuses where one stands already.
    pub fn create(folder: &Path, life: Life) -> Result<Self, PkiError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| PkiError::File { path: folder.to_owned(), source })?;
        let (root, key) = (folder.join(ROOT_FILE), folder.join(ROOT_KEY_FILE));
        unused(&root)?;
        unused(&key)?;
        let ca = LabCa::create_for(ROOT_NAME, life)?;
        ca.write_key(&key)?;
        ca.write_root(&root)?;
        Ok(Pki { folder: folder.to_owned(), ca })
    }

    /// The authority that stands in `folder`; nothing is made.
    pub fn existing(folder: &Path) -> Result<Self, PkiError> {
        let ca = LabCa::load(&folder.join(ROOT_FILE), &folder.join(ROOT_KEY_FILE))?;
        Ok(Pki { folder: folder.to_owned(), ca })
    }

    /// Issues a certificate under its own name; refuses where one stands already.
    pub fn issue_new(&self, spec: &CertSpec) -> Result<IdentityFiles, PkiError> {
        let files = self.files(&spec.fqdn)?;
        unused(&files.certificate)?;
        unused(&files.key)?;
        self.issue_files(&spec.fqdn, spec)
    }

    /// The host's identity: read from the folder, or issued ([`CertSpec::host`]) and written.
    pub fn identity(&self, fqdn: &str) -> Result<Identity, PkiError> {
        let files = self.files(fqdn)?;
        if files.certificate.exists() && files.key.exists() {
            return Identity::load(fqdn, &files);
        }
        let identity = self.ca.issue(&CertSpec::host(fqdn))?;
        identity.write(&self.folder, fqdn)?;
        Ok(identity)
    }

    /// As [`Pki::identity`], as paths: what a configuration file names.
    pub fn identity_files(&self, fqdn: &str) -> Result<IdentityFiles, PkiError> {
        self.identity(fqdn)?;
        self.files(fqdn)
    }

    /// Issues a certificate and writes it as `<stem>.pem` and `<stem>.key`.
    pub fn issue_files(&self, stem: &str, spec: &CertSpec) -> Result<IdentityFiles, PkiError> {
        check_name(stem)?;
        self.ca.issue(spec)?.write(&self.folder, stem)
    }

    /// The authority, for variants.
    pub fn ca(&self) -> &LabCa {
        &self.ca
    }

    /// Trusted roots of the lab.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.ca.root().clone()]
    }

    /// Path of the root certificate.
    pub fn root_file(&self) -> PathBuf {
        self.folder.join(ROOT_FILE)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn files(&self, fqdn: &str) -> Result<IdentityFiles, PkiError> {
        check_name(fqdn)?;
        Ok(files_of(&self.folder, fqdn))
    }
}

fn unused(path: &Path) -> Result<(), PkiError> {
    // A dangling link is something, too.
    if path.symlink_metadata().is_ok() { Err(PkiError::Exists(path.to_owned())) } else { Ok(()) }
}

/// The name becomes a file name, so nothing but host name characters may pass.
fn check_name(name: &str) -> Result<(), PkiError> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let fine =
        !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.starts_with('.') && name.bytes().all(sound);
    if fine { Ok(()) } else { Err(PkiError::HostName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_identity_is_made_once_and_found_again_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let first = Pki::open(folder.path()).unwrap();
        let made = first.identity("mbx01.contoso.test").unwrap();
        let again = Pki::open(folder.path()).unwrap();
        let read = again.identity("mbx01.contoso.test").unwrap();
        assert_eq!(made.chain(), read.chain());
        assert_eq!(first.roots(), again.roots());
        // the reloaded key still signs
        let other = again.identity("mbx02.contoso.test").unwrap();
        assert_eq!(other.chain()[1], again.roots()[0]);
    }

    #[cfg(unix)]
    #[test]
    fn private_keys_are_readable_by_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        let files = pki.identity_files("cas01.contoso.test").unwrap();
        for key in [files.key, folder.path().join(ROOT_KEY_FILE)] {
            let mode = std::fs::metadata(&key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        }
    }

    #[test]
    fn an_authority_and_a_certificate_that_stand_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Pki::existing(folder.path()), Err(PkiError::File { .. })));
        let made = Pki::create(folder.path(), Life::Days(90)).unwrap();
        assert!(matches!(Pki::create(folder.path(), Life::Days(90)), Err(PkiError::Exists(_))));
        let spec = CertSpec::host("umbra.contoso.test").also("192.0.2.7").life(Life::Days(30));
        let files = made.issue_new(&spec).unwrap();
        assert!(matches!(made.issue_new(&spec), Err(PkiError::Exists(path)) if path == files.certificate));
        assert_eq!(Pki::existing(folder.path()).unwrap().roots(), made.roots());
        // A lone key is not overwritten either.
        std::fs::remove_file(&files.certificate).unwrap();
        assert!(matches!(made.issue_new(&spec), Err(PkiError::Exists(path)) if path == files.key));
    }

    #[test]
    fn a_host_name_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        for name in ["../evil", "a/b", "", ".hidden", "a\\b", "a\nb"] {
            assert!(matches!(pki.identity(name), Err(PkiError::HostName(_))));
        }
    }
}
