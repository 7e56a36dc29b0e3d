//! Call Routers and Mailbox servers of a lab file: names, addresses, ports by startup mode, limits.

use lab::um::{CallRouterConfig, Fault, MailboxServerConfig, PlanSecurity, Ports};

use super::super::StartupMode;
use super::super::reader::Reader;
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
        let (name, address) = (fqdn(table), address(table));
        table.finish();
        Some(CallRouterConfig { name, address: address?, ports, fault: Fault::None })
    };
    root.tables("call_router").iter().filter_map(router).collect()
}

pub(super) fn mailbox_servers(root: &Reader<'_>) -> Vec<MailboxServerConfig> {
    let server = |table: &Reader<'_>| {
        let service = ports(&table.table("service_ports"), (5062, 5063));
        let mut workers: Vec<Ports> =
            table.tables("workers").iter().map(|worker| ports(worker, (5065, 5066))).collect();
        if workers.is_empty() {
            workers = [(5065, 5066), (5067, 5068)]
                .map(|(tcp, tls)| Ports { tcp: Some(tcp), tls: Some(tls) })
                .to_vec();
        }
        let calls = table.whole("max_calls_allowed", 1..=CALLS_MAX).unwrap_or(CALLS_DEFAULT);
        let fault = status(table);
        let (name, address) = (fqdn(table), address(table));
        let server = address.map(|address| MailboxServerConfig {
            name,
            address,
            service: in_mode(table, service),
            workers: workers.into_iter().map(|ports| in_mode(table, ports)).collect(),
            max_calls_allowed: usize::try_from(calls).unwrap_or(usize::MAX),
            // What is for nobody of the file is taken as it comes.
            security: PlanSecurity::AsOffered,
            fault,
            worker_fault: Fault::None,
        });
        table.finish();
        server
    };
    root.tables("mailbox_server").iter().filter_map(server).collect()
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
    let states: [(&str, fn() -> Fault); 3] =
        [("Enabled", || Fault::None), ("NoNewCalls", || Fault::NoNewCalls), ("Disabled", || Fault::Dead)];
    table.word("status", &states).map(|fault| fault()).unwrap_or_default()
}
