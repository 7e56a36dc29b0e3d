//! `umbra route explain`: the engine's own routing and security decision on a request that is not sent. Owns the
//! command's words and exit code; refuses to know servers' health, which only a running gateway has.

mod answer;
mod asked;
mod gateway;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::screen::{Format, Screen};
use super::{Exit, load};
use answer::Answer;

#[derive(Debug, Args)]
pub(super) struct RouteArgs {
    #[command(subcommand)]
    verb: RouteVerb,
}

#[derive(Debug, Subcommand)]
enum RouteVerb {
    /// Say where a request would go, which rules were tried, and what its security would be
    Explain(ExplainArgs),
}

#[derive(Debug, Default, Args)]
#[command(group(ArgGroup::new("asked").args(["request", "to"]).required(true)))]
#[command(before_help = "Examples:
  umbra route explain --to 'sip:ken@contoso.test;opaque=app:voicemail' --diversion '<sip:ken@contoso.test>'
  umbra route explain --to ken@contoso.test --pool pool01 --security SupportEncryption
  umbra route explain --request invite.sip --gateway pbx -o json
  umbra route explain --um mbx01.contoso.test --from ken@contoso.test --to +14255550121")]
struct ExplainArgs {
    /// A file with one SIP request
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["to", "from", "asserted", "diversion", "history"])]
    request: Option<PathBuf>,
    /// Request-URI; a bare user or number is taken to be in our domain
    #[arg(long, value_name = "URI")]
    to: Option<String>,
    /// From header
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// P-Asserted-Identity header
    #[arg(long, value_name = "ADDRESS")]
    asserted: Option<String>,
    /// Diversion header, newest first; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    diversion: Vec<String>,
    /// History-Info header, oldest first; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    history: Vec<String>,
    /// The pool it comes from: name, FQDN, member or address; not needed when there is one UM IP gateway
    #[arg(long, value_name = "NAME", conflicts_with = "gateway")]
    pool: Option<String>,
    /// The UM IP gateway it comes from: name or address
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// The Mailbox server that places it (Play-on-Phone, find-me): name, or its first label
    #[arg(long, value_name = "NAME", conflicts_with_all = ["pool", "gateway"])]
    um: Option<String>,
    /// Encryption level to assume instead of the configured one
    #[arg(long, value_enum, ignore_case = true, value_name = "LEVEL")]
    security: Option<Level>,
    /// What it comes over; without it, what its Via or its gateway suggests
    #[arg(long, value_enum, ignore_case = true, value_name = "TRANSPORT")]
    transport: Option<Carrier>,
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Media encryption level, in Lync's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Level {
    #[value(name = "RequireEncryption", alias = "require", alias = "required")]
    Require,
    #[value(name = "SupportEncryption", alias = "support", alias = "optional")]
    Support,
    #[value(name = "DoNotSupportEncryption", alias = "donotsupport", alias = "none")]
    DoNotSupport,
}

/// What a request comes over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Carrier {
    Tls,
    Tcp,
    Udp,
}

pub(super) fn run(screen: &Screen, arguments: &RouteArgs) -> Exit {
    let RouteVerb::Explain(arguments) = &arguments.verb;
    let policy = match load::compiled(screen, arguments.config.as_deref()) {
        Ok(loaded) => loaded.policy,
        Err(exit) => return exit,
    };
    let asked = match asked::asked(&policy, arguments) {
        Ok(asked) => asked,
        Err(problem) => {
            screen.story(&super::escaped_lines(&problem));
            return Exit::Usage;
        }
    };
    let answer = Answer::of(&policy, &asked);
    match screen.form {
        Format::Table | Format::Junit => screen.data(&table::text(&policy, &answer, screen.data)),
        Format::Json => screen.json(&answer),
    }
    match answer.refusal {
        None => Exit::Fine,
        Some(_) => Exit::Failed,
    }
}
