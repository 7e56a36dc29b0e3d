//! Certificate files that change while the gateway runs: a new pair is taken without a signal. Owns when to look and when a
//! change has settled; what is in force stays until something better was loaded, and calls never notice. The configuration
//! file is not its business: that takes SIGHUP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use b2bua::Policy;
use tracing::{error, info};

use super::expiry;
use super::settings::TlsSetup;
use crate::net::{NetContext, Replaced};

/// Files are looked at this often, and loaded after two looks that saw the same.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The TLS settings that a start or a reload put in force.
pub(super) struct InForce {
    pub(super) setup: TlsSetup,
    pub(super) policy: Arc<Policy>,
}

/// What tells one state of a file from another; `None` while it cannot be read.
type Stamp = Option<(SystemTime, u64)>;

/// What was seen at each look.
#[derive(Debug, Default, Eq, PartialEq)]
struct Changes {
    taken: Vec<Stamp>,
    last: Vec<Stamp>,
}

impl Changes {
    fn begin(stamps: Vec<Stamp>) -> Self {
        Self { taken: stamps.clone(), last: stamps }
    }

    /// Whether there is something new that has settled. It counts as taken, whatever becomes of it.
    fn see(&mut self, stamps: Vec<Stamp>) -> bool {
        let is_settled = self.last == stamps;
        self.last = stamps;
        let is_new = is_settled && self.last != self.taken;
        if is_new {
            self.taken.clone_from(&self.last);
        }
        is_new
    }
}

/// Looks until the gateway stops.
pub(super) async fn watch_files(context: Arc<NetContext>, in_force: Arc<ArcSwapOption<InForce>>) {
    let mut known = in_force.load_full();
    let mut changes = Changes::begin(stamps(known.as_deref()));
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = context.stopped() => return,
        }
        let now = in_force.load_full();
        if now.as_ref().map(Arc::as_ptr) != known.as_ref().map(Arc::as_ptr) {
            // A reload has just read the files.
            changes = Changes::begin(stamps(now.as_deref()));
            known = now;
            continue;
        }
        if let Some(setting) = known.clone().filter(|setting| changes.see(stamps(Some(setting)))) {
            take(&context, setting).await;
        }
    }
}

async fn take(context: &Arc<NetContext>, setting: Arc<InForce>) {
    let (policy, names) = (setting.policy.clone(), setting.setup.names());
    // Reading files and keys blocks.
    let loaded = tokio::task::spawn_blocking(move || setting.setup.load(&setting.policy)).await;
    match loaded {
        Ok(Ok(tls)) => {
            let replaced = Replaced { before: policy.clone(), now: policy.clone() };
            context.publish(Some(Arc::new(tls)), &replaced).await;
            expiry::publish(context, &policy.gateway.fqdn, &names);
            info!(event = "certificate_taken", "changed certificate files are in force for new handshakes");
        }
        Ok(Err(problem)) => {
            error!(event = "certificate_refused", %problem, "changed certificate files refused, the old ones stay");
        }
        Err(problem) => error!(event = "certificate_refused", %problem, "the files could not be read"),
    }
}

fn stamps(in_force: Option<&InForce>) -> Vec<Stamp> {
    let Some(in_force) = in_force else { return Vec::new() };
    let files = &in_force.setup.files;
    let more = files.more.iter().flat_map(|more| [&more.certificate, &more.private_key]);
    let own = [&files.certificate, &files.private_key].into_iter().chain(more);
    let paths = own.chain(&files.trusted_roots);
    let stamp = |path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    paths.chain(&files.crls).map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled_and_then_once() {
        let stamp = |secs| Some((SystemTime::UNIX_EPOCH + Duration::from_secs(secs), 1));
        let mut changes = Changes::begin(vec![stamp(1), stamp(1)]);
        assert!(!changes.see(vec![stamp(1), stamp(1)]), "nothing new");
        assert!(!changes.see(vec![stamp(2), stamp(1)]), "half of a pair");
        assert!(!changes.see(vec![stamp(2), stamp(2)]), "just now");
        assert!(changes.see(vec![stamp(2), stamp(2)]), "settled");
        assert!(!changes.see(vec![stamp(2), stamp(2)]), "taken");
        assert!(!changes.see(vec![None, stamp(2)]), "a file that is being replaced");
        assert!(!changes.see(vec![stamp(2), stamp(2)]), "back as it was");
    }
}
