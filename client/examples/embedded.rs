//! A device as small as it gets: one thread, TCP and Noise, one service that answers what it is told. Prints what it
//! takes: its own size, and its memory once it is reachable and idle.
//!
//! `embedded SPEC_FILE PUBLISHER KEY_FILE PORT NODE_MULTIADDR…`, the key file holding 64 hexadecimal digits.

use std::error::Error;
use std::fs;
use tokio::io::{AsyncWriteExt, copy, split};
use windlass_client::{Client, Limits, Multiaddr, Policy, SecretKey, Service, verify_spec};

fn main() -> Result<(), Box<dyn Error>> {
    // One thread for everything: no pool whose stacks an idle device would pay for.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [spec, publisher, key, port, nodes @ ..] = &arguments[..] else {
        return Err("expected SPEC_FILE PUBLISHER KEY_FILE PORT NODE_MULTIADDR…".into());
    };
    let spec = verify_spec(&fs::read(spec)?, publisher.parse()?)?;
    let nodes = nodes.iter().map(|node| node.parse()).collect::<Result<Vec<Multiaddr>, _>>()?;
    let client =
        Client::builder(spec, read_key(key)?).nodes(nodes).limits(Limits::embedded()).start().await?;
    let mut publication = client.publish(Service::Stream(port.parse()?), Policy::default()).await?;
    println!("size      {} KiB", fs::metadata(std::env::current_exe()?)?.len() / 1024);
    println!("reachable through {} nodes", publication.relays().len());
    println!("memory    {}", resident());
    while let Some(stream) = publication.accept().await {
        println!("{} came, {}; memory {}", stream.peer(), stream.path(), resident());
        tokio::spawn(async move {
            let (mut read, mut write) = split(stream);
            copy(&mut read, &mut write).await?;
            write.shutdown().await
        });
    }
    client.shutdown().await;
    Ok(())
}

fn read_key(file: &str) -> Result<SecretKey, Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    let text = text.trim();
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err("the key file doesn't hold 64 hexadecimal digits".into());
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16)?;
    }
    Ok(SecretKey::from_bytes(&bytes)?)
}

/// Memory in use, as Linux counts it.
fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown here".to_owned(), |line| line.trim().to_owned())
}
