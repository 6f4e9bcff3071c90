//! `site`: the page, the file and the answer without end that devices publish, on a machine of their own. For tests
//! only. It says its address when it is up and ends when its standard input closes.

use clap::Parser;
use std::net::IpAddr;
use tokio::io::AsyncReadExt;
use windlass_tests::site::Site;

/// Serves a page, a file and an answer without end.
#[derive(Parser)]
struct Arguments {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let site = Site::start_at(Arguments::parse().host).await?;
    println!("{}", serde_json::json!({ "address": site.address().to_string() }));
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 64]);
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    Ok(())
}
