//! Who listens where in a lab, as a table like the demo's.

use lab::shell::{ListenRole, Listening};

use crate::cli::escaped;
use crate::config::lab_file::LabFile;

/// One row for each server, then where things lie.
pub fn listeners(file: &LabFile, listening: &[Listening]) -> String {
    let mut text = String::new();
    let mut row = |role: &str, name: &str, address: &str, rest: &str| {
        let line = format!("  {role:<17} {:<22} {address:<15} {rest}", escaped(name));
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for router in listening.iter().filter(|at| at.role == ListenRole::CallRouter) {
        row("call router", &router.server, &address(router), &ports(router));
    }
    for service in listening.iter().filter(|at| at.role == ListenRole::UmService) {
        let is_own =
            |at: &&Listening| at.server == service.server && matches!(at.role, ListenRole::Worker(_));
        let workers: Vec<String> = listening.iter().filter(is_own).flat_map(numbers).collect();
        let rest = format!("{}  workers {}", ports(service), workers.join(" "));
        let hosted = file.um.mailbox_servers.iter().find(|server| server.name == service.server);
        let is_hosted = hosted.is_some_and(|server| server.manner.tenants.is_some());
        let role = if is_hosted { "hosted UM" } else { "mailbox server" };
        row(role, &service.server, &address(service), rest.trim_start());
    }
    if let Some(gateway) = &file.gateway {
        let told = if file.um.message_waiting.is_some() { "is told of waiting messages" } else { "" };
        row("UM IP gateway", &gateway.name, &gateway.address.to_string(), told);
    }
    for caller in &file.callers {
        row("caller", &caller.name, &caller.address.to_string(), "for `umbra lab call`");
    }
    row("voice messages", &file.um.voicemail.display().to_string(), "", "");
    if file.speaks_tls() {
        row("lab CA", &file.pki.display().to_string(), "", "");
    }
    text
}

fn address(listening: &Listening) -> String {
    let at = listening.tcp.or(listening.tls);
    at.map_or_else(String::new, |at| at.ip().to_string())
}

fn ports(listening: &Listening) -> String {
    let word = |word: &str, at: Option<std::net::SocketAddr>| at.map(|at| format!("{word} {}", at.port()));
    let both = [word("tcp", listening.tcp), word("tls", listening.tls)];
    both.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

fn numbers(listening: &Listening) -> Vec<String> {
    [listening.tcp, listening.tls].into_iter().flatten().map(|at| at.port().to_string()).collect()
}
