//! An internet of one's own on this machine: network namespaces joined by a bridge, homes behind gateways of every
//! kind, and a road that delays, loses and reorders packets. Real processes run in all of it.
//!
//! | module | owns |
//! | --- | --- |
//! | [`mod@apart`] | running a test in namespaces of its own, where nothing of this machine can be touched |
//! | [`home`] | a device's network, its gateway and the gateway's rules |
//! | [`scene`] | a Windlass network on the open internet, with devices in homes |
//! | [`shaping`] | what a bad road does to packets |
//! | [`upnp`] | a gateway that opens ports for whoever asks it |
//!
//! Nothing is removed in the end: everything lives in namespaces that go with the last process in them, and the
//! processes with the first.

pub mod apart;
pub mod home;
pub mod scene;
pub mod shaping;
pub mod upnp;

pub use apart::apart;
pub use home::{Gateway, Home};
pub use scene::Scene;

use anyhow::{Context, ensure};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// Machines on the open internet: nodes, and what else has an address of its own there.
const HOSTS: u8 = 9;
/// The bridge that everybody's provider is on.
const BRIDGE: &str = "internet";

/// The open internet: the namespace this process is in. Nodes and the chain run here.
#[derive(Debug)]
pub struct Internet {
    homes: AtomicU8,
}

impl Internet {
    /// Makes it, with [`host`]s on it. Only where [`apart`] has put this process.
    fn build() -> anyhow::Result<Self> {
        sysctl(None, "ipv4/ip_forward", "1")?;
        sysctl(None, "ipv6/conf/all/forwarding", "1")?;
        sysctl(None, "ipv4/conf/all/send_redirects", "0")?;
        let mut commands = vec![
            "link set lo up".to_owned(),
            format!("link add {BRIDGE} type bridge forward_delay 0"),
            format!("link set {BRIDGE} up"),
        ];
        for number in 1..=HOSTS {
            commands.push(format!("address add {}/24 dev {BRIDGE}", host(number)));
            commands.push(format!("address add {}/64 dev {BRIDGE} nodad", host6(number)));
        }
        ip(None, &commands)?;
        Ok(Self { homes: AtomicU8::new(0) })
    }

    /// A network for a device behind such a gateway.
    pub fn home(&self, gateway: Gateway) -> anyhow::Result<Home> {
        Home::build(self.homes.fetch_add(1, Ordering::Relaxed) + 1, gateway)
    }

    /// Takes a host off the internet without a word: what is sent to it is lost, as when its power fails.
    pub fn darken(&self, address: IpAddr) -> anyhow::Result<()> {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        nft(
            None,
            &format!(
                "table inet dark {{ chain input {{ type filter hook input priority -300; policy accept; \
                 iifname != lo {family} daddr {address} drop; }}\nchain output {{ type filter hook output priority -300; \
                 policy accept; oifname != lo {family} saddr {address} drop; }}\n}}"
            ),
        )
    }
}

/// A machine's IPv4 address on the open internet, numbered from 1. Not one of those for documentation: software that
/// tells public addresses from others doesn't count these as public.
pub fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(11, 0, 0, number).into()
}

/// A machine's IPv6 address on the open internet.
pub fn host6(number: u8) -> IpAddr {
    Ipv6Addr::new(0x2a11, 0, 0, 0, 0, 0, 0, number.into()).into()
}

/// Runs commands of `ip` in a namespace; `None` is this one. The first that fails ends them.
fn ip(namespace: Option<&str>, commands: &[String]) -> anyhow::Result<()> {
    ip_of(None, namespace, commands)
}

/// The same where a command doesn't show which family of addresses it is about: `-4` or `-6`.
fn ip_of(family: Option<&str>, namespace: Option<&str>, commands: &[String]) -> anyhow::Result<()> {
    let mut ip = Command::new("ip");
    ip.args(family);
    if let Some(namespace) = namespace {
        ip.args(["-netns", namespace]);
    }
    feed(ip.args(["-batch", "-"]), &(commands.join("\n") + "\n"))
}

/// Loads a rule set into a namespace; `None` is this one.
fn nft(namespace: Option<&str>, rules: &str) -> anyhow::Result<()> {
    feed(within(namespace, "nft").args(["-f", "-"]), rules)
}

/// Sets something below `/proc/sys/net` of a namespace; `None` is this one.
fn sysctl(namespace: Option<&str>, key: &str, value: &str) -> anyhow::Result<()> {
    feed(within(namespace, "tee").arg(format!("/proc/sys/net/{key}")), value)
}

/// A program in a namespace; `None` is this one.
fn within(namespace: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    match namespace {
        None => Command::new(program),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(program);
            command
        }
    }
}

/// Runs a command to its end with this on its standard input.
fn feed(command: &mut Command, input: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::process::Stdio;
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("cannot run {command:?}"))?;
    child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} refused {input:?}: {}", said.trim());
    Ok(())
}
