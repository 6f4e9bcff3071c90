//! kill -9 at any moment, while the chain goes on.

use crate::world::{Dice, World, amount};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// From one start to the proof of everything, at worst.
const SERVES_WITHIN: Duration = Duration::from_secs(60);

/// After each kill the mirror on disk is the chain's at its cursor, to the root; after each restart the node
/// proves every slot as the chain has it; over all of them it tells one hash per number, though the chain takes
/// final blocks back while it is down and waits there, and it never tells what it hadn't recorded.
/// `WINDLASS_KILLS` for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_a_node_is_whole_serves_again_and_never_signs_twice() {
    let kills = amount("WINDLASS_KILLS", 20);
    let mut world = World::new().await;
    let mut dice = Dice::new(kills);
    world.put_under_load(kills);
    let (mut starting, mut serving, mut broken) = (0, 0, 0);
    for round in 0..kills {
        let mut node = world.start(None);
        if round % 3 == 2 {
            starting += 1;
            sleep(Duration::from_millis(dice.below(250))).await;
        } else {
            serving += 1;
            let ready = world.meet(&mut node).await;
            if world.is_resting() {
                broken += 1;
                // The chain ends below what was signed: a node without a memory would sign it.
                world.reported(&ready).await;
                world.put_under_load(round);
            }
            let proven = timeout(SERVES_WITHIN, world.prove(&ready)).await;
            if proven.is_err() {
                panic!("round {round}: nothing proven in time; it said: {}", node.kill().await);
            }
            sleep(Duration::from_millis(dice.below(100))).await;
        }
        node.kill().await;
        if world.data_dir().join("CURRENT").exists() {
            world.check_mirror(&world.data_dir());
        }
        if round % 6 == 5 {
            world.rest();
            world.break_finality(2 + dice.below(6));
        }
    }
    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    if world.is_resting() {
        world.put_under_load(kills + 1);
    }
    timeout(SERVES_WITHIN, world.prove(&ready)).await.expect("proofs after the last kill");
    node.kill().await;
    let numbers = world.check_signatures();
    println!("{serving} kills while serving, {starting} while starting, finality broken {broken} times,");
    println!("{numbers} numbers signed, chain at {}", world.chain.height());
    assert!(numbers as u64 >= serving && broken >= kills / 7, "too little happened to tell");
}
