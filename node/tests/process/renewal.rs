//! A chain spec that is renewed under a node that is killed at any moment: its directory is taken over as it is, once.

use crate::testing;
use crate::world::{Dice, World};
use std::fs;
use std::time::Duration;
use windlass_protocol::spec::VerifiedSpec;

impl World {
    /// From now on the next version of the spec lies in the folder.
    fn renew(&mut self) {
        let (version, date) = (self.spec.version + 1, self.spec.date + 1);
        let (renewed, _): (VerifiedSpec, _) =
            testing::spec_with(1, |spec| (spec.version, spec.date) = (version, date));
        fs::write(self.folder().join("chain.spec"), renewed.to_bytes()).unwrap();
        self.spec = renewed;
    }
}

/// What a node that can't start says.
async fn refusal(world: &World) -> String {
    let (status, stderr) = world.start(None).ended().await;
    assert_eq!(status.code(), Some(2), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    errors[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_spec_takes_over_the_directory_of_a_node_that_is_killed_again_and_again() {
    let mut world = World::new().await;
    world.put_under_load(23);
    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    let before = world.prove(&ready).await;
    let snapshot = world.folder().join("mirror.snapshot");
    assert_eq!(world.snapshot("export", "node.toml", &snapshot).await.0, Some(0));
    node.kill().await;
    let first = fs::read(world.folder().join("chain.spec")).unwrap();

    let mut dice = Dice::new(5);
    for _ in 0..4 {
        world.renew();
        let node = world.start(None);
        tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
        node.kill().await;
        // It is the older one's or this one's; whichever it is, this one opens it, and nothing is lost.
        let kept = world.check_mirror(&world.data_dir()).expect("a mirror");
        assert!(kept >= before, "{kept} is below {before}: synchronised anew");
    }
    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    assert!(world.prove(&ready).await >= before);
    node.kill().await;
    assert!(world.check_signatures() > 0);

    // A mirror exported under the first version is taken under the fifth.
    let (code, _, stderr) = world.snapshot("import", "other.toml", &snapshot).await;
    assert_eq!(code, Some(0), "{stderr}");

    // The version that was replaced, and another network, are refused by name.
    world.rest();
    fs::write(world.folder().join("chain.spec"), first).unwrap();
    let said = refusal(&world).await;
    assert!(said.contains("version 5") && said.contains("version 1"), "{said}");
    let (other, _) = testing::spec_with(1, |spec| (spec.version, spec.deploy_block) = (9, 2));
    fs::write(world.folder().join("chain.spec"), other.to_bytes()).unwrap();
    let said = refusal(&world).await;
    assert!(said.contains("another network") && said.contains("deploy block"), "{said}");
}
