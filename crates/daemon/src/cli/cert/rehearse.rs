//! `umbra cert rehearse`: the first day of a new certificate without the day. Opens a side connection to every configured
//! TLS peer with the new pair; a running daemon is not touched.

use std::path::{Path, PathBuf};

use b2bua::Policy;
use b2bua::policy::{DialPlan, IpGateway, Server, VoipSecurity};
use clap::Args;
use serde::Serialize;

use super::examine::Examined;
use super::finding::{self, Finding};
use super::import::of_config;
use super::target::Target;
use super::verify::Side;
use super::{Exit, Screen, block_on, failed};
use crate::cli::screen::{Format, Tone};
use crate::cli::{KeyLogArgs, load};
use crate::config::{self, Compiled};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra cert rehearse new.pem -c umbra.toml                 the key is new.key, or stands in new.pem
  umbra cert rehearse new.pem --key new.key -c umbra.toml -o json")]
pub(super) struct RehearseArgs {
    /// The new certificate with its intermediates, PEM
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// Its private key, PEM; FILE with the ending .key, or FILE itself, when none is given
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keylog: KeyLogArgs,
}

/// The answer; the keys are documented and stable.
#[derive(Debug, Serialize)]
struct Rehearsed {
    /// What this gateway has against the pair itself.
    findings: Vec<Finding>,
    peers: Vec<Rehearsal>,
}

#[derive(Debug, Serialize)]
struct Rehearsal {
    role: &'static str,
    #[serde(flatten)]
    examined: Examined,
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &RehearseArgs) -> Exit {
    let path = match load::locate(screen, arguments.config.as_deref()) {
        Ok(path) => path,
        Err(exit) => return exit,
    };
    if let Err(exit) = arguments.keylog.open(screen) {
        return exit;
    }
    let key = arguments.key.clone().unwrap_or_else(|| key_of(&arguments.certificate));
    let findings = of_config(&path, &arguments.certificate, &key);
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match config::load_with_pair(&path, &absolute(&arguments.certificate), &absolute(&key)) {
        Ok(compiled) => rehearse(screen, &compiled, findings),
        // The pair itself does not pass: nobody needs to be asked.
        Err(_) if findings.iter().any(finding::is_error) => {
            report(screen, &Rehearsed { findings, peers: Vec::new() })
        }
        Err(problems) => {
            screen.story(&load::rendered(&problems.list, screen.story));
            Exit::BadConfiguration
        }
    }
}

fn key_of(certificate: &Path) -> PathBuf {
    let beside = certificate.with_extension("key");
    if beside.exists() { beside } else { certificate.to_owned() }
}

fn rehearse(screen: &Screen, compiled: &Compiled, findings: Vec<Finding>) -> Exit {
    // The new pair stands in [tls]; every peer is shown it, those that have one of their own too.
    let side = match Side::of(compiled) {
        Some(Ok(side)) => side,
        Some(Err(error)) => return failed(screen, &error.to_string()),
        None => {
            screen.story("the configuration has no TLS: [tls] is missing, or startup_mode is TCP");
            return Exit::BadConfiguration;
        }
    };
    let calls = peers(&compiled.policy);
    let all = async {
        let mut peers = Vec::new();
        for (role, target) in calls {
            let addresses = target.addresses(Some(compiled)).await;
            let examined = side.examiner().examine(target.to_string(), addresses, &target.host).await;
            peers.push(Rehearsal { role, examined });
        }
        peers
    };
    match block_on(screen, all) {
        Ok(peers) => report(screen, &Rehearsed { findings, peers }),
        Err(exit) => exit,
    }
}

/// Everybody that this gateway opens TLS connections to: UM IP gateways of pools, Call Routers, Mailbox servers, hosted UM.
fn peers(policy: &Policy) -> Vec<(&'static str, Target)> {
    let is_tls = |gateway: &&IpGateway| gateway.pool.is_some();
    let gateways = policy.ip_gateways.iter().filter(is_tls).map(|gateway| {
        let host = gateway.address.to_string().to_ascii_lowercase();
        ("ip gateway", Target { host, port: gateway.port })
    });
    let server = |role: &'static str| {
        move |server: &Server| {
            (role, Target { host: server.name.to_ascii_lowercase(), port: server.tls_port })
        }
    };
    let wanted = |peers: &[usize], index| peers.contains(&index);
    let is_secure = |plan: &&DialPlan| plan.voip_security != VoipSecurity::Unsecured;
    let secure: Vec<_> = policy.dial_plans.iter().filter(is_secure).collect();
    let routers = policy.call_routers.iter().enumerate();
    let routers = routers.filter(|(at, _)| secure.iter().any(|plan| wanted(&plan.call_routers, *at)));
    let mailboxes = policy.mailbox_servers.iter().enumerate();
    let mailboxes = mailboxes.filter(|(at, _)| secure.iter().any(|plan| wanted(&plan.mailbox_servers, *at)));
    gateways
        .chain(routers.map(|(_, peer)| server("call router")(peer)))
        .chain(mailboxes.map(|(_, peer)| server("mailbox server")(peer)))
        .chain(policy.um.hosted.servers.iter().map(server("hosted UM")))
        .collect()
}

fn report(screen: &Screen, rehearsed: &Rehearsed) -> Exit {
    let of_peers = rehearsed.peers.iter().flat_map(|peer| &peer.examined.findings);
    let all: Vec<Finding> = rehearsed.findings.iter().chain(of_peers).cloned().collect();
    let count = |of: fn(&Examined) -> bool| rehearsed.peers.iter().filter(|peer| of(&peer.examined)).count();
    let (reached, content) = (count(Examined::is_reached), count(|peer| peer.they_accept));
    match screen.form {
        Format::Json => screen.json(rehearsed),
        Format::Table | Format::Junit => {
            let style = screen.data;
            let mut out = finding::list(&rehearsed.findings, style);
            for peer in &rehearsed.peers {
                out.push_str(&format!(
                    "{}  {}\n",
                    style.paint(Tone::Quiet, peer.role),
                    peer.examined.text(style)
                ));
            }
            out.push_str(&match (rehearsed.findings.iter().any(finding::is_error), rehearsed.peers.len()) {
                (true, _) => "this gateway would not start with it; no peer was asked\n".to_owned(),
                (false, 0) => "no peer is reached over TLS\n".to_owned(),
                (false, all) => format!(
                    "{content} of {all} peers take it, {} refuse it, {} could not be asked\n",
                    reached - content,
                    all - reached
                ),
            });
            out.push_str(&finding::summary(&all));
            screen.data(&out);
        }
    }
    if all.iter().any(finding::is_error) { Exit::Failed } else { Exit::Fine }
}
