//! Whether the objects of a lab file make sense together. Each check reports at the key that would be changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use b2bua::codes;
use lab::shell::UmTransport;
use lab::um::Ports;

use super::super::checks::one_kind;
use super::super::reader::Reader;
use super::LabFile;

pub(super) fn check(file: &LabFile, root: &Reader<'_>) {
    let um = &file.um;
    // A file of callers alone is good for `umbra lab call`.
    if um.call_routers.is_empty() && um.mailbox_servers.is_empty() && file.callers.is_empty() {
        let what =
            "there is no [[mailbox_server]], no [[call_router]] and no [[caller]]: nobody is described";
        root.error(codes::CFG_MISSING_KEY, "mailbox_server", what);
    }
    one_kind(root, "call_router", "name", um.call_routers.iter().map(|o| o.name.as_str()));
    one_kind(root, "mailbox_server", "name", um.mailbox_servers.iter().map(|o| o.name.as_str()));
    one_kind(root, "dial_plan", "name", um.dial_plans.iter().map(|o| o.name.as_str()));
    one_kind(root, "dial_plan", "phone_context", um.dial_plans.iter().map(|o| o.phone_context.as_str()));
    one_kind(root, "mailbox", "alias", um.mailboxes.iter().map(|o| o.alias.as_str()));
    let extensions = um.mailboxes.iter().map(|o| o.extension.as_deref().unwrap_or_default());
    one_kind(root, "mailbox", "extension", extensions);
    one_kind(root, "auto_attendant", "name", um.attendants.iter().map(|o| o.name.as_str()));
    one_kind(root, "caller", "name", file.callers.iter().map(|o| o.name.as_str()));
    listeners(file, root);
    extension_lengths(file, root);
    if file.gateway.is_none() && !file.callers.is_empty() {
        let what = "callers need somebody to call: the [um_ip_gateway]";
        root.error(codes::CFG_MISSING_KEY, "um_ip_gateway", what);
    }
}

/// Two listeners on one address and port.
fn listeners(file: &LabFile, root: &Reader<'_>) {
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let mut take = |setting: String, address, ports: Ports| {
        for port in [ports.tcp, ports.tls].into_iter().flatten() {
            let at = SocketAddr::new(address, port);
            if let Some(other) = taken.insert(at, setting.clone()) {
                let what = format!("{at} is taken by {other} already");
                root.error(codes::CFG_PORT_CLASH, &setting, what);
            }
        }
    };
    for (index, router) in file.um.call_routers.iter().enumerate() {
        take(format!("call_router[{index}]"), router.address, router.ports);
    }
    for (index, server) in file.um.mailbox_servers.iter().enumerate() {
        take(format!("mailbox_server[{index}].service_ports"), server.address, server.service);
        for ports in &server.workers {
            take(format!("mailbox_server[{index}].workers"), server.address, *ports);
        }
    }
    if let Some(control) = file.control {
        take("lab.control".to_owned(), control.ip(), Ports { tcp: Some(control.port()), tls: None });
    }
}

/// UM takes numbers of another length for somebody else's.
fn extension_lengths(file: &LabFile, root: &Reader<'_>) {
    for (index, mailbox) in file.um.mailboxes.iter().enumerate() {
        let plan = file.um.dial_plans.iter().find(|plan| mailbox.dial_plan.as_ref() == Some(&plan.name));
        let (Some(plan), Some(extension)) = (plan, &mailbox.extension) else { continue };
        if extension.len() != plan.answer.extension_digits {
            let what = format!(
                "{extension} has {} digits, extensions of dial plan {} have {}",
                extension.len(),
                plan.name,
                plan.answer.extension_digits
            );
            root.error(codes::CFG_EXTENSION, &format!("mailbox[{index}].extension"), what);
        }
    }
}

impl LabFile {
    /// Whether anything in it speaks TLS, and so needs certificates.
    pub fn speaks_tls(&self) -> bool {
        let um = &self.um;
        let routers = um.call_routers.iter().map(|router| router.ports);
        let services = um.mailbox_servers.iter().flat_map(|s| s.workers.iter().copied().chain([s.service]));
        routers.chain(services).any(|ports| ports.tls.is_some())
            || self.gateway.as_ref().is_some_and(|gateway| gateway.transport == UmTransport::Tls)
    }
}
