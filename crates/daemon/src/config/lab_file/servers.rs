//! Call Routers and Mailbox servers of a lab file: names, addresses, ports by startup mode, limits.

use b2bua::codes;
use b2bua::policy::ServerStatus;
use lab::um::{CallRouterConfig, Fault, MailboxServerConfig, Manner, PlanSecurity, Ports, Version};

use super::super::StartupMode;
use super::super::reader::Reader;
use super::manner::{self, of_server};
use super::{address, fqdn};

/// `MaxCallsAllowed` of a UM service.
const CALLS_DEFAULT: u64 = 100;
const CALLS_MAX: u64 = 100_000;

pub(super) fn call_routers(root: &Reader<'_>) -> Vec<CallRouterConfig> {
    let router = |table: &Reader<'_>| {
        let ports = in_mode(
            table,
            Ports {
                tcp: Some(table.port("tcp_port").unwrap_or(5060)),
                tls: Some(table.port("tls_port").unwrap_or(5061)),
            },
        );
        let (name, address, manner) = (fqdn(table), address(table), of_server(root, table));
        if manner::version(table).or(manner::version(&root.table("lab"))) == Some(Version::E2010) {
            let what = "Exchange 2010 has no Call Router: its UM servers are called themselves";
            table.error(codes::CFG_VALUE, "version", what);
        }
        table.finish();
        Some(CallRouterConfig { name, address: address?, ports, manner, fault: Fault::None })
    };
    root.tables("call_router").iter().filter_map(router).collect()
}

pub(super) fn mailbox_servers(root: &Reader<'_>) -> Vec<MailboxServerConfig> {
    let server = |table: &Reader<'_>| {
        let version = manner::version(table).or(manner::version(&root.table("lab")));
        // Without a Call Router the UM service stands on its ports.
        let default = if version == Some(Version::E2010) { (5060, 5061) } else { (5062, 5063) };
        let service = ports(&table.table("service_ports"), default);
        let mut workers: Vec<Ports> =
            table.tables("workers").iter().map(|worker| ports(worker, (5065, 5066))).collect();
        if workers.is_empty() {
            workers = [(5065, 5066), (5067, 5068)]
                .map(|(tcp, tls)| Ports { tcp: Some(tcp), tls: Some(tls) })
                .to_vec();
        }
        let calls = table.whole("max_calls_allowed", 1..=CALLS_MAX).unwrap_or(CALLS_DEFAULT);
        let fault = status(table);
        let (name, address, manner) = (fqdn(table), address(table), of_server(root, table));
        let server = address.map(|address| MailboxServerConfig {
            name,
            address,
            service: in_mode(table, service),
            workers: workers.into_iter().map(|ports| in_mode(table, ports)).collect(),
            max_calls_allowed: usize::try_from(calls).unwrap_or(usize::MAX),
            // What is for nobody of the file is taken as it comes.
            security: PlanSecurity::AsOffered,
            manner,
            fault,
            worker_fault: Fault::None,
        });
        table.finish();
        server
    };
    let mut all: Vec<_> = root.tables("mailbox_server").iter().filter_map(server).collect();
    all.extend(root.tables("hosted").iter().filter_map(|table| hosted(root, table)));
    all
}

/// A hosted UM behind an Edge or hosting provider: one service and worker under one name, always mutual TLS.
fn hosted(root: &Reader<'_>, table: &Reader<'_>) -> Option<MailboxServerConfig> {
    let tls = |port| Ports { tcp: None, tls: Some(port) };
    let manner =
        Manner { tenants: Some(table.list("tenants").unwrap_or_default()), ..of_server(root, table) };
    let calls = table.whole("max_calls_allowed", 1..=CALLS_MAX).unwrap_or(CALLS_DEFAULT);
    let (name, address) = (fqdn(table), address(table));
    let server = MailboxServerConfig {
        name,
        service: tls(table.port("tls_port").unwrap_or(5061)),
        workers: vec![tls(table.port("worker_port").unwrap_or(5066))],
        max_calls_allowed: usize::try_from(calls).unwrap_or(usize::MAX),
        security: PlanSecurity::AsOffered,
        manner,
        fault: status(table),
        worker_fault: Fault::None,
        address: address?,
    };
    table.finish();
    Some(server)
}

fn ports(table: &Reader<'_>, (tcp, tls): (u16, u16)) -> Ports {
    let ports =
        Ports { tcp: Some(table.port("tcp").unwrap_or(tcp)), tls: Some(table.port("tls").unwrap_or(tls)) };
    table.finish();
    ports
}

/// Those of the ports that the server's startup mode opens.
fn in_mode(table: &Reader<'_>, ports: Ports) -> Ports {
    let modes = [("TCP", StartupMode::Tcp), ("TLS", StartupMode::Tls), ("Dual", StartupMode::Dual)];
    match table.word("startup_mode", &modes).unwrap_or(StartupMode::Dual) {
        StartupMode::Tcp => Ports { tls: None, ..ports },
        StartupMode::Tls => Ports { tcp: None, ..ports },
        StartupMode::Dual => ports,
    }
}

/// What its status makes of it.
fn status(table: &Reader<'_>) -> Fault {
    use ServerStatus::{Disabled, Enabled, NoNewCalls};
    let words = [("Enabled", Enabled), ("NoNewCalls", NoNewCalls), ("Disabled", Disabled)];
    match table.word("status", &words).unwrap_or(Enabled) {
        Enabled => Fault::None,
        NoNewCalls => Fault::NoNewCalls,
        Disabled => Fault::Dead,
    }
}
