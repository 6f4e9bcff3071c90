//! A gateway that opens ports for whoever at home asks it by UPnP: Debian's miniupnpd, as it is.
//!
//! Owns how the daemon is run and what it may open; the gateway's own rules stay as they are.

use super::{nft, within};
use crate::story::SOON;
use anyhow::{Context, bail};
use std::net::Ipv4Addr;
use std::process::Stdio;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const DAEMON: &str = "/usr/sbin/miniupnpd";
/// What it says once it can be asked.
const READY: &str = "HTTP listening on port";
/// Where the daemon puts its rules, and whence they are reached: before what the gateway refuses.
const CHAINS: &str = "add chain inet gateway opened
add chain inet gateway translated
add chain inet gateway seen
add chain inet gateway arriving { type nat hook prerouting priority -100; policy accept; }
add rule inet gateway arriving jump translated
insert rule inet gateway forward jump opened
insert rule inet gateway leaving jump seen
";

/// Whether the daemon is installed.
pub fn is_installed() -> bool {
    std::fs::exists(DAEMON).unwrap_or(false)
}

/// A gateway's daemon. It ends when this is dropped; what it has opened stays open.
#[derive(Debug)]
pub struct Opener {
    edge: String,
    _daemon: Child,
    _configuration: NamedTempFile,
}

impl Opener {
    /// Starts the daemon in the gateway's namespace. It opens ports of this network alone, each machine its own.
    pub(super) async fn start(edge: &str, network: Ipv4Addr) -> anyhow::Result<Self> {
        nft(Some(edge), CHAINS)?;
        let configuration = NamedTempFile::new()?;
        std::fs::write(configuration.path(), rules(network))?;
        let mut daemon = Command::from(within(Some(edge), DAEMON));
        daemon.arg("-d").arg("-f").arg(configuration.path()).args(["-P", &format!("/run/{edge}.upnp")]);
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut daemon = daemon.spawn().context("cannot run miniupnpd")?;
        let mut lines = BufReader::new(daemon.stderr.take().context("stderr is piped")?).lines();
        let ready = async {
            let mut said = Vec::new();
            while let Some(line) = lines.next_line().await? {
                if line.contains(READY) {
                    return Ok(());
                }
                said.push(line);
            }
            bail!("miniupnpd ended: {}", said.join("; "))
        };
        timeout(SOON, ready).await.context("miniupnpd isn't ready in time")??;
        // Read on, so that it never waits for somebody to read its log.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { edge: edge.to_owned(), _daemon: daemon, _configuration: configuration })
    }

    /// The rules of the ports that are open now, as nftables lists them.
    pub async fn opened(&self) -> anyhow::Result<Vec<String>> {
        let mut list = Command::from(within(Some(&self.edge), "nft"));
        let listed = list.args(["list", "chain", "inet", "gateway", "translated"]).output().await?;
        let listed = String::from_utf8(listed.stdout)?;
        Ok(listed.lines().filter(|line| line.contains("dnat")).map(|line| line.trim().to_owned()).collect())
    }
}

fn rules(network: Ipv4Addr) -> String {
    format!(
        "ext_ifname=wan\nlistening_ip=lan\nport=0\nenable_upnp=yes\nsecure_mode=yes\n\
         uuid=7d3a4f0e-5b1c-4c76-9a51-2f1c1e0f6b11\n\
         upnp_table_name=gateway\nupnp_nat_table_name=gateway\nupnp_forward_chain=opened\n\
         upnp_nat_chain=translated\nupnp_nat_postrouting_chain=seen\n\
         allow 1024-65535 {network}/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    )
}
