//! UDP and Unix sockets published and forwarded by the command line, through a relay.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::time::timeout;
use windlass_testnet::network::{Device, Testnet};
use windlass_tests::story::SOON;
use windlass_tests::windlass::{Running, Windlass, program};

/// A network with two devices of one fleet.
async fn network() -> anyhow::Result<Testnet> {
    Ok(Testnet::builder(program("windlass-testnet")?).nodes(2).devices(2).start().await?)
}

fn windlass(device: &Device) -> anyhow::Result<Windlass> {
    Windlass::new(&device.files.profile)
}

/// Publishes to its fleet, and waits until it is reachable.
async fn publish(device: &Device, service: &str, to: &str) -> anyhow::Result<Running> {
    let arguments = ["publish", "--service", service, "--to", to, "--mode", "protected"];
    let mut running = windlass(device)?.start(&arguments)?;
    let event = running.event(SOON, |event| event["event"] == "published").await?;
    ensure!(event["to"] == to, "{event}");
    Ok(running)
}

/// Forwards, and says where it listens.
async fn forward(device: &Device, listen: &str, remote: &str) -> anyhow::Result<(Running, String)> {
    let mut running = windlass(device)?.start(&["forward", "--listen", listen, remote])?;
    let event = running.event(SOON, |event| event["event"] == "listening").await?;
    let address = event["address"].as_str().context("no address")?.to_owned();
    Ok((running, address))
}

/// Each datagram comes back with `answer: ` before it.
async fn answering() -> anyhow::Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?.to_string();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let answer = [b"answer: ", &buffer[..length]].concat();
            // Who has left doesn't want it any more.
            let _ = socket.send_to(&answer, from).await;
        }
    });
    Ok(address)
}

/// Asks until the answer comes: on a busy machine what is sent may be lost, and answers to earlier attempts come late.
async fn ask(socket: &UdpSocket, to: &str, question: &[u8]) -> anyhow::Result<()> {
    let expected = [b"answer: ", question].concat();
    let mut buffer = vec![0; 65_536];
    for _ in 0..40 {
        socket.send_to(question, to).await?;
        let answered = async {
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await?;
                ensure!(from.to_string() == to, "{from} answered");
                if buffer[..length] == expected {
                    return Ok(());
                }
            }
        };
        if let Ok(answered) = timeout(Duration::from_millis(500), answered).await {
            return answered;
        }
    }
    anyhow::bail!("no answer to {} bytes", question.len())
}

#[tokio::test]
async fn udp_goes_to_and_fro_each_sender_with_a_stream_of_its_own() -> anyhow::Result<()> {
    let testnet = network().await?;
    let [a, b] = testnet.devices() else { anyhow::bail!("two devices") };
    let server = answering().await?;
    let published = publish(a, "udp/53", &server).await?;
    let (mut running, address) = forward(b, "127.0.0.1:0", "device-1:udp/53").await?;

    let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    ask(&one, &address, b"one").await?;
    running.event(SOON, |event| event["event"] == "opened" && event["stream"] == 1).await?;
    ask(&other, &address, b"other").await?;
    running.event(SOON, |event| event["event"] == "opened" && event["stream"] == 2).await?;
    // As long as any that a program sends over loopback; borders are kept.
    ask(&one, &address, &[7; 60_000]).await?;
    ask(&other, &address, b"!").await?;

    // What can't be is said in one line.
    let taken = windlass(b)?.run(&["forward", "--listen", &address, "device-1:udp/53"]).await?;
    ensure!(taken.code == 2 && taken.stderr.contains("choose another port"), "{taken:?}");
    let unix = windlass(b)?.run(&["forward", "--listen", "unix:udp.sock", "device-1:udp/53"]).await?;
    ensure!(unix.code == 2 && unix.stderr.contains("carry streams"), "{unix:?}");
    let unix = windlass(a)?.run(&["publish", "--service", "udp/53", "--to", "unix:udp.sock"]).await?;
    ensure!(unix.code == 2 && unix.stderr.contains("carry streams"), "{unix:?}");
    running.kill().await?;
    published.kill().await?;
    testnet.shutdown().await;
    Ok(())
}

/// Reads all of what is asked, then answers, then ends.
async fn served(listener: UnixListener) -> anyhow::Result<()> {
    loop {
        let (mut socket, _) = listener.accept().await?;
        let mut asked = Vec::new();
        socket.read_to_end(&mut asked).await?;
        socket.write_all(&[b"answer: ", &asked[..]].concat()).await?;
    }
}

async fn ask_unix(path: &Path, question: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut socket = UnixStream::connect(path).await?;
    socket.write_all(question).await?;
    // Only this tells the server that the question is whole.
    socket.shutdown().await?;
    let mut answer = Vec::new();
    timeout(SOON, socket.read_to_end(&mut answer)).await??;
    Ok(answer)
}

#[tokio::test]
async fn a_unix_socket_is_reached_through_another_and_each_half_closes_alone() -> anyhow::Result<()> {
    let testnet = network().await?;
    let [a, b] = testnet.devices() else { anyhow::bail!("two devices") };
    let server = testnet.directory().join("server.sock");
    let server_text = format!("unix:{}", server.display());
    let mut published = publish(a, "tcp/7000", &server_text).await?;
    let near = testnet.directory().join("near.sock");
    let near_text = format!("unix:{}", near.display());
    let (mut running, address) = forward(b, &near_text, "device-1:tcp/7000").await?;
    ensure!(address == near_text, "{address}");

    // Nobody serves it yet: said where it is published, and the caller's connection ends without an answer.
    ensure!(ask_unix(&near, b"early").await.map_or(true, |answer| answer.is_empty()));
    let failed = |event: &Value| event["event"] == "local_failed";
    let event = published.event(SOON, failed).await?;
    ensure!(event["reason"].as_str().is_some_and(|reason| reason.contains("no such socket")), "{event}");

    let serving = tokio::spawn(served(UnixListener::bind(&server)?));
    ensure!(ask_unix(&near, b"question").await? == b"answer: question");
    let long = vec![5; 300_000];
    ensure!(ask_unix(&near, &long).await? == [b"answer: ", &long[..]].concat());
    let closed =
        |event: &Value| event["event"] == "ended" && event["end"] == "closed" && event["sent"] == 300_000;
    running.event(SOON, closed).await?;

    // In use, in the way, or nowhere: one line.
    let notes = testnet.directory().join("notes");
    std::fs::write(&notes, "dear diary")?;
    for (path, word) in [
        (near.clone(), "another program listens"),
        (notes, "something else than a socket"),
        (testnet.directory().join("none/near.sock"), "folder"),
    ] {
        let listen = format!("unix:{}", path.display());
        let refused = windlass(b)?.run(&["forward", "--listen", &listen, "device-1:tcp/7000"]).await?;
        ensure!(refused.code == 2 && refused.stderr.contains(word), "{refused:?}");
        ensure!(refused.stderr.lines().count() == 1, "{}", refused.stderr);
    }
    // What a killed forward left makes way for the next one.
    running.kill().await?;
    ensure!(near.exists());
    let (running, _) = forward(b, &near_text, "device-1:tcp/7000").await?;
    ensure!(ask_unix(&near, b"again").await? == b"answer: again");
    serving.abort();
    running.kill().await?;
    published.kill().await?;
    testnet.shutdown().await;
    Ok(())
}
