//! Calls of every shape the lab's Front End and IP-PBX can send, all at once through one gateway: answered, heard, stored,
//! and no redirect ever reaches the caller.

use std::path::Path;
use std::time::{Duration, Instant};

use lab::frontend::{CallOutcome, CallSpec, Caller, OfferShape};
use lab::um::MediaKind;

use crate::site::Site;

/// (who calls, shape, media the answer must agree on).
const CALLS: &[(&str, OfferShape, MediaKind)] = &[
    ("pool01", OfferShape::Lync2013Multipart, MediaKind::Srtp),
    ("pool01", OfferShape::Lync2015, MediaKind::Srtp),
    ("pool03", OfferShape::LyncOptional, MediaKind::Srtp),
    ("pool04", OfferShape::LyncOptional, MediaKind::Rtp),
    ("pool06", OfferShape::LyncNone, MediaKind::Rtp),
    ("pbx", OfferShape::PbxTcp, MediaKind::Rtp),
    ("pbx", OfferShape::LateOffer, MediaKind::Rtp),
];

fn spec(who: &str, shape: OfferShape) -> CallSpec {
    let mut call = CallSpec::call_answering("ken", "dana", "contoso.com");
    call.shape = shape;
    if who == "pbx" {
        call.request_uri = "sip:88895@umbra.contoso.com;user=phone".into();
        call.to = call.request_uri.clone();
        call.diversion = vec!["\"Ken\"<sip:6095@contoso.com>;reason=no-answer".into()];
    }
    call
}

async fn place_all(callers: Vec<(Caller, CallSpec)>) -> Vec<CallOutcome> {
    let calls: Vec<_> = callers
        .into_iter()
        .map(|(caller, spec)| tokio::spawn(async move { caller.place_call(spec).await.unwrap() }))
        .collect();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    outcomes
}

#[test]
fn every_shape_of_call_is_answered_heard_and_stored() {
    let site = Site::start();
    let callers = CALLS.iter().map(|(who, shape, _)| {
        let caller = if *who == "pbx" { site.pbx() } else { site.pool(who) };
        (caller, spec(who, *shape))
    });
    let callers = callers.collect();
    let outcomes = site.block_on(place_all(callers));
    for ((who, shape, media), outcome) in CALLS.iter().zip(&outcomes) {
        let context = format!("{shape:?} from {who}: {outcome:?}\n{}", site.gateway.process.output());
        assert_eq!(outcome.status, 200, "{context}");
        assert_eq!(outcome.redirects_seen, 0, "{context}");
        assert_eq!(outcome.media, Some(*media), "{context}");
        assert_eq!(outcome.answer_fault, None, "{context}");
        assert!(outcome.heard.packets > 50 && outcome.heard.beep_at.is_some(), "{context}");
    }
    let records = site.gateway.wait_for_records(CALLS.len(), Duration::from_secs(10));
    assert!(records.iter().all(|r| r["offer_result"] == "Answer" && r["redirects"] == 2), "{records:#?}");
    // A worker writes its message a moment after the BYE.
    let folder = site.gateway.folder.path().join("voicemail/ken");
    let until = Instant::now() + Duration::from_secs(10);
    while messages(&folder) < CALLS.len() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(messages(&folder), CALLS.len(), "one voice message for each call");
}

fn messages(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "json")).count()
}
