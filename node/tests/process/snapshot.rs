//! A mirror handed over as a file: proven, or refused.

use crate::store::Store;
use crate::world::World;
use std::fs;
use std::path::Path;

async fn refused(world: &World, snapshot: &Path, expected: &str) {
    let (code, _, stderr) = world.snapshot("import", "other.toml", snapshot).await;
    assert_eq!(code, Some(2), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(expected), "{expected}: {stderr}");
    let store = Store::open(&world.folder().join("other"), &world.spec).unwrap();
    assert_eq!(store.cursor().unwrap(), None, "nothing of a refused snapshot is kept");
}

/// Exported beside a running node, imported into an empty directory, served from there; each bit that is changed
/// anywhere in it is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_served_from_and_one_changed_slot_is_refused() {
    let mut world = World::new().await;
    world.put_under_load(17);
    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    let before = world.prove(&ready).await;
    let path = world.folder().join("mirror.snapshot");
    let (code, stdout, stderr) = world.snapshot("export", "node.toml", &path).await;
    assert_eq!(code, Some(0), "{stderr}");
    let said: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(said["number"].as_u64().unwrap() >= before, "{said}");
    let (code, _, stderr) = world.snapshot("export", "node.toml", &path).await;
    assert!(code == Some(2) && stderr.contains("exists"), "{stderr}");
    node.kill().await;

    let whole = fs::read(&path).unwrap();
    let rows = said["slots"].as_u64().unwrap() as usize;
    assert!(rows > 4, "{said}");
    let head = u32::from_be_bytes(whole[20..24].try_into().unwrap()) as usize;
    let first_row = 24 + head + 8;
    assert_eq!(whole.len(), first_row + rows * 64);
    let (last_value, middle_slot) = (whole.len() - 1, first_row + rows / 2 * 64 + 31);
    let forged = world.folder().join("forged.snapshot");
    let cases = [
        (last_value, "forged or damaged"),
        (middle_slot, ""),
        (first_row + 63, "forged or damaged"),
        // The first word of the head.
        (24 + 9, "network"),
        // The middle of header and account proof.
        (24 + 300, ""),
        (24 + head - 10, ""),
        (0, "no snapshot"),
        (first_row - 1, "another length"),
    ];
    for (place, expected) in cases {
        let mut bytes = whole.clone();
        // No small value becomes zero by this bit.
        bytes[place] ^= 0x80;
        fs::write(&forged, bytes).unwrap();
        refused(&world, &forged, expected).await;
    }
    let without_a_row =
        [&whole[..first_row - 8], &(rows as u64 - 1).to_be_bytes()[..], &whole[first_row + 64..]];
    fs::write(&forged, without_a_row.concat()).unwrap();
    refused(&world, &forged, "forged or damaged").await;
    fs::write(&forged, &whole[..whole.len() - 1]).unwrap();
    refused(&world, &forged, "another length").await;

    let (code, imported, stderr) = world.snapshot("import", "other.toml", &path).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(imported, stdout);
    // What was told was recorded in the first directory.
    world.said.lock().unwrap().clear();
    assert_eq!(world.check_mirror(&world.folder().join("other")), said["number"].as_u64());
    let (code, _, stderr) = world.snapshot("import", "other.toml", &path).await;
    assert!(code == Some(2) && stderr.contains("empty one"), "{stderr}");

    let mut second = world.start_with("other.toml", None);
    let ready = world.meet(&mut second).await;
    assert!(world.prove(&ready).await >= before);
    second.kill().await;
}

/// Genuine rows of a block that the chain has taken back, or hasn't as final, are nobody's state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_another_history_is_refused() {
    let world = World::new().await;
    world.extend_finally(3);
    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    world.prove(&ready).await;
    node.kill().await;
    let path = world.folder().join("mirror.snapshot");
    assert_eq!(world.snapshot("export", "node.toml", &path).await.0, Some(0));
    world.break_finality(2);
    refused(&world, &path, "not final").await;
    world.extend_finally(5);
    refused(&world, &path, "the chain's is").await;
}
