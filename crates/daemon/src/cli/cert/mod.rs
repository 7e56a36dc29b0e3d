//! `umbra cert`: makes, shows, tries and takes over certificates. Owns the words; what a certificate says is `tls::facts`,
//! what a far end does with it `tls::probe`, and what would be accepted the gateway's own rules. Never prints a key.

mod bundle;
mod card;
mod examine;
mod finding;
mod import;
mod lab;
mod rehearse;
mod show;
mod target;
#[cfg(test)]
mod tests;
mod verify;

use clap::{Args, Subcommand};

use super::Exit;
use super::screen::{Screen, escaped};

#[derive(Debug, Args)]
pub(super) struct CertArgs {
    #[command(subcommand)]
    verb: CertVerb,
}

#[derive(Debug, Subcommand)]
enum CertVerb {
    /// Make a lab CA: root certificate and key
    Init(lab::InitArgs),
    /// Issue a certificate and key signed by the lab CA
    Issue(lab::IssueArgs),
    /// Show what certificates say: of a file, or as a server presents them
    Show(show::ShowArgs),
    /// Say what would happen with a TLS server: our judgement of it, its reaction to us
    Verify(verify::VerifyArgs),
    /// Check a certificate and key of a PFX or PEM file and put them where the configuration names them
    Import(import::ImportArgs),
    /// Present a new certificate to every configured TLS peer and say who would refuse it
    Rehearse(rehearse::RehearseArgs),
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &CertArgs) -> Exit {
    match &arguments.verb {
        CertVerb::Init(arguments) => lab::init(screen, arguments),
        CertVerb::Issue(arguments) => lab::issue(screen, arguments),
        CertVerb::Show(arguments) => show::run(screen, arguments),
        CertVerb::Verify(arguments) => verify::run(screen, arguments),
        CertVerb::Import(arguments) => import::run(screen, arguments),
        CertVerb::Rehearse(arguments) => rehearse::run(screen, arguments),
    }
}

/// Says why it did not work.
fn failed(screen: &Screen, what: &str) -> Exit {
    screen.story(&escaped(what));
    Exit::Failed
}

/// Runs one look at the network.
fn block_on<T>(screen: &Screen, look: impl Future<Output = T>) -> Result<T, Exit> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ok(runtime.block_on(look)),
        Err(error) => Err(failed(screen, &format!("no runtime: {error}"))),
    }
}
