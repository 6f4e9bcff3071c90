//! How an answer is shown: what it says, and what it rests on.

use crate::failure::Failure;
use crate::when::spoken;
use serde::Serialize;
use std::fmt;
use windlass_client::{AskError, KeyAddress, Provenance, RefusedNode, ResolveError};
use windlass_protocol::B256;
use windlass_protocol::record::{DeviceRecord, DeviceStatus, NEVER};

/// Under which head something is proven, who says so, and who was refused.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Proof {
    block: u64,
    hash: B256,
    /// Unix seconds.
    timestamp: u64,
    age_seconds: u64,
    attested_by: usize,
    threshold: usize,
    /// The epoch of the committee they are of.
    epoch: u32,
    publisher: String,
    spec: B256,
    spec_version: u64,
    bytes: usize,
    milliseconds: u64,
    node: Node,
    refused: Vec<Refused>,
}

#[derive(Serialize, Clone, Debug)]
struct Node {
    address: String,
    peer: String,
    multiaddr: String,
}

#[derive(Serialize, Clone, Debug)]
struct Refused {
    #[serde(flatten)]
    node: Node,
    reason: String,
    /// Whether an honest node can't have done this.
    lie: bool,
}

impl Proof {
    pub(crate) fn new(provenance: &Provenance, publisher: KeyAddress) -> Self {
        let p = provenance;
        Self {
            block: p.number,
            hash: p.hash,
            timestamp: p.timestamp,
            age_seconds: p.age,
            attested_by: p.signers,
            threshold: p.threshold,
            epoch: p.epoch,
            publisher: publisher.to_string(),
            spec: p.spec.0,
            spec_version: p.spec.1,
            bytes: p.bytes,
            milliseconds: u64::try_from(p.took.as_millis()).unwrap_or(u64::MAX),
            node: Node {
                address: p.node_address.to_string(),
                peer: p.node.to_string(),
                multiaddr: p.node_multiaddr.to_string(),
            },
            refused: p.refused.iter().map(Refused::new).collect(),
        }
    }
}

impl Refused {
    fn new(refused: &RefusedNode) -> Self {
        let node = Node {
            address: refused.address.to_string(),
            peer: refused.peer.to_string(),
            multiaddr: refused.multiaddr.to_string(),
        };
        Self { node, reason: refused.reason.to_string(), lie: refused.reason.is_lie() }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "head      block {} {}, attested {} ago",
            self.block,
            self.hash,
            spoken(self.age_seconds)
        )?;
        writeln!(
            f,
            "trust     {} members attest it ({} must), named by {}",
            self.attested_by, self.threshold, self.publisher
        )?;
        let node = &self.node;
        write!(f, "proof     {} bytes in {} ms from node {}", self.bytes, self.milliseconds, node.address)?;
        for refused in &self.refused {
            let Refused { node, reason, .. } = refused;
            write!(f, "\nrefused   node {} at {}: {reason}", node.address, node.multiaddr)?;
        }
        Ok(())
    }
}

/// A device's record, for people and programs.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct ShownDevice {
    device: String,
    key: String,
    fleet: u64,
    status: &'static str,
    /// Unix seconds; absent for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<u64>,
}

impl ShownDevice {
    pub(crate) fn new(device: impl fmt::Display, record: &DeviceRecord) -> Self {
        let status = match record.status {
            DeviceStatus::Active => "active",
            DeviceStatus::Suspended => "suspended",
            DeviceStatus::Revoked => "revoked",
            DeviceStatus::Revoking => "revoking",
        };
        Self {
            device: device.to_string(),
            key: record.key.to_string(),
            fleet: record.fleet,
            status,
            valid_until: some_time(record.valid_until),
        }
    }
}

impl fmt::Display for ShownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device    {}", self.device)?;
        if self.key != self.device {
            writeln!(f, "key       {}", self.key)?;
        }
        write!(f, "record    {} in fleet {}, {}", self.status, self.fleet, until(self.valid_until))
    }
}

/// A time of a record; none for never.
pub(crate) fn some_time(time: u64) -> Option<u64> {
    (time != NEVER).then_some(time)
}

/// The same in words.
pub(crate) fn until(time: Option<u64>) -> String {
    time.map_or_else(|| "without expiry".to_owned(), |time| format!("until {time} (Unix seconds)"))
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        use windlass_client::Denial;
        match &error {
            ResolveError::Denied { denial, .. } => {
                let code = match denial {
                    Denial::NoSuchName => "no_such_name",
                    Denial::NameExpired => "name_expired",
                    Denial::NoDevice => "no_device",
                    Denial::NotRegistered(_) => "not_registered",
                };
                Self::no(code, error)
            }
            ResolveError::NoNode { .. } => Self::fault("no_node", error),
            ResolveError::Cold { .. } => Self::fault("cold", error),
            ResolveError::Stopped => Self::fault("stopped", error),
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let code = match error {
            AskError::NoNode { .. } => "no_node",
            AskError::Cold { .. } => "cold",
            AskError::Stopped => "stopped",
        };
        Self::fault(code, error)
    }
}
