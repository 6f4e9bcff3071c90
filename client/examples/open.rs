//! Opens a public service by name and prints what it sends:
//! `open SPEC_FILE PUBLISHER NODE_MULTIADDR NAME PORT`.

use std::error::Error;
use tokio::io::AsyncReadExt;
use windlass_client::{Client, SecretKey, Service, verify_spec};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [spec, publisher, node, name, port] = &arguments[..] else {
        return Err("expected SPEC_FILE PUBLISHER NODE_MULTIADDR NAME PORT".into());
    };
    let spec = verify_spec(&std::fs::read(spec)?, publisher.parse()?)?;
    // A key of its own, in no fleet: enough for a public service.
    let key = SecretKey::from_bytes(&rand::random())?;
    let client = Client::builder(spec, key).nodes([node.parse()?]).start().await?;
    let mut stream = client.open(&name.parse()?, Service::Stream(port.parse()?)).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{} says, {}: {answer}", stream.peer(), stream.path());
    client.shutdown().await;
    Ok(())
}
