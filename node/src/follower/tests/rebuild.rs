//! A mirror built beside the one that is read.

use super::*;
use crate::store::request_rebuild;

impl World {
    /// Steps until the rebuild that was asked for, or begun, has been changed over to; the mirror is readable and whole at
    /// every moment until then. Gives the rounds that took.
    pub(super) async fn rebuild(&mut self) -> usize {
        let (generation, state) = (self.store().generation(), self.follower.as_ref().unwrap().state());
        for rounds in 0..2_000 {
            if self.store().generation() != generation {
                return rounds;
            }
            let proven = state.borrow().attestable.expect("proven as before").position.number;
            let view = View::new(self.store(), proven, generation);
            assert_eq!(view.root().unwrap(), root(&self.chain.slots(proven)));
            view.check().unwrap();
            // Damage is what some of these are about.
            let _ = self.step().await;
            // The one that is built gets its turns.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("not built: {:?}", self.step().await);
    }

    pub(super) fn request_rebuild(&self) {
        request_rebuild(self.directory.path()).unwrap();
    }

    async fn of_blocks(blocks: u8) -> Self {
        let mut world = Self::new();
        for number in 0..blocks {
            world.chain.extend(changes(&[(number % 8, number % 5), (7, number)]));
        }
        world.chain.finalise(u64::from(blocks) - 3);
        world.settle().await;
        world
    }
}

#[tokio::test]
async fn a_rebuild_that_is_asked_for_leaves_the_old_mirror_readable_until_the_new_one_is_proven() {
    let mut world = World::of_blocks(30).await;
    world.request_rebuild();
    assert!(world.rebuild().await > 0, "it isn't there at once");
    assert!(!world.store().is_rebuild_requested(), "asked for once, built once");
    world.settle().await;
    world.check();
    let generation = world.store().generation();
    for _ in 0..5 {
        world.step().await.unwrap();
    }
    assert_eq!(world.store().generation(), generation);
    // And it goes on as any other, over a restart, too.
    world.restart();
    world.chain.extend(changes(&[(1, 9)]));
    world.chain.finalise(2);
    world.settle().await;
    world.check();
}

#[tokio::test]
async fn a_damaged_trie_is_built_anew_while_what_it_proves_is_served() {
    let mut world = World::of_blocks(30).await;
    let proven = world.store().cursor().unwrap().unwrap();
    // A trie node below the root is lost: the next block that changes it can't be applied.
    world.store().lose_a_trie_node();
    for value in 1..=8 {
        world.chain.extend((0..8).map(|slot| (word(slot), word(slot + value))).collect());
    }
    world.chain.finalise(8);
    let error = world.step().await.unwrap_err();
    assert!(matches!(&error, FollowError::Damaged(why) if why.contains("no node at path")), "{error}");
    let state = world.follower.as_ref().unwrap().state();
    assert_eq!(state.borrow().attestable.unwrap().position, proven, "served meanwhile");
    assert!(state.borrow().beside.is_some());
    world.rebuild().await;
    world.settle().await;
    world.check();
    assert_eq!(state.borrow().beside, None);
}

/// kill -9 after any number of rounds: the next start finds one whole mirror, and goes on with what was asked for.
#[tokio::test]
async fn killed_while_a_mirror_is_built_beside_a_node_finds_one_whole_mirror() {
    let mut world = World::of_blocks(30).await;
    let (mut before, mut after) = (0, 0);
    for rounds in [0, 1, 2, 3, 5, 8, 300] {
        world.request_rebuild();
        let generation = world.store().generation();
        for _ in 0..rounds {
            world.step().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            if world.store().generation() != generation {
                break;
            }
        }
        if world.store().generation() == generation {
            before += 1
        } else {
            after += 1
        }
        world.crash(0);
        world.settle().await;
        world.check();
        if world.store().is_rebuild_requested() {
            world.rebuild().await;
            world.settle().await;
            world.check();
        }
    }
    assert!(before > 0 && after > 0, "{before} kills before the change, {after} after it");
}
