//! What a certificate should say. A plain description: issuing is the authority's business.

/// Key type of a certificate.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// RSA, 2048 bits, signed with PKCS#1 v1.5 SHA-256: what Lync accepts.
    Rsa2048,
    /// ECDSA on P-256.
    EcdsaP256,
}

/// Extended key usage.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// serverAuth only: what the Windows web-server template issues.
    ServerOnly,
    /// serverAuth and clientAuth.
    ServerAndClient,
    /// clientAuth only: unfit for a SIP trunk, for tests.
    ClientOnly,
}

/// When the certificate is valid.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Life {
    /// From an hour ago for [`super::LIFE_DAYS`].
    Current,
    /// From an hour ago for so many days.
    Days(u16),
    /// Ended yesterday.
    Expired,
    /// Begins tomorrow.
    NotYet,
}

/// Where the host name stands.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Naming {
    /// CN = FQDN and a dNSName SAN = FQDN.
    SubjectAndSan,
    /// CN = FQDN, no SAN extension.
    SubjectOnly,
    /// CN and SAN = `*.<parent domain>`: the wildcard subject that UM does not work with.
    WildcardSubject,
    /// CN = FQDN, SAN = `*.<parent domain>`.
    WildcardSan,
}

/// Description of a certificate to issue.
#[derive(Clone, Debug)]
pub struct CertSpec {
    /// Host name.
    pub fqdn: String,
    /// Further SANs, host names or addresses (ignored by [`Naming::SubjectOnly`]).
    pub more_names: Vec<String>,
    /// Key type.
    pub key: KeyKind,
    /// Extended key usage.
    pub purpose: Purpose,
    /// Validity.
    pub life: Life,
    /// Naming variant.
    pub naming: Naming,
}

impl CertSpec {
    /// An ordinary host certificate: RSA-2048, serverAuth and clientAuth, CN and SAN, valid now.
    pub fn host(fqdn: &str) -> Self {
        CertSpec {
            fqdn: fqdn.to_owned(),
            more_names: Vec::new(),
            key: KeyKind::Rsa2048,
            purpose: Purpose::ServerAndClient,
            life: Life::Current,
            naming: Naming::SubjectAndSan,
        }
    }

    /// The same with another key type.
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// The same with another extended key usage.
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// The same with another validity.
    pub fn life(mut self, life: Life) -> Self {
        self.life = life;
        self
    }

    /// The same with another naming.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// The same with one more SAN.
    pub fn also(mut self, name: &str) -> Self {
        self.more_names.push(name.to_owned());
        self
    }

    /// The subject common name this description leads to.
    pub(super) fn common_name(&self) -> String {
        match self.naming {
            Naming::WildcardSubject => self.wildcard(),
            _ => self.fqdn.clone(),
        }
    }

    /// The dNSName SANs this description leads to.
    pub(super) fn dns_names(&self) -> Vec<String> {
        let first = match self.naming {
            Naming::SubjectOnly => return Vec::new(),
            Naming::SubjectAndSan => self.fqdn.clone(),
            Naming::WildcardSubject | Naming::WildcardSan => self.wildcard(),
        };
        std::iter::once(first).chain(self.more_names.iter().cloned()).collect()
    }

    fn wildcard(&self) -> String {
        match self.fqdn.split_once('.') {
            Some((_, parent)) => format!("*.{parent}"),
            None => format!("*.{}", self.fqdn),
        }
    }
}
