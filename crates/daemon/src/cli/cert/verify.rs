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
use crate::run::Settings;
use crate::tls::probe::Probe;
use crate::tls::{Identity, Judge, KnownPeers, TlsError, Versions, load_roots};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra cert verify mbx01.contoso.com:5063 -c umbra.toml
  umbra cert verify 192.0.2.31:5063 --name mbx01.contoso.com
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
    #[command(flatten)]
    keylog: KeyLogArgs,
}

/// By what is judged, and as whom.
pub(super) struct Side {
    pub(super) judge: Arc<Judge>,
    pub(super) identity: Option<Identity>,
    pub(super) versions: Versions,
}

impl Side {
    /// The gateway of a configuration as it meets the peer of that name; `None` when it has no `[tls]`.
    pub(super) fn of(compiled: &Compiled, peer: &str) -> Option<Result<Self, TlsError>> {
        let setup = Settings::from(compiled).tls?;
        let (certificate, key) = setup.files.toward(peer);
        let loaded = setup.load(&compiled.policy).and_then(|context| {
            let identity = Identity::load(certificate, key)?;
            Ok(Self {
                judge: context.judge(),
                identity: Some(identity),
                versions: Versions::from(&setup.spoken.general),
            })
        });
        Some(loaded)
    }

    /// Roots only: nothing is presented.
    fn of_roots(roots: &[PathBuf]) -> Result<Self, TlsError> {
        let judge = Arc::new(Judge::new(load_roots(roots)?, KnownPeers::default()));
        Ok(Self { judge, identity: None, versions: Versions::From12 })
    }

    /// Looks with these.
    pub(super) fn examiner(&self) -> Examiner<'_> {
        Examiner {
            probe: Probe::new(self.identity.as_ref(), self.versions),
            judge: &self.judge,
            presented: self.identity.as_ref().map(|identity| identity.names().join(", ")),
            now: SystemTime::now(),
        }
    }
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &VerifyArgs) -> Exit {
    let target = &arguments.target;
    let name = arguments.name.as_deref().unwrap_or(&target.host);
    let (site, side) = match arguments.roots.as_slice() {
        [] => match load::compiled(screen, arguments.config.as_deref()) {
            Ok(loaded) => {
                let side = Side::of(&loaded.compiled, name);
                (Some(loaded.compiled), side)
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
    if let Err(exit) = arguments.keylog.open(screen) {
        return exit;
    }
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
