//! Both TLS configurations of one moment: what new handshakes use. Owns nothing that changes; a reload builds a new
//! context and swaps it whole, so a bad certificate never replaces a good one and live connections keep theirs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use b2bua::quirks::QuirkSet;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};

use super::crl::{CrlPolicy, Revocations};
use super::identity::{Identity, TlsError, load_roots};
use super::names::dns_matches;
use super::offer::Overheard;
use super::reject::{HandshakeFailure, PeerRejection};
use super::session::Session;
use super::settings::{Agreed, Backend, Legacy, Spoken, TlsSettings};
use super::sides::{Dialer, Listener};
use super::verify::{Judge, KnownPeers, Toward, VerifiedPeer};

/// Where certificate, key and roots stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// Chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub private_key: PathBuf,
    /// Roots shared with Lync and Exchange, PEM.
    pub trusted_roots: Vec<PathBuf>,
    /// Lists of revoked certificates, PEM or DER; none: nobody is asked for.
    pub crls: Vec<PathBuf>,
    /// What happens without a usable list.
    pub crl_policy: CrlPolicy,
    /// Further certificates of ours.
    pub more: Vec<NamedFiles>,
    /// The one of `more` that is presented to those who connect to us; `None`: the first one above.
    pub listener: Option<usize>,
}

impl TlsFiles {
    /// Certificate and key that the peer of this name is shown when we connect to it.
    pub fn toward(&self, name: &str) -> (&Path, &Path) {
        let name = name.to_ascii_lowercase();
        match self.more.iter().find(|more| more.targets.contains(&name)) {
            Some(more) => (&more.certificate, &more.private_key),
            None => (&self.certificate, &self.private_key),
        }
    }
}

/// A further certificate of ours.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamedFiles {
    /// What it is called in the configuration.
    pub name: String,
    /// Chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub private_key: PathBuf,
    /// Names we connect to with it, in lower case.
    pub targets: Vec<String>,
}

/// Who we are: to those who connect, and to those we connect to.
struct Own {
    identities: Vec<Identity>,
    /// Where they were read; nowhere when they were made here.
    files: Vec<PathBuf>,
    listener: usize,
    targets: BTreeMap<String, usize>,
}

/// What an outgoing connection was made with: our certificate and that of the far end.
#[derive(Clone, Debug)]
pub struct Credentials {
    ours: Vec<CertificateDer<'static>>,
    settings: TlsSettings,
    theirs: Vec<CertificateDer<'static>>,
    /// Who took theirs.
    judge: Weak<Judge>,
}

/// Why a connection would not be made again as it was.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Gone {
    /// We speak no TLS any more.
    #[error("there is no certificate any more")]
    Tls,
    /// We present another one to that name.
    #[error("another certificate of ours is in force")]
    Ours,
    /// Versions, suites or backend are others.
    #[error("other TLS settings are in force")]
    Settings,
    /// The far end's is not taken any more.
    #[error("the far end's certificate is not taken any more: {0}")]
    Theirs(PeerRejection),
}

/// One of our certificates: what it says, where it stands and who sees it.
#[derive(Clone, Debug)]
pub struct OurCertificate {
    names: Vec<String>,
    /// Its subject.
    pub subject: String,
    /// Where it was read.
    pub file: PathBuf,
    /// When it ends; `None` before 1970.
    pub not_after: Option<SystemTime>,
    /// `listener`, `peers` (everybody who is not named) and names of peers.
    pub used_for: Vec<String>,
}

impl OurCertificate {
    #[cfg(test)]
    pub(crate) fn for_tests(file: &str, not_after: SystemTime, used_for: &str) -> Self {
        let (file, used_for) = (PathBuf::from(file), vec![used_for.to_owned()]);
        Self { names: Vec::new(), subject: String::new(), file, not_after: Some(not_after), used_for }
    }

    fn of(own: &Own, number: usize, identity: &Identity) -> Self {
        let place = |is_it: bool, word: &str| is_it.then(|| word.to_owned());
        let places = [place(number == own.listener, "listener"), place(number == 0, "peers")];
        let named = own.targets.iter().filter(|(_, target)| **target == number).map(|(name, _)| name.clone());
        Self {
            names: identity.names().to_vec(),
            subject: identity.subject(),
            file: own.files.get(number).cloned().unwrap_or_default(),
            not_after: identity.not_after(),
            used_for: places.into_iter().flatten().chain(named).collect(),
        }
    }
}

/// Ready-made configurations for both directions.
#[derive(Debug)]
pub struct TlsContext {
    listener: Listener,
    /// One for each pair of certificate and settings that is in use; the first is for everybody who is not in `targets`.
    dialers: Vec<Dialer>,
    targets: BTreeMap<String, usize>,
    judge: Arc<Judge>,
    ours: Vec<OurCertificate>,
    legacy: Vec<(String, Vec<Legacy>)>,
}

impl TlsContext {
    /// Loads the files and builds both sides.
    pub fn load(files: &TlsFiles, spoken: &Spoken, known: KnownPeers) -> Result<Self, TlsError> {
        let mut own = Own {
            identities: vec![Identity::load(&files.certificate, &files.private_key)?],
            files: vec![files.certificate.clone()],
            listener: files.listener.map_or(0, |index| index + 1),
            targets: BTreeMap::new(),
        };
        for more in &files.more {
            let number = own.identities.len();
            own.identities.push(Identity::load(&more.certificate, &more.private_key)?);
            own.files.push(more.certificate.clone());
            own.targets.extend(more.targets.iter().map(|name| (name.clone(), number)));
        }
        let roots = load_roots(&files.trusted_roots)?;
        let revocations = Revocations::load(&files.crls, files.crl_policy)?;
        let judge = Judge::new(roots, known).with_revocations(revocations);
        Self::assemble(judge, own, spoken)
            .map_err(|what| TlsError::Unusable { path: files.certificate.clone(), what })
    }

    /// Builds both sides from what was loaded before, without lists of revoked certificates.
    pub fn build(
        identity: &Identity,
        roots: RootCertStore,
        spoken: &Spoken,
        known: KnownPeers,
    ) -> Result<Self, String> {
        Self::judged_by(Judge::new(roots, known), identity, spoken)
    }

    /// Builds both sides; this judge knows the peers.
    pub fn judged_by(judge: Judge, identity: &Identity, spoken: &Spoken) -> Result<Self, String> {
        let identities = vec![identity.clone()];
        let own = Own { identities, files: Vec::new(), listener: 0, targets: BTreeMap::new() };
        Self::assemble(judge, own, spoken)
    }

    fn assemble(judge: Judge, own: Own, spoken: &Spoken) -> Result<Self, String> {
        if judge.roots().is_empty() {
            return Err("there is no trusted root".to_owned());
        }
        let judge = Arc::new(judge);
        let identity = |number: usize| own.identities.get(number).ok_or("no such certificate");
        let mut pairs: Vec<(usize, &TlsSettings)> = vec![(0, &spoken.general)];
        let mut targets = BTreeMap::new();
        for name in own.targets.keys().chain(spoken.peers.keys()) {
            let pair = (own.targets.get(name).copied().unwrap_or_default(), spoken.toward(name));
            let known = pairs.iter().position(|known| *known == pair);
            targets.insert(name.clone(), known.unwrap_or(pairs.len()));
            if known.is_none() {
                pairs.push(pair);
            }
        }
        let dialers =
            pairs.into_iter().map(|(number, settings)| Dialer::new(&judge, identity(number)?, settings));
        let ours = own.identities.iter().enumerate();
        Ok(Self {
            listener: Listener::new(&judge, identity(own.listener)?, &spoken.listener)?,
            dialers: dialers.collect::<Result<_, _>>()?,
            ours: ours.map(|(number, identity)| OurCertificate::of(&own, number, identity)).collect(),
            targets,
            judge,
            legacy: spoken.legacy(),
        })
    }

    /// Whether our own certificate is for this name and not over yet; what is wrong if not.
    pub fn check_own(&self, fqdn: &str, now: SystemTime) -> Result<(), String> {
        for OurCertificate { names, not_after, .. } in &self.ours {
            if !names.iter().any(|name| dns_matches(name, fqdn)) {
                return Err(format!("the certificate names {}, not {fqdn}", names.join(", ")));
            }
            if not_after.is_some_and(|end| end <= now) {
                return Err("the certificate has expired".to_owned());
            }
        }
        Ok(())
    }

    /// What a connection to `name` is made with.
    pub fn credentials(&self, name: &str, peer: &VerifiedPeer) -> Option<Credentials> {
        let dialer = self.dialer(name)?;
        Some(Credentials {
            ours: dialer.chain().to_vec(),
            settings: dialer.settings().clone(),
            theirs: peer.chain().to_vec(),
            judge: Arc::downgrade(&self.judge),
        })
    }

    /// Whether a connection to `name` would be made with these credentials now.
    ///
    /// # Errors
    /// What is gone.
    pub fn stands(&self, name: &str, made_with: &Credentials, now: SystemTime) -> Result<(), Gone> {
        if self.is_judged_by(&made_with.judge) {
            return Ok(());
        }
        let dialer = self.dialer(name).filter(|dialer| dialer.chain() == made_with.ours).ok_or(Gone::Ours)?;
        if *dialer.settings() != made_with.settings {
            return Err(Gone::Settings);
        }
        self.judge.judge(&made_with.theirs, name, now).map(drop).map_err(Gone::Theirs)
    }

    /// Whether somebody who connected with this chain, and was taken for `names`, would be taken for them now.
    ///
    /// # Errors
    /// The reason against it.
    pub fn lets_in(
        &self,
        chain: &[CertificateDer<'static>],
        names: &[String],
        now: SystemTime,
    ) -> Result<(), PeerRejection> {
        self.judge.lets_in(chain, names, now)
    }

    /// Whether that judge's word still counts.
    pub fn is_judged_by(&self, judge: &Weak<Judge>) -> bool {
        std::ptr::eq(judge.as_ptr(), Arc::as_ptr(&self.judge))
    }

    /// The rules by which far ends are taken.
    pub fn judge(&self) -> Arc<Judge> {
        self.judge.clone()
    }

    /// Our certificates: that of `[tls]`, then the others in their order.
    pub fn certificates(&self) -> &[OurCertificate] {
        &self.ours
    }

    /// Names and addresses that may come with a weak chain.
    pub fn weak_peers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.judge.known().weak_peers()
    }

    /// Names and addresses of everybody who may connect.
    pub fn known_peers(&self) -> impl Iterator<Item = String> {
        self.judge.known().all()
    }

    /// Who speaks TLS when we connect to that name.
    pub fn backend_toward(&self, name: &str) -> Backend {
        self.dialer(name).map_or_else(Backend::default, Dialer::backend)
    }

    fn dialer(&self, name: &str) -> Option<&Dialer> {
        self.dialers.get(self.targets.get(&name.to_ascii_lowercase()).copied().unwrap_or_default())
    }

    /// Where something old is allowed, and what.
    pub fn legacy(&self) -> &[(String, Vec<Legacy>)] {
        &self.legacy
    }

    /// Server side of a handshake. Deadlines belong to the caller.
    pub async fn accept<S>(&self, stream: S) -> Result<(S, Session, VerifiedPeer), HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = Overheard::new(stream);
        let session = self.listener.accept(&mut stream).await?;
        let chain = session.presented();
        let (leaf, issuers) = split(&chain)?;
        let peer = self.judge.inbound(leaf, issuers, UnixTime::now())?;
        drop(chain);
        Ok((stream.into_inner(), session, peer))
    }

    /// Client side of a handshake with `name`.
    pub async fn connect<S>(
        &self,
        name: &str,
        stream: S,
    ) -> Result<(S, Session, VerifiedPeer), HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = Overheard::new(stream);
        let session = self.dial(name, &mut stream).await?;
        let chain = session.presented();
        let (leaf, issuers) = split(&chain)?;
        let peer = self.judge.outbound(leaf, issuers, name, UnixTime::now())?;
        drop(chain);
        Ok((stream.into_inner(), session, peer))
    }

    /// The same handshake, after which nothing is said: what it came to, and what the judge thinks of it.
    pub async fn glimpse<S>(&self, name: &str, stream: S) -> Result<Glimpse, HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (_, session) = self.shake(name, stream).await?;
        let chain = session.presented().into_owned();
        let verdict = self.judge.judge(&chain, name, SystemTime::now());
        Ok(Glimpse { agreed: session.agreed(), chain, verdict })
    }

    /// The same handshake, about which nobody was asked yet.
    pub(super) async fn shake<S>(&self, name: &str, stream: S) -> Result<(S, Session), HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = Overheard::new(stream);
        let session = self.dial(name, &mut stream).await?;
        Ok((stream.into_inner(), session))
    }

    async fn dial<S>(&self, name: &str, stream: &mut Overheard<S>) -> Result<Session, HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let dialer =
            self.dialer(name).ok_or_else(|| HandshakeFailure::Protocol("no certificate".to_owned()))?;
        let toward = if self.judge.known().may_be_weak(name) { Toward::Weak } else { Toward::Strong };
        dialer.connect(name, toward, stream).await
    }
}

/// What a handshake that only looked came to.
#[derive(Clone, Debug)]
pub struct Glimpse {
    /// What was presented, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Version and suite.
    pub agreed: Agreed,
    /// Whether the gateway would take it, and what had to be tolerated.
    pub verdict: Result<QuirkSet, PeerRejection>,
}

/// What the far end presented. Of rustls the judge saw it inside the handshake already, and is asked again because rustls does
/// not hand out what it found; of OpenSSL it is asked here for the first time.
fn split<'a>(
    chain: &'a [CertificateDer<'static>],
) -> Result<(&'a CertificateDer<'static>, &'a [CertificateDer<'static>]), PeerRejection> {
    chain.split_first().ok_or(PeerRejection::NoCertificate)
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
