//! Certificates are replaced under load: no call is lost, the new one is presented to both sides, new calls take a new
//! connection and the old one ends with its last call; a pair that does not fit changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::frontend::{CallEnd, CallOutcome, CallSpec, Caller};
use lab::pki::{CertSpec, KeyKind};

use super::place::{Answer, FQDN, Place, Seat};
use crate::harness::{metric_sum, size};
use crate::traffic::alone;

/// New calls a second.
const RATE: u32 = 20;
/// `UMBRA_ROTATIONS=100` is the size of a release.
const ROTATIONS: usize = 5;
/// How long a call lasts: over several rotations.
const HOLD: Duration = Duration::from_secs(3);
/// 64 * T1 (RFC 3261 §17.1.1.1), and some.
const DRAINED: Duration = Duration::from_secs(45);

/// Places calls at the rate until told to stop; how each ended.
async fn load(
    caller: Arc<Caller>,
    spec: CallSpec,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> Vec<CallOutcome> {
    let mut calls = tokio::task::JoinSet::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / RATE);
    while stop.try_recv().is_err() {
        beat.tick().await;
        let (caller, spec) = (caller.clone(), spec.clone());
        calls.spawn(async move { caller.place_call(spec).await.unwrap() });
    }
    calls.join_all().await
}

#[test]
fn rotations_under_load_lose_no_call_and_a_wrong_pair_changes_nothing() {
    let alone = alone();
    let name = "um.sip.zoo.test";
    let place = Place::start(&[Seat::new(name)], "");
    let issue = |name: &str| place.pki.ca().issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap();
    place.serve(0, &issue(name), Answer::Taken);
    let spec = CallSpec { end: CallEnd::HangUpAfter(HOLD), ..place.call(&Place::calling(0)) };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let calls = place.spawn(load(Arc::new(place.pool()), spec, stopped));
    let rotations = size("UMBRA_ROTATIONS", ROTATIONS);
    let (mut slowest, mut refused) = (Duration::ZERO, 0);
    for number in 0..rotations {
        let next = issue(FQDN);
        if number % 2 == 1 {
            let now = place.presented();
            std::fs::write(place.pki.folder().join(format!("{FQDN}.pem")), next.chain_pem()).unwrap();
            refused += 1;
            let told = || place.gateway.process.output().matches("certificate_refused").count();
            place.wait_until(|| told() == refused);
            assert_eq!(place.presented(), now);
            place.reload(0.0);
            assert_eq!(place.presented(), now);
        }
        next.write(place.pki.folder(), FQDN).unwrap();
        let written = Instant::now();
        place.wait_until(|| place.presented() == *next.chain());
        slowest = slowest.max(written.elapsed());
        place.wait_until(|| place.presented_to(0).as_deref() == Some(next.chain()));
    }
    stop.send(()).unwrap();
    let calls = place.block_on(calls).unwrap();
    let lost: Vec<_> = calls.iter().filter(|call| call.status != 200 || call.lasted < Some(HOLD)).collect();
    println!(
        "{rotations} rotations, {refused} wrong pairs, {} calls, presented after {slowest:?}",
        calls.len()
    );
    assert!(lost.is_empty(), "{lost:?}\n{}", place.gateway.process.output());
    drop(alone);
    // The old connections end with their last calls, and with the time in which a 200 may still be repeated.
    let over = Instant::now();
    while place.open_at(0) > 1 {
        assert!(over.elapsed() < DRAINED, "{} left:\n{}", place.open_at(0), place.gateway.process.output());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(
        metric_sum(&place.metrics(), "umbra_events_total{kind=\"connection_retired\"}") >= rotations as f64
    );
    let records = place.gateway.wait_for_records(calls.len(), Duration::from_secs(10));
    let odd = records.iter().find(|record| !record.to_string().contains("UMB-CALL001"));
    assert!(odd.is_none(), "{odd:?}");
}

#[test]
fn a_server_whose_certificate_is_revoked_meanwhile_gets_no_further_call_on_the_connection_that_stands() {
    let name = "um.sip.zoo.test";
    let place = Place::start(&[Seat::new(name)], "crls = [\"revoked.crl\"]");
    let server = place.pki.ca().issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap();
    place.serve(0, &server, Answer::Busy);
    let caller = place.pool();
    let call = || place.block_on(caller.place_call(place.call(&Place::calling(0)))).unwrap().status;
    assert_eq!((call(), call(), place.open_at(0)), (486, 486, 1));
    place.write("revoked.crl", &place.pki.ca().revocation_list(&[&server], 7).unwrap());
    place.reload(1.0);
    assert_eq!(call(), 503, "{}", place.gateway.process.output());
}
