//! Certificates made on the spot; nobody connects, what stands is put into the table.

use std::sync::Arc;

use b2bua::engine::PeerIdentity;
use lab::pki::{CertSpec, KeyKind, LabCa};
use rustls::RootCertStore;
use tempfile::TempDir;

use super::super::listen::tests::world;
use super::*;
use crate::net::{FlowFacts, NetLimits, Secured};
use crate::tls::{Agreed, Backend, CrlPolicy, Identity, Judge, KnownPeers, Revocations, Spoken};

const POOL: &str = "pool01.contoso.test";
const FRONT_END: &str = "fe01.contoso.test";
const STRANGER: &str = "other.contoso.test";

struct Lab {
    ca: LabCa,
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { ca: LabCa::create("lab").unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn issue(&self, name: &str) -> lab::pki::Identity {
        self.ca.issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap()
    }

    fn context(&self, ca: &LabCa, known: &[&str], revoked: &[&lab::pki::Identity]) -> Arc<TlsContext> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.root().clone()).unwrap();
        let known = KnownPeers::new(known.iter().map(|name| (*name).to_owned()), []);
        let list = self.folder.path().join("revoked.crl");
        std::fs::write(&list, self.ca.revocation_list(revoked, 7).unwrap()).unwrap();
        let revocations = Revocations::load(&[list], CrlPolicy::default()).unwrap();
        let own = self.issue("umbra.contoso.test").write(self.folder.path(), "own").unwrap();
        let own = Identity::load(&own.certificate, &own.key).unwrap();
        let judge = Judge::new(roots, known).with_revocations(revocations);
        Arc::new(TlsContext::judged_by(judge, &own, &Spoken::default()).unwrap())
    }
}

fn standing(key: u64, identity: &lab::pki::Identity, names: &[&str], tls: &TlsContext) -> Standing {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let facts = FlowFacts {
        key: FlowKey(key),
        transport: Transport::Tls,
        local: "127.0.0.20:5061".parse().unwrap(),
        remote: "127.0.0.10:40000".parse().unwrap(),
        peer: PeerIdentity::Verified { names },
        made_for: None,
    };
    let agreed = Agreed { version: 0x0304, suite: 0x1301 };
    let (chain, judge) = (Chain::from(identity.chain()), Arc::downgrade(&tls.judge()));
    let tls = Some(Secured { agreed, backend: Backend::Rustls, chain, judge });
    Standing { facts, opened: Opened::ByPeer, tls }
}

#[test]
fn a_far_end_is_judged_once_for_all_its_connections_and_by_what_it_was_let_in_for() {
    let lab = Lab::new();
    let (pool, other_ca) = (lab.issue(POOL), LabCa::create("another").unwrap());
    let before = lab.context(&lab.ca, &[POOL, FRONT_END], &[]);
    let flows = Flows::default();
    (0..3).for_each(|key| flows.enter(standing(key, &pool, &[POOL], &before)));
    flows.enter(standing(3, &lab.issue(POOL), &[POOL], &before));
    flows.enter(Standing { opened: Opened::ByUs, ..standing(4, &pool, &[POOL], &before) });
    let mut sizes: Vec<usize> = groups(&flows).iter().map(|group| group.flows.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3], "those that we opened are none of them");

    let verdict = |names: &[&str], tls: Option<&TlsContext>| {
        let group = Group::of(&standing(0, &pool, names, &before));
        is_let_in_over_tls(tls, &group).err().map(|why| match why {
            Shut::Certificate(rejection) => rejection.label(),
            Shut::Tls => "no tls",
            Shut::Address => "address",
        })
    };
    assert_eq!(verdict(&[POOL], Some(&before)), None);
    assert_eq!(verdict(&[POOL], Some(&lab.context(&lab.ca, &[POOL], &[&pool]))), Some("revoked"));
    assert_eq!(verdict(&[POOL], Some(&lab.context(&lab.ca, &[STRANGER], &[]))), Some("unknown_peer"));
    assert_eq!(verdict(&[POOL], Some(&lab.context(&other_ca, &[POOL], &[]))), Some("untrusted_chain"));
    assert_eq!(verdict(&[POOL], None), Some("no tls"));
    // A name that left the configuration is not missed; one that is there and not proven is.
    assert_eq!(verdict(&[POOL, STRANGER], Some(&before)), None);
    assert_eq!(verdict(&[POOL, FRONT_END], Some(&before)), Some("name_mismatch"));
}

#[tokio::test]
async fn a_connection_that_was_let_in_while_the_rules_changed_is_judged_by_the_new_ones() {
    let lab = Lab::new();
    let (pool, good) = (lab.issue(POOL), lab.issue(POOL));
    let before = lab.context(&lab.ca, &[POOL], &[]);
    let world = world(NetLimits::default(), Transport::Tls).await;
    let context = &world.context;
    let (late, fine) = (standing(1, &pool, &[POOL], &before), standing(2, &good, &[POOL], &before));
    [&late, &fine].into_iter().for_each(|standing| context.flows.enter(standing.clone()));
    context.tls.store(Some(before));
    assert!(!context.is_refused_already(&late));
    context.tls.store(Some(lab.context(&lab.ca, &[POOL], &[&pool])));
    assert!(context.is_refused_already(&late) && context.retiring.has(FlowKey(1)));
    assert!(!context.is_refused_already(&late), "it is told once");
    assert!(!context.is_refused_already(&fine) && !context.retiring.has(FlowKey(2)));
    // One that is gone already leaves nothing behind.
    let gone = standing(3, &pool, &[POOL], &lab.context(&lab.ca, &[POOL], &[]));
    assert!(!context.is_refused_already(&gone) && !context.retiring.has(FlowKey(3)));
    assert!(context.metrics.expose().contains("umbra_events_total{kind=\"connection_refused_later\"} 1\n"));
    world.stop.send(true).unwrap();
    world.task.await.unwrap();
}
