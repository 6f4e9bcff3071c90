//! What is measured, the same for every system: the bytes on the stream, and the clock around them.
//!
//! A stream opens with one byte. `E` asks for the next byte back. `S` is followed by any number of
//! batches, an eight-byte big-endian length and that many bytes, each answered with one byte once all of
//! it has been read.

use crate::system::{DIALLERS, Dialler, Stream, System};
use anyhow::{Context, Result, bail};
use clap::Args;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const ECHO: u8 = b'E';
const SINK: u8 = b'S';
/// Bytes per write and read; more gained nothing for any system.
const CHUNK: usize = 256 * 1024;
/// Bytes sent before the clock starts, for windows to open.
const WARM_UP: u64 = 64 << 20;
/// Connections made before the clock starts, for what a process does once.
const WARM_UP_CONNECTIONS: u32 = 3;

/// How much of everything one round takes.
#[derive(Args, Clone, Copy)]
pub struct Effort {
    /// Mebibytes sent on the one stream.
    #[arg(long)]
    pub mebibytes: u64,
    /// Connections made, one after the other.
    #[arg(long)]
    pub connections: u32,
    /// Endpoints that connect a second time, once their first connection is closed.
    #[arg(long)]
    pub again: usize,
}

impl Effort {
    pub const QUICK: Self = Self { mebibytes: 256, connections: 20, again: 0 };
    pub const FULL: Self = Self { mebibytes: 1024, connections: 50, again: 0 };
    /// What has connected before does so again, and nothing else is measured.
    pub const WARM: Self = Self { mebibytes: 0, connections: 0, again: DIALLERS };

    /// As the command line of the dialling process.
    pub fn to_arguments(self) -> [String; 3] {
        [
            format!("--mebibytes={}", self.mebibytes),
            format!("--connections={}", self.connections),
            format!("--again={}", self.again),
        ]
    }
}

/// What one round of one system gave.
#[derive(Serialize, Deserialize)]
pub struct Sample {
    /// Decimal megabytes per second of one stream, from its first byte to the receiver's answer.
    pub megabytes_per_second: f64,
    /// Milliseconds from dialling to the echoed byte, one per connection.
    pub connect_milliseconds: Vec<f64>,
}

/// Serves one stream until the other end closes it.
pub async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    match stream.read_u8().await? {
        ECHO => {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
            stream.flush().await?;
            // The other end closes first, so that the byte is never cut off by our closing.
            let _ = stream.read_u8().await;
            Ok(())
        }
        SINK => sink(stream).await,
        other => bail!("a stream opened with unknown byte {other}"),
    }
}

async fn sink(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    while let Ok(mut left) = stream.read_u64().await {
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left)?);
            match stream.read(&mut buffer[..want]).await? {
                0 => bail!("the stream ended inside a batch"),
                count => left -= count as u64,
            }
        }
        stream.write_u8(0).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Measures one system from the dialling end.
pub async fn measure(
    system: &dyn System,
    contact: &str,
    network: Option<&str>,
    effort: Effort,
) -> Result<Sample> {
    if effort.again > 0 {
        let connect_milliseconds = again(system, contact, network, effort.again).await.context("warm")?;
        return Ok(Sample { megabytes_per_second: 0.0, connect_milliseconds });
    }
    let mut connect_milliseconds = Vec::new();
    for number in 0..WARM_UP_CONNECTIONS + effort.connections {
        let milliseconds = connect_and_echo(system, contact, network).await.context("connecting")?;
        if number >= WARM_UP_CONNECTIONS {
            connect_milliseconds.push(milliseconds);
        }
    }
    let megabytes_per_second =
        throughput(system, contact, network, effort.mebibytes << 20).await.context("sending")?;
    Ok(Sample { megabytes_per_second, connect_milliseconds })
}

async fn connect_and_echo(system: &dyn System, contact: &str, network: Option<&str>) -> Result<f64> {
    let mut dialler = system.dialler(network, 0).await?;
    let taken = open_and_echo(&mut *dialler, contact).await?;
    dialler.close().await;
    Ok(taken)
}

/// Milliseconds from wanting a stream to the echoed byte on it.
async fn open_and_echo(dialler: &mut dyn Dialler, contact: &str) -> Result<f64> {
    let started = Instant::now();
    let mut stream = dialler.open(contact).await?;
    stream.write_all(&[ECHO, 7]).await?;
    stream.flush().await?;
    let echoed = stream.read_u8().await?;
    let taken = started.elapsed();
    if echoed != 7 {
        bail!("the wrong byte came back");
    }
    drop(stream);
    Ok(taken.as_secs_f64() * 1e3)
}

/// Has so many endpoints connect, close, and connect again one after the other: the second time counts.
async fn again(system: &dyn System, contact: &str, network: Option<&str>, count: usize) -> Result<Vec<f64>> {
    let mut diallers = Vec::new();
    for number in 0..count.min(DIALLERS) {
        let mut dialler = system.dialler(network, number).await?;
        open_and_echo(&mut *dialler, contact).await?;
        diallers.push(dialler);
    }
    try_join_all(diallers.iter_mut().map(|dialler| dialler.disconnect())).await?;
    let mut milliseconds = Vec::new();
    for dialler in &mut diallers {
        milliseconds.push(open_and_echo(&mut **dialler, contact).await?);
    }
    for dialler in diallers {
        dialler.close().await;
    }
    Ok(milliseconds)
}

async fn throughput(system: &dyn System, contact: &str, network: Option<&str>, bytes: u64) -> Result<f64> {
    let mut dialler = system.dialler(network, 0).await?;
    let mut stream = dialler.open(contact).await?;
    stream.write_u8(SINK).await?;
    send_batch(&mut stream, WARM_UP).await?;
    let started = Instant::now();
    send_batch(&mut stream, bytes).await?;
    let taken = started.elapsed();
    drop(stream);
    dialler.close().await;
    Ok(bytes as f64 / 1e6 / taken.as_secs_f64())
}

async fn send_batch(stream: &mut Stream, bytes: u64) -> Result<()> {
    let chunk = vec![0x5a; CHUNK];
    stream.write_u64(bytes).await?;
    let mut left = bytes;
    while left > 0 {
        let count = chunk.len().min(usize::try_from(left)?);
        stream.write_all(&chunk[..count]).await?;
        left -= count as u64;
    }
    stream.flush().await?;
    stream.read_u8().await?;
    Ok(())
}
