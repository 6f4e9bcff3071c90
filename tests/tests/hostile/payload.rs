//! What a stream carries is nothing but payload, whatever it looks like.

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use windlass_protocol::message::names;
use windlass_tests::story::{SERVICE, SOON, Story};

/// Bytes that mean something one layer below or above: negotiation, frames and their ends, relay and muxer messages.
fn lookalikes() -> Vec<Vec<u8>> {
    let name = |name: &str| [&[name.len() as u8 + 1][..], name.as_bytes(), b"\n"].concat();
    let mut all = vec![
        name("/multistream/1.0.0"),
        name("/libp2p/circuit/relay/0.2.0/hop"),
        name("/noise"),
        name("/yamux/1.0.0"),
        name("na"),
        // A relay's reservation, a circuit's status, an empty message.
        vec![2, 8, 0],
        vec![5, 8, 2, 40, 100],
        vec![0],
        // yamux: go away, a reset of stream 1, a window of everything.
        vec![0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0],
        vec![0, 1, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        // Chunks and their end mark, frames that claim more than there is, RLP of all kinds.
        vec![0, 0],
        vec![0, 0, 0, 0],
        vec![0xff; 64],
        vec![0x80, 0x80, 0x04],
        vec![0xc0],
        vec![0xf8, 0xff],
    ];
    let ours = [names::RESOLVE, names::WATCH, names::ROUTE, names::HEAD, names::STREAM];
    all.extend(ours.map(name));
    all
}

#[tokio::test]
async fn payload_that_looks_like_control_messages_is_carried_as_payload() -> anyhow::Result<()> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let (a, b) = (story.enrol("a").await?, story.enrol("b").await?);
    story.register_name(&a).await?;
    story.grant(&a, &b).await?;
    let echo = TcpListener::bind(("127.0.0.1", 0)).await?;
    let to = echo.local_addr()?.to_string();
    let echoing = tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let mut published = a.windlass.start(&["publish", "--service", SERVICE, "--to", &to])?;
    published.event(SOON, |event| event["relays"].as_array().is_some_and(|relays| relays.len() >= 2)).await?;
    let forward = story.forward(&b).await?;

    // Each in a write of its own on one stream, then each on a stream of its own, then all at once.
    let all = lookalikes();
    let mut stream = TcpStream::connect(forward.address).await?;
    stream.set_nodelay(true)?;
    for message in &all {
        stream.write_all(message).await?;
        let mut came = vec![0; message.len()];
        let read = tokio::time::timeout(SOON, stream.read_exact(&mut came)).await;
        read.with_context(|| format!("{message:?} did not come back"))??;
        ensure!(&came == message, "{message:?} came back as {came:?}");
    }
    for message in all.iter().chain([&all.concat()]) {
        let mut stream = TcpStream::connect(forward.address).await?;
        stream.write_all(message).await?;
        stream.shutdown().await?;
        let mut came = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut came)).await.context("no end came")??;
        ensure!(&came == message, "{message:?} came back as {came:?}");
    }
    echoing.abort();
    published.kill().await?;
    story.shutdown().await;
    Ok(())
}
