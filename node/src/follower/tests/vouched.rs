//! One provider against one, and what the committee says to that.

use super::*;
use crate::head::Vouched;
use crate::store::Position;
use tokio::sync::watch;
use windlass_protocol::head::Head;

/// A mirror at block 3, one provider that is asked and one that has another block at every final height.
struct Tie {
    world: World,
    before: Position,
    vouched: watch::Sender<Arc<Vouched>>,
}

impl Tie {
    async fn new() -> Self {
        let mut world = World::new();
        three_final_blocks(&mut world).await;
        let before = world.store().cursor().unwrap().unwrap();
        let vouched = watch::Sender::new(Arc::default());
        let follower = world.follower.take().unwrap().with_vouched(vouched.subscribe());
        world.follower = Some(follower);
        world.chain.contradict(1);
        Self { world, before, vouched }
    }

    /// A final block on the chain of the provider that is asked.
    fn extend(&self, value: u8) -> Position {
        self.world.chain.extend(changes(&[(1, value)]));
        self.world.chain.finalise(1);
        let number = self.world.chain.height();
        Position { number, hash: self.world.chain.hash(number) }
    }

    /// These members vouch for a block.
    fn vouch(&self, position: Position, members: &[u8]) {
        let Position { number, hash } = position;
        let head = Head { number, hash, attested_at: crate::clock::unix_seconds(), nonce: B256::ZERO };
        let attest = |seed: &u8| {
            let key = testing::key(*seed);
            (key.address().0, head.attest(&self.world.spec, &key))
        };
        let lineage = testing::lineage(&self.world.spec).borrow().clone();
        let heads = vec![(position, members.iter().map(attest).collect())];
        self.vouched.send_replace(Arc::new(Vouched::new(lineage, heads)));
    }

    /// Nothing is mirrored in this round; gives the reason.
    async fn refused(&mut self) -> String {
        let error = self.world.step().await.unwrap_err().to_string();
        assert_eq!(self.world.store().cursor().unwrap(), Some(self.before), "{error}");
        error
    }
}

#[tokio::test]
async fn the_committee_decides_between_two_providers_for_the_one_that_is_asked() {
    let mut tie = Tie::new().await;
    let (first, second) = (tie.extend(7), tie.extend(8));
    assert!(tie.refused().await.contains("for 1 provider and another one for"));
    // What stands above the block that they vouch for waits.
    tie.vouch(first, &[1, 2]);
    tie.world.step().await.unwrap();
    assert_eq!(tie.world.store().cursor().unwrap(), Some(first));
    tie.vouch(second, &[2, 3]);
    tie.world.step().await.unwrap();
    assert_eq!(tie.world.store().cursor().unwrap(), Some(second));
    tie.world.check();
    assert_eq!(tie.world.chain.distrusted(), 0);
}

#[tokio::test]
async fn the_committee_decides_against_the_provider_that_is_asked() {
    let mut tie = Tie::new().await;
    let before = tie.world.chain.image();
    let honest_block = tie.extend(7);
    let honest = tie.world.chain.image();
    tie.world.chain.restore(before);
    tie.world.chain.reorg(0);
    let other = tie.extend(9);
    assert_ne!(other, honest_block);
    tie.vouch(honest_block, &[1, 3]);
    let error = tie.refused().await;
    assert!(
        error.contains(&other.hash.to_string()) && error.contains(&honest_block.hash.to_string()),
        "{error}"
    );
    assert_eq!(tie.world.chain.distrusted(), 1);
    // The other provider is asked now.
    tie.world.chain.restore(honest);
    tie.world.step().await.unwrap();
    assert_eq!(tie.world.store().cursor().unwrap(), Some(honest_block));
    tie.world.check();
}

#[tokio::test]
async fn too_few_members_and_strangers_decide_nothing() {
    let mut tie = Tie::new().await;
    let block = tie.extend(7);
    for members in [&[2][..], &[2, 40], &[40, 41, 42], &[2, 2]] {
        tie.vouch(block, members);
        assert!(tie.refused().await.contains("for 1 provider and another one for"), "{members:?}");
    }
    // Two against one are a majority, whatever the committee says.
    tie.vouch(block, &[1, 2]);
    tie.world.chain.contradict(2);
    assert!(tie.refused().await.contains("for 1 provider and another one for 2 providers"));
}

#[tokio::test]
async fn what_the_committee_vouches_for_is_still_proven() {
    let mut tie = Tie::new().await;
    let block = tie.extend(7);
    tie.vouch(block, &[1, 2]);
    tie.world.chain.forge_accounts(1);
    tie.refused().await;
    tie.world.chain.forge_logs(1);
    assert!(tie.refused().await.contains("root"));
    tie.world.settle().await;
    assert_eq!(tie.world.store().cursor().unwrap(), Some(block));
    tie.world.check();
}
