//! `umbra cert verify`: what would happen between the gateway and one TLS server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;

use super::examine::Examiner;
use super::finding;
use super::target::Target;
use super::{Exit, Screen, block_on, failed};
use crate::cli::screen::Format;
use crate::cli::{KeyLogArgs, load};
use crate::config::Compiled;
use crate::run::{Settings, TlsSetup};
use crate::tls::probe::Probe;
use crate::tls::{
    Backend, Identity, Judge, KnownPeers, SettingsError, TlsContext, TlsError, TlsSettings, Version,
    Versions, load_roots,
};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra cert verify mbx01.contoso.com:5063 -c umbra.toml
  umbra cert verify 192.0.2.31:5063 --name mbx01.contoso.com
  umbra cert verify mbx01.contoso.com:5063 --backend openssl    as if its `tls` said so
  umbra cert verify cas01.contoso.com --roots lab-root.pem      without a configuration, presenting nothing")]
pub(super) struct VerifyArgs {
    /// The server; port 5061 when none is given
    #[arg(value_name = "HOST:PORT")]
    target: Target,
    /// The name it must prove; HOST when none is given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Configuration with our certificate and roots; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Trusted roots instead of a configuration; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    roots: Vec<PathBuf>,
    /// Who speaks TLS, instead of what the configuration says for this peer
    #[arg(long, value_name = "rustls|openssl", value_parser = backend, conflicts_with = "roots")]
    backend: Option<Backend>,
    #[command(flatten)]
    keylog: KeyLogArgs,
}

/// By what is judged, and as whom.
pub(super) struct Side {
    pub(super) judge: Arc<Judge>,
    pub(super) identity: Option<Identity>,
    pub(super) versions: Versions,
    /// Whose handshake it is, where rustls does not speak.
    gateway: Option<Arc<TlsContext>>,
}

/// A backend of this build, by its word.
fn backend(word: &str) -> Result<Backend, String> {
    let all = [Backend::Rustls, Backend::OpenSsl];
    let found = all.into_iter().find(|backend| backend.word() == word);
    match found {
        Some(backend) if backend.is_built() => Ok(backend),
        Some(_) => Err(SettingsError::NotBuilt.to_string()),
        None => Err("there is rustls, and openssl".to_owned()),
    }
}

impl Side {
    /// The gateway of a configuration as it meets the peer of that name, by this backend or the configured one; `None` when it
    /// has no `[tls]`.
    fn toward(compiled: &Compiled, peer: &str, backend: Option<Backend>) -> Option<Result<Self, TlsError>> {
        let mut setup = Settings::from(compiled).tls?;
        let peer = peer.to_ascii_lowercase();
        let configured = setup.spoken.toward(&peer).backend();
        if let Some(backend) = backend.filter(|backend| *backend != configured) {
            // What `tls = { backend = … }` alone would choose; a word of this build always works.
            let settings = TlsSettings::new(backend, Version::V1_2, None).unwrap_or_default();
            setup.spoken.peers.insert(peer.clone(), settings);
        }
        let settings = setup.spoken.toward(&peer);
        let loaded = Self::load(&setup, compiled, &peer).map(|(side, context)| Self {
            versions: Versions::from(settings),
            gateway: (settings.backend() != Backend::Rustls).then(|| Arc::new(context)),
            ..side
        });
        Some(loaded)
    }

    /// The gateway of a configuration as it meets anybody by rustls; `None` when it has no `[tls]`.
    pub(super) fn of(compiled: &Compiled) -> Option<Result<Self, TlsError>> {
        let setup = Settings::from(compiled).tls?;
        Some(Self::load(&setup, compiled, "").map(|(side, _)| side))
    }

    fn load(setup: &TlsSetup, compiled: &Compiled, peer: &str) -> Result<(Self, TlsContext), TlsError> {
        let (certificate, key) = setup.files.toward(peer);
        let context = setup.load(&compiled.policy)?;
        let side = Self {
            judge: context.judge(),
            identity: Some(Identity::load(certificate, key)?),
            versions: Versions::from(&setup.spoken.general),
            gateway: None,
        };
        Ok((side, context))
    }

    /// Roots only: nothing is presented.
    fn of_roots(roots: &[PathBuf]) -> Result<Self, TlsError> {
        let judge = Arc::new(Judge::new(load_roots(roots)?, KnownPeers::default()));
        Ok(Self { judge, identity: None, versions: Versions::From12, gateway: None })
    }

    /// Looks with these.
    pub(super) fn examiner(&self) -> Examiner<'_> {
        let probe = Probe::new(self.identity.as_ref(), self.versions);
        let (probe, backend) = match &self.gateway {
            Some(gateway) => (probe.through(gateway.clone()), Backend::OpenSsl),
            None => (probe, Backend::Rustls),
        };
        Examiner {
            probe,
            backend: backend.word(),
            judge: &self.judge,
            presented: self.identity.as_ref().map(|identity| identity.names().join(", ")),
            now: SystemTime::now(),
        }
    }
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &VerifyArgs) -> Exit {
    // A backend asks for the key log when it is made ready.
    if let Err(exit) = arguments.keylog.open(screen) {
        return exit;
    }
    let target = &arguments.target;
    let name = arguments.name.as_deref().unwrap_or(&target.host);
    let (site, side) = match arguments.roots.as_slice() {
        [] => match load::compiled(screen, arguments.config.as_deref()) {
            Ok(loaded) => {
                let side = Side::toward(&loaded, name, arguments.backend);
                (Some(loaded), side)
            }
            Err(exit) => return exit,
        },
        roots => (None, Some(Side::of_roots(roots))),
    };
    let side = match side {
        Some(Ok(side)) => side,
        Some(Err(error)) => return failed(screen, &error.to_string()),
        None => {
            screen.story("the configuration has no TLS: [tls] is missing, or startup_mode is TCP");
            return Exit::BadConfiguration;
        }
    };
    let look = async {
        let addresses = target.addresses(site.as_ref()).await;
        side.examiner().examine(target.to_string(), addresses, name).await
    };
    let examined = match block_on(screen, look) {
        Ok(examined) => examined,
        Err(exit) => return exit,
    };
    match screen.form {
        Format::Json => screen.json(&examined),
        Format::Table | Format::Junit => {
            screen.data(&format!("{}{}", examined.text(screen.data), finding::summary(&examined.findings)));
        }
    }
    if examined.is_fine() { Exit::Fine } else { Exit::Failed }
}
