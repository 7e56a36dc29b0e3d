//! `umbra route explain`: the engine's own routing on a request that is not sent. Owns the question from words or a
//! file and the lay-out of the answer.

use std::io;
use std::path::{Path, PathBuf};

use b2bua::policy::{IpGateway, PeerAddress, Server};
use b2bua::route::{Route, RouteAnswer, RouteQuestion, Spoken};
use b2bua::verdict::{Refusal, clean};
use b2bua::{Policy, route};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sip::{Limits, Message};

use super::output::{self, Format};
use super::{Exit, load};

/// Longest request file read.
const REQUEST_BYTES_MAX: u64 = 256 * 1024;

#[derive(Debug, Args)]
pub(super) struct RouteArgs {
    #[command(subcommand)]
    verb: RouteVerb,
}

#[derive(Debug, Subcommand)]
enum RouteVerb {
    /// Say where a request would go and which rules were tried
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra route explain --to 'sip:ken@contoso.test;opaque=app:voicemail' --diversion '<sip:ken@contoso.test>'
  umbra route explain --request invite.sip --pool pool01 -o json")]
struct ExplainArgs {
    /// A file with one SIP request
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "from", "diversion", "history"],
        required_unless_present = "to")]
    request: Option<PathBuf>,
    /// Request-URI
    #[arg(long, value_name = "URI")]
    to: Option<String>,
    /// From header
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Diversion header, newest first; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    diversion: Vec<String>,
    /// History-Info header, oldest first; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    history: Vec<String>,
    /// The pool or UM IP gateway it comes from: name, FQDN or address; not needed when there is only one
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Configuration
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shape of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(arguments: &RouteArgs) -> Exit {
    let RouteVerb::Explain(arguments) = &arguments.verb;
    let policy = match load::compiled(arguments.config.as_deref()) {
        Ok(loaded) => load::policy(&loaded.compiled),
        Err(exit) => return exit,
    };
    let asked = gateway(&policy, arguments.pool.as_deref())
        .and_then(|gateway| question(arguments, gateway).map(|question| (gateway, question)));
    let (gateway, answer) = match asked {
        Ok((gateway, Ok(question))) => (gateway, route(&policy, &question)),
        Ok((gateway, Err(refusal))) => (gateway, RouteAnswer { steps: Vec::new(), result: Err(refusal) }),
        Err(problem) => {
            output::story(&problem);
            return Exit::Usage;
        }
    };
    match arguments.output {
        Format::Table => output::data(&table(&policy, gateway, &answer)),
        Format::Json => output::json(&document(&policy, gateway, &answer)),
    }
    if answer.result.is_ok() { Exit::Fine } else { Exit::Failed }
}

fn gateway(policy: &Policy, wanted: Option<&str>) -> Result<usize, String> {
    let names: Vec<&str> = policy.ip_gateways.iter().map(|gateway| gateway.name.as_str()).collect();
    match wanted {
        Some(wanted) => {
            policy.ip_gateways.iter().position(|gateway| is_called(policy, gateway, wanted)).ok_or_else(
                || format!("no UM IP gateway or pool {}; there are: {}", clean(wanted), names.join(", ")),
            )
        }
        None if names.len() == 1 => Ok(0),
        None => {
            Err(format!("which UM IP gateway does it come from? --pool with one of: {}", names.join(", ")))
        }
    }
}

fn is_called(policy: &Policy, gateway: &IpGateway, wanted: &str) -> bool {
    let same = |name: &str| name.eq_ignore_ascii_case(wanted);
    let address = match &gateway.address {
        PeerAddress::Fqdn(name) => same(name),
        PeerAddress::Ip(address) => same(&address.to_string()),
    };
    let pool = gateway.pool.and_then(|pool| policy.pools.get(pool));
    let by_pool = pool.is_some_and(|pool| {
        same(&pool.name) || same(&pool.fqdn) || pool.members.iter().any(|member| same(member))
    });
    same(&gateway.name) || address || by_pool
}

type Asked = Result<RouteQuestion, Refusal>;

fn question(arguments: &ExplainArgs, gateway: usize) -> Result<Asked, String> {
    if let Some(path) = &arguments.request {
        let bytes = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let message = Message::parse(Bytes::from(bytes), &Limits::default())
            .map_err(|error| format!("{}: not a SIP message: {error}", path.display()))?;
        if !message.is_request() {
            return Err(format!("{}: a response is not routed", path.display()));
        }
        return Ok(RouteQuestion::of(gateway, &message));
    }
    let words = Spoken {
        request_uri: arguments.to.as_deref().unwrap_or_default(),
        from: arguments.from.as_deref().unwrap_or_default(),
        diversions: &arguments.diversion,
        history: &arguments.history,
        asserted: "",
    };
    Ok(RouteQuestion::spoken(gateway, &words))
}

/// A file edited by hand may have lost its CRs; on the wire they are required, here they are put back.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > REQUEST_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {REQUEST_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path)?;
    if bytes.windows(2).any(|pair| pair == b"\r\n") {
        return Ok(bytes);
    }
    let mut restored = Vec::with_capacity(bytes.len() + 64);
    for byte in bytes {
        if byte == b'\n' {
            restored.push(b'\r');
        }
        restored.push(byte);
    }
    Ok(restored)
}

fn table(policy: &Policy, gateway: usize, answer: &RouteAnswer) -> String {
    let mut lines = Vec::new();
    if let Some(gateway) = policy.ip_gateways.get(gateway) {
        lines.push(format!("from UM IP gateway {} ({})", gateway.name, gateway.address));
    }
    lines.extend(answer.steps.iter().map(|step| format!("  {}", clean(&step.to_string()))));
    match &answer.result {
        Ok(route) => lines.extend(route_lines(policy, route)),
        Err(refusal) => lines.extend([
            format!("refused     {}  {}", refusal.code(), refusal.verdict.what),
            format!("fix         {}", refusal.verdict.remedy),
            format!("            umbra explain {}", refusal.code()),
        ]),
    }
    lines.join("\n")
}

fn route_lines(policy: &Policy, route: &Route) -> Vec<String> {
    let plan = policy.dial_plans.get(route.dial_plan);
    let hunt_group = route.hunt_group.and_then(|index| policy.hunt_groups.get(index));
    let mut lines = vec![
        format!("dial plan   {}", plan.map_or("", |plan| &plan.name)),
        format!("hunt group  {}", hunt_group.map_or("-", |group| &group.name)),
        format!("call type   {}", route.call_type.as_str()),
        format!("callee      {}", clean(&route.callee)),
        format!("caller      {}", clean(&route.caller)),
        format!("reason      {}", route.reason.as_str()),
    ];
    if let Some(from) = &route.diverted_from {
        lines.push(format!("diverted    {}", clean(from)));
    }
    lines.push(format!("servers     {}", servers(policy, route).join(", ")));
    lines
}

/// Call Routers first; a plan without any goes to its Mailbox servers.
fn servers(policy: &Policy, route: &Route) -> Vec<String> {
    let Some(plan) = policy.dial_plans.get(route.dial_plan) else { return Vec::new() };
    let pick = |from: &[Server], indexes: &[usize]| -> Vec<String> {
        indexes.iter().filter_map(|index| from.get(*index)).map(|server| server.name.clone()).collect()
    };
    let routers = pick(&policy.call_routers, &plan.call_routers);
    if routers.is_empty() { pick(&policy.mailbox_servers, &plan.mailbox_servers) } else { routers }
}

fn document(policy: &Policy, gateway: usize, answer: &RouteAnswer) -> Value {
    let result = match &answer.result {
        Ok(route) => {
            let plan = policy.dial_plans.get(route.dial_plan).map(|plan| &plan.name);
            let group = route.hunt_group.and_then(|at| policy.hunt_groups.get(at)).map(|group| &group.name);
            let attendant = route.auto_attendant.and_then(|at| policy.auto_attendants.get(at));
            let mailbox = route.mailbox.and_then(|at| policy.mailboxes.get(at)).map(|mailbox| &mailbox.alias);
            json!({
                "outcome": "routed",
                "dial_plan": plan,
                "hunt_group": group,
                "call_type": route.call_type,
                "voice_memo": route.voice_memo,
                "callee": route.callee,
                "caller": route.caller,
                "diverted_from": route.diverted_from,
                "reason_for_call": route.reason,
                "dialed": route.dialed,
                "auto_attendant": attendant.map(|attendant| &attendant.name),
                "mailbox": mailbox,
                "servers": servers(policy, route),
            })
        }
        Err(refusal) => json!({ "outcome": "refused", "verdict": refusal.verdict }),
    };
    let gateway = policy.ip_gateways.get(gateway).map(|gateway| gateway.name.as_str());
    json!({ "ip_gateway": gateway, "steps": answer.steps, "result": result })
}
