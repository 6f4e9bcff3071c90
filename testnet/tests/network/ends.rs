//! How a network ends: nothing of it is left, and it says why.

use crate::{PATIENCE, Up, errors, kill, runs, up};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

#[tokio::test]
async fn within_two_seconds_of_kill_9_no_part_lives_and_the_ports_are_free() {
    let network = Up::start(&["--nodes", "2", "--devices", "1"]).await;
    let (parts, ports) = (network.parts(), network.ports());
    assert_eq!((parts.len(), ports.len()), (3, 5));
    assert!(parts.iter().all(|part| runs(*part)));
    assert!(ports.iter().all(|port| TcpListener::bind(port).is_err()));
    let since = Instant::now();
    network.kill().await;
    while parts.iter().any(|part| runs(*part)) {
        assert!(since.elapsed() < PATIENCE, "a part outlives the network");
        tokio::task::yield_now().await;
    }
    for port in ports {
        TcpListener::bind(&port).unwrap_or_else(|error| panic!("{port}: {error}"));
    }
    // On a machine that does nothing else it is a tenth of that.
    assert!(since.elapsed() < Duration::from_secs(2), "took {:?}", since.elapsed());
}

#[tokio::test]
async fn a_part_that_dies_ends_the_network_with_its_reason() {
    let network = Up::start(&["--nodes", "2", "--devices", "0"]).await;
    let parts = network.parts();
    kill(parts[2]);
    let (code, said) = timeout(PATIENCE, network.ended()).await.unwrap();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("node-2 ended") && said.contains("signal: 9"), "{said}");
    assert!(!parts.iter().any(|part| runs(*part)), "{said}");
}

#[tokio::test]
async fn with_keep_going_the_others_go_on_until_none_is_left() {
    let mut network = Up::start(&["--nodes", "2", "--devices", "0", "--keep-going"]).await;
    let mut said = BufReader::new(network.child.stderr.take().unwrap()).lines();
    let parts = network.parts();
    for (part, name) in [(parts[2], "node-2"), (parts[0], "chain")] {
        kill(part);
        let told = async {
            while let Some(line) = said.next_line().await.unwrap() {
                if line.starts_with(&format!("windlass-testnet: {name} ended")) {
                    return;
                }
            }
            panic!("the end of {name} was not said");
        };
        timeout(PATIENCE, told).await.unwrap();
        assert!(runs(parts[1]), "node-1 goes on");
    }
    kill(parts[1]);
    assert_eq!(timeout(PATIENCE, network.child.wait()).await.unwrap().unwrap().code(), Some(2));
}

#[tokio::test]
async fn what_cannot_start_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, words) in [
        (["--nodes", "0"], "nodes"),
        (["--nodes", "17"], "nodes"),
        (["--devices", "101"], "devices"),
        (["--state", "/dev/null"], "cannot use /dev/null"),
    ] {
        let mut child = up(&arguments).spawn().unwrap();
        let said = errors(&mut child).await;
        assert_eq!(child.wait().await.unwrap().code(), Some(2), "{said}");
        assert!(said.contains(words) && said.trim_end().lines().count() == 1, "{arguments:?}: {said}");
    }
    let mut command = tokio::process::Command::new(crate::PROGRAM);
    command.args(["up", "--port", &port]).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let said = errors(&mut child).await;
    assert_eq!(child.wait().await.unwrap().code(), Some(2));
    assert!(said.contains("chain ended") && said.contains("cannot listen on"), "{said}");
}
