//! Many opens at once: they wait for each other instead of being taken for a flood.

use crate::{
    streams::{Scene, lamp},
    world::SERVICE,
};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_client::{Client, Policy, Publication};

/// More than a device judges at a time; `make bench-load` has a thousand.
const OPENS: usize = 320;
const BYTES: usize = 1_024;

async fn echo(mut publication: Publication) {
    while let Some(mut stream) = publication.accept().await {
        tokio::spawn(async move {
            let mut came = vec![0; BYTES];
            if stream.read_exact(&mut came).await.is_ok() {
                let _ = stream.write_all(&came).await;
                let _ = stream.shutdown().await;
            }
        });
    }
}

async fn one(caller: &Client) -> Result<(), String> {
    let mut stream = caller.open(&lamp(), SERVICE).await.map_err(|error| error.to_string())?;
    let (sent, mut came) = (vec![7; BYTES], vec![0; BYTES]);
    stream.write_all(&sent).await.map_err(|error| error.to_string())?;
    stream.read_exact(&mut came).await.map_err(|error| error.to_string())?;
    if sent == came { Ok(()) } else { Err("another echo".to_owned()) }
}

/// A fixed bug: the device took what it had not read yet for silence and reset it, and each of those asked a node anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_opens_at_once_all_echo_and_ask_once() {
    let Scene { world, nodes, publisher, publication } = Scene::new(Policy::default()).await;
    let caller = crate::streams::start(&world, &nodes, 21).await;
    let echoing = tokio::spawn(echo(publication));
    // Nothing is known yet, and nobody is connected: one asks for all.
    for _ in 0..2 {
        let outcomes = join_all((0..OPENS).map(|_| one(&caller))).await;
        let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{} of {OPENS} failed, the first: {}", failed.len(), failed[0]);
    }
    let asked: u64 = nodes.iter().map(|node| node.asked()).sum();
    assert!(asked <= 8, "nodes were asked {asked} times");
    echoing.abort();
    caller.shutdown().await;
    publisher.shutdown().await;
}
