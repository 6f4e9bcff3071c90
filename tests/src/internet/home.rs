//! A device's network and the gateway between it and the internet.
//!
//! Owns the addresses, routes and packet filters of both; what runs there is the scenario's business.

use super::upnp::Opener;
use super::{BRIDGE, ip, ip_of, nft, sysctl, within};
use crate::story::SOON;
use crate::windlass::{Running, Windlass, program};
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::process::Command;

/// What stands between a device and the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Nothing but a router: the device has public addresses that anybody reaches.
    Open,
    /// Public addresses, and nothing comes in that wasn't asked for.
    Firewalled,
    /// One public IPv4 address for all, and no IPv6: ports are kept where they are free, and nothing comes in that wasn't asked for.
    Moderate,
    /// The same with another random port for each connection, so that nobody can tell where the device will be seen.
    Strict,
}

impl Gateway {
    fn translates(self) -> bool {
        matches!(self, Self::Moderate | Self::Strict)
    }

    /// The rules, as nftables reads them.
    fn rules(self) -> String {
        let masquerade = match self {
            Self::Open | Self::Firewalled => "",
            Self::Moderate => "meta nfproto ipv4 oifname wan masquerade;",
            Self::Strict => "meta nfproto ipv4 oifname wan masquerade fully-random;",
        };
        let inbound = match self {
            Self::Open => "",
            _ => "ct state established,related accept; iifname wan meta l4proto { tcp, udp } drop;",
        };
        // Their own chain, so that a scenario can close things later without knowing the rest.
        format!(
            "table inet gateway {{\n\
             chain closed {{ }}\n\
             chain input {{ type filter hook input priority 0; policy accept; {inbound} }}\n\
             chain forward {{ type filter hook forward priority 0; policy accept; jump closed; {inbound} }}\n\
             chain leaving {{ type nat hook postrouting priority 100; policy accept; {masquerade} }}\n}}"
        )
    }
}

/// A device's network behind its gateway. The device is alone in it.
#[derive(Debug)]
pub struct Home {
    number: u8,
    gateway: Gateway,
    /// The device's namespace.
    inside: String,
    /// The gateway's.
    edge: String,
}

impl Home {
    pub(super) fn build(number: u8, gateway: Gateway) -> anyhow::Result<Self> {
        let home = Self { number, gateway, inside: format!("home{number}"), edge: format!("edge{number}") };
        home.wire()?;
        nft(Some(&home.edge), &gateway.rules())?;
        Ok(home)
    }

    /// Makes both namespaces, the cables between device, gateway and internet, addresses and routes.
    fn wire(&self) -> anyhow::Result<()> {
        let (number, inside, edge) = (self.number, &self.inside, &self.edge);
        let mut commands = vec![
            format!("netns add {inside}"),
            format!("netns add {edge}"),
            format!("link add wan{number} type veth peer name wan netns {edge}"),
            format!("link set wan{number} master {BRIDGE} up"),
            format!("link add name lan netns {edge} type veth peer name eth0 netns {inside}"),
        ];
        ip(None, &commands)?;
        for namespace in [inside, edge] {
            sysctl(Some(namespace), "ipv6/conf/all/accept_ra", "0")?;
            sysctl(Some(namespace), "ipv4/conf/all/rp_filter", "0")?;
            sysctl(Some(namespace), "ipv4/conf/default/rp_filter", "0")?;
        }
        sysctl(Some(edge), "ipv4/ip_forward", "1")?;
        sysctl(Some(edge), "ipv6/conf/all/forwarding", "1")?;
        let wan = self.wan(0);
        commands = vec![
            "link set lo up".to_owned(),
            "link set wan up".to_owned(),
            "link set lan up".to_owned(),
            format!("address add {}/24 dev lan", self.lan(1)),
            format!("address add {wan}/24 dev wan"),
            format!("route add default via {}", super::host(1)),
        ];
        ip(Some(edge), &commands)?;
        commands = vec![
            "link set lo up".to_owned(),
            "link set eth0 up".to_owned(),
            format!("address add {}/24 dev eth0", self.lan(2)),
            format!("route add default via {}", self.lan(1)),
        ];
        ip(Some(inside), &commands)?;
        if self.gateway.translates() { Ok(()) } else { self.wire_routed() }
    }

    /// What isn't translated is routed, and has IPv6.
    fn wire_routed(&self) -> anyhow::Result<()> {
        let wan6 = self.wan6();
        let edge = [
            format!("address add {}/64 dev lan nodad", self.lan6(1)),
            format!("address add {wan6}/64 dev wan nodad"),
            format!("route add default via {}", super::host6(1)),
        ];
        ip(Some(&self.edge), &edge)?;
        let inside = [
            format!("address add {}/64 dev eth0 nodad", self.lan6(2)),
            format!("route add default via {}", self.lan6(1)),
        ];
        ip(Some(&self.inside), &inside)?;
        let outside = [
            format!("route add {}/64 via {wan6}", self.lan6(0)),
            format!("route add {}/24 via {}", self.lan(0), self.wan(0)),
        ];
        ip(None, &outside)
    }

    /// An address of the home's own network; the gateway is 1, the device 2.
    fn lan(&self, machine: u8) -> Ipv4Addr {
        match self.gateway.translates() {
            true => Ipv4Addr::new(192, 168, self.number, machine),
            false => Ipv4Addr::new(11, 0, self.number, machine),
        }
    }

    fn lan6(&self, machine: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2a11, 0, 0, self.number.into(), 0, 0, 0, machine.into())
    }

    /// The address that the gateway has on the internet, after so many changes.
    fn wan(&self, changes: u8) -> Ipv4Addr {
        Ipv4Addr::new(11, 0, 0, 100 + self.number + 50 * changes)
    }

    fn wan6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0x2a11, 0, 0, 0, 0, 0, 0, 100 + u16::from(self.number))
    }

    /// The device's own IPv4 address.
    pub fn address(&self) -> IpAddr {
        self.lan(2).into()
    }

    /// The device's own IPv6 address.
    pub fn address6(&self) -> IpAddr {
        self.lan6(2).into()
    }

    /// The IPv4 address under which others see the device at first.
    pub fn seen_as(&self) -> IpAddr {
        if self.gateway.translates() { self.wan(0).into() } else { self.address() }
    }

    /// From now on the gateway loses what matches this expression of nftables, such as `meta l4proto udp`.
    pub fn lose(&self, expression: &str) -> anyhow::Result<()> {
        nft(Some(&self.edge), &format!("add rule inet gateway closed {expression} drop"))
    }

    /// The gateway passes everything again that it passed at first.
    pub fn pass_all(&self) -> anyhow::Result<()> {
        nft(Some(&self.edge), "flush chain inet gateway closed")
    }

    /// The gateway gets another public address, as after a provider's nightly reconnect. What it translated is gone.
    pub fn change_public_address(&self) -> anyhow::Result<()> {
        let commands = [
            format!("address delete {}/24 dev wan", self.wan(0)),
            format!("address add {}/24 dev wan", self.wan(1)),
            format!("route replace default via {}", super::host(1)),
        ];
        ip(Some(&self.edge), &commands)
    }

    /// The gateway opens ports for the device from now on if it asks by UPnP.
    pub async fn opens_ports(&self) -> anyhow::Result<Opener> {
        Opener::start(&self.edge, self.lan(0)).await
    }

    /// The device gets another address from its gateway, as when it changes networks; connections of the old one are
    /// neither closed nor answered any more.
    pub fn change_own_address(&self) -> anyhow::Result<()> {
        let commands = [
            format!("address delete {}/24 dev eth0", self.lan(2)),
            format!("address add {}/24 dev eth0", self.lan(3)),
            format!("route replace default via {}", self.lan(1)),
        ];
        ip(Some(&self.inside), &commands)
    }

    /// A program on the device.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::from(within(Some(&self.inside), program))
    }

    /// Fetches something over HTTP as anybody in this home would.
    pub async fn curl(&self, url: &str, within: Duration, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let mut curl = self.command("curl");
        let seconds = within.as_secs_f64().to_string();
        curl.args(["--silent", "--show-error", "--fail", "--max-time", &seconds]).args(arguments).arg(url);
        let output = curl.kill_on_drop(true).output().await.context("cannot run curl")?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        bail!("curl {url}: {}", String::from_utf8_lossy(&output.stderr).trim())
    }

    /// A page served on the device, at its own address.
    pub async fn site(&self) -> anyhow::Result<(Running, String)> {
        let mut command = self.command(program("site")?);
        command.args(["--host", &self.address().to_string()]);
        let mut site = Running::start(command, format!("the site of {}", self.inside))?;
        let ready = site.event(SOON, |event| event["address"].is_string()).await?;
        let url = format!("http://{}", ready["address"].as_str().context("no address")?);
        Ok((site, url))
    }

    /// The command line on the device.
    pub fn windlass(&self, windlass: &Windlass) -> Windlass {
        windlass.within(["ip", "netns", "exec", &self.inside])
    }

    /// Between device and gateway, packets are treated like this from now on. It ends when what is returned is dropped.
    pub async fn shape(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        let mut command = Command::from(within(Some(&self.edge), program("shaper")?));
        command.args(arguments);
        let mut shaper = Running::start(command, format!("the shaper of {}", self.edge))?;
        let ready = |event: &serde_json::Value| event["interface"].is_string();
        let ready = shaper.event(SOON, ready).await?;
        let interface = ready["interface"].as_str().context("no interface")?;
        sysctl(Some(&self.edge), &format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        // Seen twice, a packet would be translated wrongly: it counts where it passes between shaper and internet.
        let (own, own6) = (format!("{}/24", self.lan(0)), format!("{}/64", self.lan6(0)));
        let rules = format!(
            "table inet shaped {{ chain early {{ type filter hook prerouting priority -300; iifname lan notrack; \
             iifname {interface} ip daddr {own} notrack; iifname {interface} ip6 daddr {own6} notrack; }}\n}}"
        );
        nft(Some(&self.edge), &rules)?;
        // What the device sends and what is for it goes through the shaper once, and from there on as it would have.
        for (family, network) in [("-4", own), ("-6", own6)] {
            let commands = [
                format!("route add default dev {interface} table 7"),
                "rule add iif lan lookup 7 priority 7".to_owned(),
                format!("rule add iif wan to {network} lookup 7 priority 7"),
            ];
            ip_of(Some(family), Some(&self.edge), &commands)?;
        }
        Ok(shaper)
    }
}
