//! What the disk may do to a node: fill up, lose the end of a file, hold what another release wrote.

use crate::store::{Durability, Schema, Store};
use crate::world::{Dice, NodeProcess, World};
use std::fs;
use std::path::{Path, PathBuf};

/// One line that names the directory, and exit code 2.
async fn refused(node: NodeProcess, expected: &str) -> String {
    let (status, stderr) = node.ended().await;
    assert_eq!(status.code(), Some(2), "{stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(lines[0].contains("data_dir") && lines[0].contains(expected), "{}", lines[0]);
    lines[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_fills_a_node_says_so_and_goes_on_once_there_is_room() {
    let mut world = World::new().await;
    world.put_under_load(11);
    let mut node = world.start(Some(600));
    let ready = world.meet(&mut node).await;
    let before = world.prove(&ready).await;
    let line = refused(node, "free space").await;
    assert!(line.contains("nothing is lost"), "{line}");
    let cursor = world.check_mirror(&world.data_dir()).unwrap();
    assert!(cursor >= before);

    // Still full: it doesn't start, and harms nothing.
    refused(world.start(Some(1)), "").await;
    assert_eq!(world.check_mirror(&world.data_dir()), Some(cursor));

    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    assert!(world.prove(&ready).await >= cursor);
    node.kill().await;
    world.check_signatures();
}

/// The write-ahead log, cut anywhere: the mirror is an earlier one and whole, and the node goes on from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_cut_anywhere_leaves_an_earlier_state_that_is_whole() {
    let mut world = World::new().await;
    world.put_under_load(13);
    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    world.prove(&ready).await;
    node.kill().await;
    // What was told before the cut is no longer on disk: this is about the mirror.
    world.said.lock().unwrap().clear();
    // Opening a directory empties its log into other files, so every look is at a copy.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&world.data_dir(), copy.path());
    let whole = world.check_mirror(copy.path()).unwrap();
    let mut dice = Dice::new(5);
    let mut earlier = 0;
    for _ in 0..12 {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&world.data_dir(), copy.path());
        let log = newest_log(copy.path());
        let bytes = fs::metadata(&log).unwrap().len();
        fs::File::options().write(true).open(&log).unwrap().set_len(dice.below(bytes)).unwrap();
        let cursor = world.check_mirror(copy.path());
        assert!(cursor <= Some(whole));
        earlier += usize::from(cursor < Some(whole));
    }
    assert!(earlier >= 6, "the cuts changed too little to show anything");

    let log = newest_log(&world.data_dir());
    let bytes = fs::metadata(&log).unwrap().len();
    fs::File::options().write(true).open(&log).unwrap().set_len(bytes / 2).unwrap();
    let mut node = world.start(None);
    let ready = world.meet(&mut node).await;
    world.prove(&ready).await;
    node.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_a_newer_schema_is_refused_and_left_as_it_is() {
    let world = World::new().await;
    world.chain.extend(Vec::new());
    world.chain.finalise(1);
    let store = Store::open(&world.data_dir(), &world.spec).unwrap();
    let mut batch = store.batch();
    batch.put::<Schema>(&(), &99);
    batch.commit(Durability::Disk).unwrap();
    drop(store);
    refused(world.start(None), "schema 99").await;
    refused(world.start(None), "schema 99").await;
}

fn newest_log(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
