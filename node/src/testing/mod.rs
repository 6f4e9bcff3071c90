//! For this crate's tests: a chain spec with a committee whose keys are known, a chain that answers as told (`chain`), also
//! over JSON-RPC (`rpc`), a device (`device`), and a mirror that is served.

// The tests of the whole process use this, too, and each uses another part of it.
#![allow(clippy::unwrap_used, dead_code)]

mod chain;
pub(crate) mod device;
pub(crate) mod rpc;

pub(crate) use chain::FakeChain;

use crate::chain::Change;
use crate::follower::Follower;
use crate::head::{Attester, Heard, KnownLineage, Lineage, ServedHead};
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use windlass_protocol::head::Head;
use windlass_protocol::message::head::HeadMessage;
use windlass_protocol::spec::{
    ChainSpec, ContractPin, Contracts, FinalityRule, Fraction, SignedSpec, VerifiedSpec, verify_spec,
};
use windlass_protocol::{Address, B256, KeyAddress, SecretKey};

pub(crate) const REGISTRY: Address = Address::repeat_byte(0x11);
const CODE_HASH: B256 = B256::repeat_byte(0xcc);

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

pub(crate) fn publisher() -> SecretKey {
    key(0x50)
}

/// A spec with a committee of this many, and the members' keys.
pub(crate) fn spec(members: u8) -> (VerifiedSpec, Vec<SecretKey>) {
    spec_with(members, |_| {})
}

pub(crate) fn spec_with(members: u8, change: impl FnOnce(&mut ChainSpec)) -> (VerifiedSpec, Vec<SecretKey>) {
    let keys: Vec<SecretKey> = (1..=members).map(key).collect();
    let mut committee: Vec<Address> = keys.iter().map(|key| key.address().0).collect();
    committee.sort_unstable();
    let mut spec = ChainSpec {
        version: 1,
        chain_id: 1_337,
        genesis_hash: FakeChain::new().hash(0),
        contracts: Contracts {
            registry: ContractPin { address: REGISTRY, code_hash: CODE_HASH },
            ..Contracts::default()
        },
        deploy_block: 1,
        committee,
        head_interval: 1,
        finality: FinalityRule::Tag,
        max_finality_lag: 1 << 40,
        trusting_period: 7 * 86_400,
        epoch_length: 86_400,
        stake_age: 0,
        unbonding_period: 0,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: 0,
    };
    change(&mut spec);
    let bytes = SignedSpec::sign(&spec, &publisher()).to_bytes();
    (verify_spec(&bytes, publisher().address()).unwrap(), keys)
}

/// The spec's committee in office for ever.
pub(crate) fn lineage(spec: &VerifiedSpec) -> KnownLineage {
    let (known, lineage) = watch::channel(Arc::new(Lineage::lasting(spec)));
    // Whoever asks for changes is told that there are none, not that it is over.
    std::mem::forget(known);
    lineage
}

/// A signed spec as in a file, and its publisher.
pub(crate) fn signed_spec() -> (Vec<u8>, KeyAddress) {
    let (spec, _) = spec(3);
    (spec_bytes(&spec), publisher().address())
}

/// A spec's bytes as in a file.
pub(crate) fn spec_bytes(spec: &VerifiedSpec) -> Vec<u8> {
    SignedSpec::sign(spec, &publisher()).to_bytes()
}

/// A mirror that follows a made-up chain and serves what two made-up members attest.
pub(crate) struct Served {
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) store: Arc<Store>,
    pub(crate) spec: Arc<VerifiedSpec>,
    pub(crate) members: Vec<SecretKey>,
    pub(crate) head: crate::serve::Served,
    pub(crate) now: u64,
    follower: Follower<FakeChain>,
    inbox: mpsc::Sender<Heard>,
    cancelled: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (spec, members) = spec(3);
        let spec = Arc::new(spec);
        let chain = FakeChain::new();
        let store = Arc::new(Store::open(directory.path(), &spec).unwrap());
        let follower = Follower::new(chain.clone(), store.clone(), spec.clone()).unwrap();
        let lineage = lineage(&spec);
        let attester = Attester::new(store.clone(), spec.clone(), lineage, None, follower.state());
        let head = attester.served();
        let (inbox, heard) = mpsc::channel(64);
        let cancelled = CancellationToken::new();
        let (_, challengers) = crate::head::Challenges::channel();
        tokio::spawn(attester.run(heard, challengers, cancelled.clone()));
        let now = crate::clock::unix_seconds();
        Self { chain, store, spec, members, head, now, follower, inbox, cancelled, _directory: directory }
    }

    /// Has the attester hear that a member signed this hash at this number.
    pub(crate) async fn hear(&self, member: usize, number: u64, hash: B256) {
        let member = &self.members[member];
        let head = Head { number, hash, attested_at: self.now, nonce: B256::ZERO };
        let attestation = head.attest(&self.spec, member);
        let message = HeadMessage::Attested { number, hash, attestation };
        self.inbox.send(Heard { from: member.address().0, message }).await.unwrap();
    }

    /// What the follower says.
    pub(crate) fn state(&self) -> tokio::sync::watch::Receiver<crate::follower::MirrorState> {
        self.follower.state()
    }

    /// A block with these changes that isn't final yet, seen by the follower.
    pub(crate) async fn announce(&mut self, changes: Vec<Change>) {
        self.chain.extend(changes);
        self.follower.step().await.unwrap();
    }

    /// A final block with these changes, mirrored, attested by two members, and served.
    pub(crate) async fn advance(&mut self, changes: Vec<Change>) -> Arc<ServedHead> {
        self.chain.extend(changes);
        self.chain.finalise(1);
        self.follower.step().await.unwrap();
        self.attest(self.now).await
    }

    /// Two members vouch for the newest final head at this time.
    pub(crate) async fn attest(&mut self, attested_at: u64) -> Arc<ServedHead> {
        let position = self.store.cursor().unwrap().unwrap();
        for member in &self.members[..2] {
            let head = Head { number: position.number, hash: position.hash, attested_at, nonce: B256::ZERO };
            let attestation = head.attest(&self.spec, member);
            let message = HeadMessage::Attested { number: position.number, hash: position.hash, attestation };
            self.inbox.send(Heard { from: member.address().0, message }).await.unwrap();
        }
        let served = self.head.wait_for(|head| {
            head.as_ref().is_some_and(|head| head.position == position && head.attested_at == attested_at)
        });
        served.await.unwrap().clone().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}
