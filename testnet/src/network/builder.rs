//! What a network is made of, and starting it.

use super::files::Files;
use super::{MAX_DEVICES, MAX_NODES, NetworkError, Testnet};
use crate::chain::Finality;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Instant;

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(super) program: PathBuf,
    pub(super) directory: Option<PathBuf>,
    pub(super) rpc_url: Option<String>,
    pub(super) nodes: usize,
    pub(super) committee: Option<usize>,
    pub(super) devices: usize,
    pub(super) finality: Finality,
    pub(super) heartbeat: f64,
    pub(super) block_time: f64,
    pub(super) port: u16,
    pub(super) hosts: Vec<Vec<IpAddr>>,
    pub(super) reporting: bool,
}

impl Builder {
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            directory: None,
            rpc_url: None,
            nodes: 3,
            committee: None,
            devices: 0,
            finality: Finality::Immediate,
            heartbeat: 5.0,
            block_time: 0.0,
            port: 0,
            hosts: vec![vec![Ipv4Addr::LOCALHOST.into()]],
            reporting: false,
        }
    }

    /// How many nodes. Default 3.
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// How many of the nodes, the first ones, make up the first committee. Default: all.
    pub fn committee(self, members: usize) -> Self {
        Self { committee: Some(members), ..self }
    }

    /// How many enrolled and named devices. Default 0.
    pub fn devices(self, devices: usize) -> Self {
        Self { devices, ..self }
    }

    /// Where keys, mirrors, logs and the embedded chain's state are kept: the same network comes up again from
    /// it, and nobody else may use it meanwhile. Default: a temporary folder that goes with the network.
    pub fn state(self, directory: Option<PathBuf>) -> Self {
        Self { directory, ..self }
    }

    /// Another chain than the embedded one. The first development account must be funded there.
    pub fn rpc_url(self, rpc_url: Option<String>) -> Self {
        Self { rpc_url, ..self }
    }

    /// The first node reports members that sign two blocks, from the operator's account. Default: none does.
    pub fn reporting(self) -> Self {
        Self { reporting: true, ..self }
    }

    /// When blocks of the embedded chain become final. Default: at once.
    pub fn finality(self, finality: Finality) -> Self {
        Self { finality, ..self }
    }

    /// Seconds after which an idle chain makes an empty block; 0 for never. Default 5.
    pub fn heartbeat(self, heartbeat: f64) -> Self {
        Self { heartbeat, ..self }
    }

    /// Seconds between blocks; 0 makes one per transaction. Default 0.
    pub fn block_time(self, block_time: f64) -> Self {
        Self { block_time, ..self }
    }

    /// The embedded chain's TCP port; 0 takes a free one. Default 0.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The IP addresses that each node listens on; when there are more nodes than entries, they take turns. Addresses
    /// that others can reach make this machine's nodes reachable for them. Default: 127.0.0.1.
    pub fn hosts(self, hosts: Vec<Vec<IpAddr>>) -> Self {
        Self { hosts, ..self }
    }

    /// Starts everything and returns when it can be used.
    pub async fn start(self) -> Result<Testnet, NetworkError> {
        count("nodes", self.nodes, 1, MAX_NODES)?;
        count("members of the committee", self.committee.unwrap_or(self.nodes), 1, self.nodes)?;
        count("devices", self.devices, 0, MAX_DEVICES)?;
        let mut files = Files::create(self.directory.as_deref(), self.nodes, self.rpc_url.as_deref())?;
        files.place(self.hosts.clone());
        files.reporting = self.reporting;
        let mut testnet = Testnet {
            program: self.program.clone(),
            chain: None,
            rpc_url: String::new(),
            nodes: Vec::new(),
            devices: Vec::new(),
            fleet: 0,
            files,
            timeline: Vec::new(),
        };
        let mut since = Instant::now();
        testnet.start_chain(&self).await?;
        testnet.lap("the chain", &mut since);
        testnet.deploy(self.committee.unwrap_or(self.nodes)).await?;
        testnet.lap("the contracts", &mut since);
        for index in 0..self.nodes {
            testnet.nodes.push(None);
            testnet.start_node(index).await?;
        }
        testnet.wait_healthy().await?;
        testnet.lap("the nodes", &mut since);
        testnet.files.write_profile(&testnet.rpc_url, &testnet.all_multiaddrs())?;
        testnet.equip(self.devices).await?;
        testnet.lap("the devices", &mut since);
        Ok(testnet)
    }
}

fn count(what: &'static str, asked: usize, least: usize, most: usize) -> Result<(), NetworkError> {
    if (least..=most).contains(&asked) { Ok(()) } else { Err(NetworkError::Count { what, asked, most }) }
}
