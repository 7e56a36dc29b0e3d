//! UM servers and their connections: one that refuses TLS, one that accepts and says nothing, one that is not there; and two
//! names at one address.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lab::pki::{CertSpec, Identity, KeyKind};

use super::place::{Answer, Illness, Place, Seat, reasons};

/// What a caller waits for a word at most, and a server that is well again for a call.
const WORD: Duration = Duration::from_secs(10);
const BACK: Duration = Duration::from_secs(30);

fn issue(place: &Place, spec: CertSpec) -> Identity {
    place.pki.ca().issue(&spec.key(KeyKind::EcdsaP256)).unwrap()
}

#[test]
fn servers_that_refuse_tls_or_say_nothing_are_stepped_over_and_called_again_when_they_are_well() {
    let names = ["well", "refuses", "silent", "away"].map(|name| format!("{name}.sip.zoo.test"));
    let place = Place::start(&names.each_ref().map(|name| Seat::new(name)), "");
    let serve = |number: usize| {
        place.serve(number, &issue(&place, CertSpec::host(&names[number])), Answer::Busy);
    };
    serve(0);
    let (refuses, silent) = (place.sicken(1, Illness::Refuses), place.sicken(2, Illness::Silent));
    let caller = place.pool();
    let call = |number: &str| place.block_on(caller.place_call(place.call(number))).unwrap();
    // Nobody else can take it: a clear word, in time.
    for number in 1..4 {
        let outcome = call(&Place::calling(number));
        assert_eq!(outcome.status, 503, "{}", place.gateway.process.output());
        assert!(outcome.setup.unwrap() <= WORD, "{outcome:?}");
        let record = place.record(&outcome.call_id);
        assert!(record.contains(["", "UMB-TLS", "UMB-TLS", "UMB-SRV"][number]), "{record}");
    }
    let tried = || [refuses.calls.load(Ordering::Relaxed), silent.calls.load(Ordering::Relaxed)];
    let before = tried();
    for _ in 0..12 {
        let outcome = call(Place::ANYBODY);
        assert_eq!(outcome.status, 486, "{}", place.gateway.process.output());
        assert!(outcome.setup.unwrap() <= WORD, "{outcome:?}");
    }
    assert_eq!(tried(), before, "a call paid for a server that was known to be ill");
    place.leave(refuses);
    place.leave(silent);
    (1..4).for_each(serve);
    let well = Instant::now();
    while (1..4).any(|number| place.presented_to(number).is_none()) {
        assert!(well.elapsed() <= BACK, "not called again:\n{}", place.gateway.process.output());
        assert_eq!(call(Place::ANYBODY).status, 486);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_connection_made_for_one_name_carries_nothing_for_another_at_the_same_address() {
    let (one, two) = ("one.sip.zoo.test", "two.sip.zoo.test");
    for (spec, second, connections) in
        [(CertSpec::host(one), 503, 1), (CertSpec::host(one).also(two), 486, 2)]
    {
        let place = Place::start(&[Seat::new(one), Seat::new(two).beside(0)], "");
        place.serve(0, &issue(&place, spec), Answer::Busy);
        let caller = place.pool();
        let call = |number| place.block_on(caller.place_call(place.call(&Place::calling(number)))).unwrap();
        assert_eq!([call(0).status, call(0).status], [486, 486], "{}", place.gateway.process.output());
        assert_eq!(place.open_at(0), 1);
        assert_eq!(call(1).status, second, "{}", place.gateway.process.output());
        assert_eq!(place.open_at(0), connections);
        let refused = reasons(&place.metrics(), |peer| peer == two);
        assert_eq!(refused.contains_key("name_mismatch"), second == 503, "{refused:?}");
        let told = place.refusals();
        let is_told =
            ["\"outbound\"", two, "name_mismatch", "UMB-TLS"].iter().all(|word| told.contains(word));
        assert_eq!(is_told, second == 503, "{told}");
    }
}
