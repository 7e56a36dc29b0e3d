//! Connections that peers opened, while the gateway changes its mind about them: the list of revoked certificates, the
//! configuration, the roots. Nothing new begins on them, the call that is on one ends in peace, then they are closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::frontend::{CallEnd, CallSpec, Caller};
use lab::pki::{CertSpec, KeyKind, LabCa};

use super::place::{Answer, FQDN, POOL, Place, Seat};
use super::status::{document, has_call};

const HOLD: Duration = Duration::from_secs(5);
/// 64 * T1 (RFC 3261 §17.1.1.1), and some.
const DRAINED: Duration = Duration::from_secs(45);

struct Site {
    place: Place,
    /// Says nothing.
    idle: Caller,
    /// Holds a call.
    busy: Arc<Caller>,
    /// Of the same name, by another certificate.
    other: Caller,
    call: tokio::task::JoinHandle<lab::frontend::CallOutcome>,
}

impl Site {
    fn start() -> Self {
        let name = "um.sip.zoo.test";
        let place = Place::start(&[Seat::new(name)], "crls = [\"revoked.crl\"]");
        let issue = |name: &str| place.pki.ca().issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap();
        place.serve(0, &issue(name), Answer::Taken);
        let (idle, busy, other) = (place.pool(), Arc::new(place.pool()), place.pool_with(issue(POOL)));
        let spec = CallSpec { end: CallEnd::HangUpAfter(HOLD), ..place.call(&Place::calling(0)) };
        let caller = busy.clone();
        let call = place.spawn(async move { caller.place_call(spec).await.unwrap() });
        place.wait_until(|| has_call(&document(&place), name));
        Self { place, idle, busy, other, call }
    }

    /// Waits until so many connections are refused.
    fn wait_refused(&self, count: usize) {
        let line = format!("umbra_events_total{{kind=\"connection_refused_later\"}} {count}\n");
        self.place.wait_until(|| self.place.metrics().contains(&line));
    }

    /// What OPTIONS meets on that connection; nothing when it is closed.
    fn options(&self, caller: &Caller) -> Option<u16> {
        let status = self.place.block_on(caller.options(&format!("sip:{FQDN}"))).ok();
        status.filter(|status| *status > 0)
    }

    /// Connections of pools that stand, and whether they are to end.
    fn inbound(&self) -> Vec<(u64, bool)> {
        let told = document(&self.place);
        let peers = told["peers"].as_array().unwrap().iter().filter(|peer| peer["role"] == "pool");
        let sorts = peers.flat_map(|peer| peer["connections"].as_array().unwrap().clone());
        let sorts = sorts.chain(told["strangers"].as_array().unwrap().clone());
        let inbound = sorts.filter(|sort| sort["direction"] == "in");
        inbound.map(|sort| (sort["count"].as_u64().unwrap(), sort["ending"].as_bool().unwrap())).collect()
    }

    /// New requests are refused on the connection that has a call; the other one is closed. The log has a line for each certificate.
    fn assert_refused(&self, certificates: usize) {
        let log = || self.place.gateway.process.output();
        let refused = self.place.block_on(self.busy.place_call(self.place.call(&Place::calling(0)))).unwrap();
        assert_eq!(refused.status, 403, "{}", log());
        assert!(self.place.record(&refused.call_id).contains("UMB-PEER008"), "{}", log());
        assert_eq!(self.options(&self.busy), Some(403), "{}", log());
        self.place.wait_until(|| self.inbound().iter().all(|(count, _)| *count == 1));
        assert_eq!(self.options(&self.idle), None, "{}", log());
        assert_eq!(log().matches("connections_refused").count(), certificates, "{}", log());
    }

    /// The call that was there lasts as long as it wants.
    fn assert_ends_in_peace(&mut self) {
        let outcome = self.place.block_on(&mut self.call).unwrap();
        let log = self.place.gateway.process.output();
        assert!(outcome.status == 200 && outcome.lasted >= Some(HOLD), "{outcome:?}\n{log}");
        assert!(self.place.record(&outcome.call_id).contains("UMB-CALL001"), "{log}");
    }
}

#[test]
fn a_peer_that_is_revoked_meanwhile_begins_nothing_and_its_connections_end_with_their_calls() {
    let mut site = Site::start();
    let revoked = site.place.pki.identity(POOL).unwrap();
    site.place.write("revoked.crl", &site.place.pki.ca().revocation_list(&[&revoked], 7).unwrap());
    site.wait_refused(2);
    site.assert_refused(1);
    assert_eq!(site.options(&site.other), Some(200), "another certificate of that name is as good as before");
    site.assert_ends_in_peace();
    let since = Instant::now();
    while site.inbound() != [(1, false)] {
        assert!(since.elapsed() < DRAINED, "{:?}\n{}", site.inbound(), site.place.gateway.process.output());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!((site.options(&site.busy), site.options(&site.other)), (None, Some(200)));
}

#[test]
fn a_peer_that_left_the_configuration_begins_nothing_and_ends_its_call_in_peace() {
    let mut site = Site::start();
    let file = site.place.gateway.folder.path().join("umbra.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace(POOL, "another.gate.test")).unwrap();
    site.place.reload(1.0);
    site.wait_refused(3);
    site.assert_refused(2);
    site.place.wait_until(|| site.options(&site.other).is_none());
    site.assert_ends_in_peace();
}

#[test]
fn peers_of_a_root_that_is_trusted_no_longer_begin_nothing_and_end_their_calls_in_peace() {
    let mut site = Site::start();
    LabCa::create("another root").unwrap().write_root(&site.place.pki.root_file()).unwrap();
    site.wait_refused(3);
    site.assert_refused(2);
    site.place.wait_until(|| site.options(&site.other).is_none());
    site.assert_ends_in_peace();
}
