//! The `evidence` task: has members convicted on chain that signed two blocks at one number, if the operator named an
//! account that pays for it. Without one the evidence is only kept and shown.
//!
//! Each member is reported once: what is about to be sent is recorded before it leaves, so that neither a restart nor a
//! lost answer sends it again before it is known to be lost. It gives up after a bounded number of attempts, and says
//! why. It never decides who is guilty: the signatures do, and the contract checks them.

use crate::chain::{Included, Ledger, Signed, Tried};
use crate::limits::{EVIDENCE_PAUSE, INCLUSION_DEADLINE, REPORT_ATTEMPTS};
use crate::on_disk::on_disk;
use crate::store::{Column, Durability, Family, Fault, Store, StoreError};
use alloy::sol_types::{SolCall, SolError};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_contracts::node_staking::{INodeStaking, ISigned, NodeStaking};
use windlass_protocol::head::Attestation;
use windlass_protocol::{Address, B256, Bytes, SecretKey};

/// How far the report of one member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// Sent, or about to be, for the so-manieth time.
    Sent {
        /// The transaction's hash.
        transaction: B256,
        /// Attempts so far.
        attempts: u32,
    },
    /// The contract took the member's stake on our word.
    Convicted {
        /// The transaction's hash.
        transaction: B256,
        /// Its block.
        block: u64,
    },
    /// There is nothing to do, or no more to try.
    Closed {
        /// Why.
        reason: String,
        /// Attempts so far.
        attempts: u32,
    },
    /// To be tried again.
    Waiting {
        /// What went wrong.
        reason: String,
        /// Attempts so far.
        attempts: u32,
    },
}

impl Report {
    fn attempts(&self) -> u32 {
        match self {
            Self::Sent { attempts, .. } | Self::Closed { attempts, .. } | Self::Waiting { attempts, .. } => {
                *attempts
            }
            Self::Convicted { .. } => 0,
        }
    }

    /// Whether nothing more will be done.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Convicted { .. } | Self::Closed { .. })
    }
}

/// `[0, transaction, attempts]`, `[1, transaction, block]`, `[2, reason, attempts]`, `[3, reason, attempts]`.
impl Encodable for Report {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(3);
        match self {
            Self::Sent { transaction, attempts } => {
                s.append(&0u8).append(&transaction.as_slice()).append(attempts);
            }
            Self::Convicted { transaction, block } => {
                s.append(&1u8).append(&transaction.as_slice()).append(block);
            }
            Self::Closed { reason, attempts } => {
                s.append(&2u8).append(reason).append(attempts);
            }
            Self::Waiting { reason, attempts } => {
                s.append(&3u8).append(reason).append(attempts);
            }
        }
    }
}

impl Decodable for Report {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let transaction = || B256::try_from(rlp.at(1)?.data()?).map_err(|_| DecoderError::RlpInvalidLength);
        match rlp.val_at::<u8>(0)? {
            0 => Ok(Self::Sent { transaction: transaction()?, attempts: rlp.val_at(2)? }),
            1 => Ok(Self::Convicted { transaction: transaction()?, block: rlp.val_at(2)? }),
            2 => Ok(Self::Closed { reason: rlp.val_at(1)?, attempts: rlp.val_at(2)? }),
            3 => Ok(Self::Waiting { reason: rlp.val_at(1)?, attempts: rlp.val_at(2)? }),
            _ => Err(DecoderError::Custom("no kind of report")),
        }
    }
}

/// Member → how far its report is.
struct Reports;

impl Column for Reports {
    const FAMILY: Family = Family::Head;
    type Key = Address;
    type Value = Report;
    fn key(member: &Address) -> Vec<u8> {
        [b"report", member.as_slice()].concat()
    }
    fn encode(report: &Report) -> Vec<u8> {
        rlp::encode(report).to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Report> {
        rlp::decode(bytes).ok()
    }
}

/// What became of each report, for whoever runs the node. `None` without an account: nothing is sent.
pub type Reported = watch::Receiver<Option<Arc<BTreeMap<Address, Report>>>>;

/// The call of NodeStaking that convicts a member: anybody may send it, and is rewarded.
pub fn call_of(member: Address, fault: &Fault) -> Bytes {
    let head = |(hash, attestation): &(B256, Attestation)| INodeStaking::Head {
        number: fault.number,
        hash: *hash,
        attestedAt: attestation.attested_at,
        nonce: attestation.nonce,
    };
    let signature = |(_, attestation): &(B256, Attestation)| {
        let bytes = attestation.signature.to_ethereum_bytes();
        ISigned::Signature {
            r: B256::from_slice(&bytes[..32]),
            s: B256::from_slice(&bytes[32..64]),
            v: bytes[64],
        }
    };
    let call = NodeStaking::reportTwoHeadsCall {
        node: member,
        one: head(&fault.one),
        oneSignature: signature(&fault.one),
        other: head(&fault.other),
        otherSignature: signature(&fault.other),
    };
    call.abi_encode().into()
}

/// Reports faults through a chain.
pub struct Reporter<L> {
    ledger: Arc<L>,
    store: Arc<Store>,
    staking: Address,
    /// The account that pays; `None` if nothing is to be sent.
    key: Option<SecretKey>,
    pause: Duration,
    deadline: Duration,
    told: watch::Sender<Option<Arc<BTreeMap<Address, Report>>>>,
}

impl<L: Ledger> Reporter<L> {
    /// Reports to the staking contract at this address, in the name of `key` and at its cost. Reads nothing yet.
    pub fn new(ledger: Arc<L>, store: Arc<Store>, staking: Address, key: Option<SecretKey>) -> Self {
        let (pause, deadline) = (EVIDENCE_PAUSE, INCLUSION_DEADLINE);
        Self { ledger, store, staking, key, pause, deadline, told: watch::Sender::new(None) }
    }

    /// What became of each report, now and from now on.
    pub fn reported(&self) -> Reported {
        self.told.subscribe()
    }

    /// Runs until cancelled, or until the disk fails. A transaction that was sent stays sent.
    pub async fn run(self, cancelled: CancellationToken) -> Result<(), StoreError> {
        if self.key.is_none() {
            cancelled.cancelled().await;
            return Ok(());
        }
        let mut beat = tokio::time::interval(self.pause);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                _ = beat.tick() => {}
            }
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                done = self.round() => done?,
            }
        }
    }

    /// Looks at every fault that is kept and goes on with those that aren't settled.
    async fn round(&self) -> Result<(), StoreError> {
        let mut reports = BTreeMap::new();
        for (member, fault) in on_disk(|| self.store.faults())? {
            let former = on_disk(|| self.store.get::<Reports>(&member))?;
            let report = match former {
                Some(report) if report.is_final() => report,
                former => self.go_on(member, &fault, former).await?,
            };
            reports.insert(member, report);
        }
        self.told.send_if_modified(|told| {
            let news = told.as_deref() != Some(&reports);
            if news {
                *told = Some(Arc::new(reports));
            }
            news
        });
        Ok(())
    }

    /// One attempt, or a look at the last one.
    async fn go_on(
        &self,
        member: Address,
        fault: &Fault,
        former: Option<Report>,
    ) -> Result<Report, StoreError> {
        let attempts = former.as_ref().map_or(0, Report::attempts);
        if let Some(Report::Sent { transaction, attempts }) = former {
            match self.look_for(transaction).await {
                Some(Included::Done(block)) => {
                    return self.record(member, Report::Convicted { transaction, block });
                }
                Some(Included::Failed(_)) | None => {
                    tracing::debug!(%transaction, attempts, "a report didn't do it");
                }
            }
        }
        if attempts >= REPORT_ATTEMPTS {
            let reason = match former {
                Some(Report::Waiting { reason, .. }) => reason,
                _ => "it was sent and did nothing".to_owned(),
            };
            return self.record(member, Report::Closed { reason, attempts });
        }
        let Some(key) = &self.key else { return Ok(former.unwrap_or_else(waiting_for_nothing)) };
        let attempts = attempts + 1;
        let signed = match self.ledger.prepare(key, self.staking, &call_of(member, fault)).await {
            Ok(Tried::Ready(signed)) => signed,
            Ok(Tried::Refused(data)) => return self.record(member, refused(&data, attempts)),
            Ok(Tried::Unpaid(reason)) => return self.record(member, Report::Waiting { reason, attempts }),
            Err(error) => {
                return self.record(member, Report::Waiting { reason: error.to_string(), attempts });
            }
        };
        self.send(member, signed, attempts).await
    }

    /// Records, sends, and waits a while for the block.
    async fn send(&self, member: Address, signed: Signed, attempts: u32) -> Result<Report, StoreError> {
        let transaction = signed.hash;
        let sent = self.record(member, Report::Sent { transaction, attempts })?;
        if let Err(error) = self.ledger.send(&signed).await {
            // The answer may be lost and the transaction not: the next round looks for it first.
            tracing::debug!(%error, %transaction, "no answer to a report");
        }
        let end = Instant::now() + self.deadline;
        loop {
            match self.look_for(transaction).await {
                Some(Included::Done(block)) => {
                    return self.record(member, Report::Convicted { transaction, block });
                }
                None if Instant::now() < end => tokio::time::sleep(self.pause).await,
                Some(Included::Failed(_)) | None => return Ok(sent),
            }
        }
    }

    async fn look_for(&self, transaction: B256) -> Option<Included> {
        let found = self.ledger.included(transaction).await;
        found
            .inspect_err(|error| tracing::debug!(%error, %transaction, "no answer about a report"))
            .ok()
            .flatten()
    }

    fn record(&self, member: Address, report: Report) -> Result<Report, StoreError> {
        match &report {
            Report::Sent { transaction, attempts } => {
                tracing::info!(%member, %transaction, attempts, "reporting a member that signed two blocks");
            }
            Report::Convicted { transaction, block } => {
                tracing::warn!(%member, %transaction, block, "a member was convicted: its stake is gone");
            }
            Report::Closed { reason, attempts } => {
                tracing::warn!(%member, reason, attempts, "a member isn't reported any more");
            }
            Report::Waiting { reason, attempts } => {
                tracing::warn!(%member, reason, attempts, "a member couldn't be reported yet");
            }
        }
        on_disk(|| {
            let mut batch = self.store.batch();
            batch.put::<Reports>(&member, &report);
            batch.commit(Durability::Disk)
        })?;
        Ok(report)
    }
}

fn waiting_for_nothing() -> Report {
    Report::Waiting { reason: "no account is configured".to_owned(), attempts: 0 }
}

/// What the contract's refusal means: some can't become anything else.
fn refused(data: &[u8], attempts: u32) -> Report {
    let is = |selector: [u8; 4]| data.get(..4) == Some(&selector[..]);
    let closed = |reason: &str| Report::Closed { reason: reason.to_owned(), attempts };
    if is(NodeStaking::NodeIsSlashed::SELECTOR) {
        return closed("it was convicted already, by somebody else's report");
    }
    if is(NodeStaking::NoSuchNode::SELECTOR) {
        return closed("it never staked anything, so there is nothing to take");
    }
    let reason = format!("the contract refuses the report: {}", Bytes::copy_from_slice(data));
    Report::Waiting { reason, attempts }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::{Answer, SourceError};
    use crate::store::Faults;
    use crate::testing;
    use std::sync::Mutex;
    use windlass_protocol::head::Head;

    /// A chain that does as it is told.
    #[derive(Default)]
    struct Court {
        script: Mutex<Script>,
    }

    #[derive(Default)]
    struct Script {
        refuses: Option<Vec<u8>>,
        unavailable: bool,
        /// Takes transactions and forgets them.
        forgets: bool,
        fails: bool,
        sent: Vec<B256>,
        prepared: u8,
    }

    impl Ledger for Court {
        async fn prepare(&self, _: &SecretKey, _: Address, _: &Bytes) -> Answer<Tried> {
            let mut script = self.script.lock().unwrap();
            if script.unavailable {
                return Err(SourceError::Unavailable("the account has nothing".to_owned()));
            }
            if let Some(data) = &script.refuses {
                return Ok(Tried::Refused(data.clone().into()));
            }
            script.prepared += 1;
            let hash = B256::with_last_byte(script.prepared);
            Ok(Tried::Ready(Signed { hash, raw: Bytes::new() }))
        }

        async fn send(&self, signed: &Signed) -> Answer<()> {
            self.script.lock().unwrap().sent.push(signed.hash);
            Ok(())
        }

        async fn included(&self, transaction: B256) -> Answer<Option<Included>> {
            let script = self.script.lock().unwrap();
            let known = script.sent.contains(&transaction) && !script.forgets;
            Ok(known.then_some(if script.fails { Included::Failed(9) } else { Included::Done(9) }))
        }
    }

    struct World {
        court: Arc<Court>,
        store: Arc<Store>,
        member: Address,
        _directory: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (spec, keys) = testing::spec(3);
            let store = Arc::new(Store::open(directory.path(), &spec).unwrap());
            let signed = |byte: u8| {
                let hash = B256::with_last_byte(byte);
                let head = Head { number: 5, hash, attested_at: 1, nonce: B256::ZERO };
                (hash, head.attest(&spec, &keys[0]))
            };
            let member = keys[0].address().0;
            let fault = Fault { number: 5, one: signed(1), other: signed(2) };
            let mut batch = store.batch();
            batch.put::<Faults>(&member, &fault);
            batch.commit(Durability::Disk).unwrap();
            Self { court: Arc::default(), store, member, _directory: directory }
        }

        /// A node that is started anew, and what came of this many rounds.
        async fn rounds(&self, rounds: u32) -> Report {
            let key = Some(testing::key(0x44));
            let staking = Address::repeat_byte(5);
            let mut reporter = Reporter::new(self.court.clone(), self.store.clone(), staking, key);
            (reporter.pause, reporter.deadline) = (Duration::from_millis(1), Duration::from_millis(3));
            for _ in 0..rounds {
                reporter.round().await.unwrap();
            }
            let told = reporter.reported().borrow().clone().unwrap();
            assert_eq!(self.store.get::<Reports>(&self.member).unwrap().as_ref(), told.get(&self.member));
            told[&self.member].clone()
        }

        fn sent(&self) -> usize {
            self.court.script.lock().unwrap().sent.len()
        }
    }

    #[tokio::test]
    async fn a_fault_is_reported_once_however_often_the_node_starts() {
        let world = World::new();
        let first = world.rounds(1).await;
        assert_eq!(first, Report::Convicted { transaction: B256::with_last_byte(1), block: 9 });
        assert_eq!((world.rounds(3).await, world.sent()), (first, 1));
    }

    #[tokio::test]
    async fn what_was_sent_is_looked_for_before_it_is_sent_again() {
        let world = World::new();
        world.court.script.lock().unwrap().forgets = true;
        let sent = world.rounds(1).await;
        assert_eq!(sent, Report::Sent { transaction: B256::with_last_byte(1), attempts: 1 });
        // Its block came after all, while the node was down.
        world.court.script.lock().unwrap().forgets = false;
        assert!(matches!(world.rounds(1).await, Report::Convicted { block: 9, .. }));
        assert_eq!(world.sent(), 1);
    }

    #[tokio::test]
    async fn attempts_are_bounded_and_the_reason_is_told() {
        for fail in [
            (|script: &mut Script| script.forgets = true) as fn(&mut Script),
            |script| script.fails = true,
            |script| script.unavailable = true,
            |script| script.refuses = Some(vec![1, 2, 3, 4]),
        ] {
            let world = World::new();
            fail(&mut world.court.script.lock().unwrap());
            let report = world.rounds(3 * REPORT_ATTEMPTS).await;
            let Report::Closed { reason, attempts } = report else { panic!("{report:?}") };
            assert_eq!(attempts, REPORT_ATTEMPTS);
            assert!(!reason.is_empty() && world.sent() <= REPORT_ATTEMPTS as usize);
        }
    }

    #[tokio::test]
    async fn a_member_that_others_convicted_or_that_staked_nothing_is_left_alone() {
        for (refusal, why) in [
            (NodeStaking::NodeIsSlashed::SELECTOR, "already"),
            (NodeStaking::NoSuchNode::SELECTOR, "never staked"),
        ] {
            let world = World::new();
            world.court.script.lock().unwrap().refuses = Some(refusal.to_vec());
            let report = world.rounds(3).await;
            assert!(
                matches!(&report, Report::Closed { reason, attempts: 1 } if reason.contains(why)),
                "{report:?}"
            );
            assert_eq!(world.sent(), 0);
        }
    }

    #[tokio::test]
    async fn without_an_account_nothing_is_sent() {
        let world = World::new();
        let reporter = Reporter::new(world.court.clone(), world.store.clone(), Address::repeat_byte(5), None);
        // A round by itself: the task never gets to one.
        reporter.round().await.unwrap();
        let (reported, cancelled) = (reporter.reported(), CancellationToken::new());
        cancelled.cancel();
        reporter.run(cancelled).await.unwrap();
        let told = reported.borrow().clone().unwrap();
        assert!(matches!(told[&world.member], Report::Waiting { attempts: 0, .. }));
        assert_eq!(world.sent(), 0);
    }

    #[test]
    fn reports_survive_and_damaged_ones_never_panic() {
        let transaction = B256::repeat_byte(3);
        let reason = || "so it is".to_owned();
        for report in [
            Report::Sent { transaction, attempts: 2 },
            Report::Convicted { transaction, block: 1 << 40 },
            Report::Closed { reason: reason(), attempts: 5 },
            Report::Waiting { reason: reason(), attempts: 0 },
        ] {
            let mut bytes = Reports::encode(&report);
            assert_eq!(Reports::decode(&bytes), Some(report));
            for place in 0..bytes.len() {
                bytes[place] ^= 0x55;
                let _ = Reports::decode(&bytes);
                bytes[place] ^= 0x55;
            }
        }
    }
}
