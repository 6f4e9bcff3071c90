//! A device on loopback: opens streams to nodes and proves what they push.
#![allow(clippy::unwrap_used)]

use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use std::time::Duration;
use tokio::task::JoinHandle;
use windlass_p2p::frame::read_frame;
use windlass_p2p::swarm::{DeviceConfig, device_swarm};
use windlass_p2p::{Control, PeerStream};
use windlass_protocol::bundle::{VerifiedBundle, verify_bundle};
use windlass_protocol::head::{Committee, Trust};
use windlass_protocol::message::watch::FromNode;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{SecretKey, wire};

pub(crate) struct Device {
    control: Control,
    task: JoinHandle<()>,
}

impl Device {
    pub(crate) fn start(key: &SecretKey) -> Self {
        let (mut swarm, control) = device_swarm(key, &DeviceConfig::new("test")).unwrap();
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { control, task }
    }

    /// For accepting streams.
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) async fn open(&self, node: PeerId, address: &Multiaddr, name: &'static str) -> PeerStream {
        let protocol = StreamProtocol::new(name);
        let opened = self.control.open(node, vec![address.clone()], protocol, Duration::from_secs(10));
        opened.await.unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one push and proves what it says, at this time.
pub(crate) async fn push(
    stream: &mut PeerStream,
    spec: &VerifiedSpec,
    now: u64,
) -> (Vec<Slot>, VerifiedBundle) {
    let frame = read_frame(stream).await.unwrap();
    let FromNode::Push(push) = wire::decode(&frame, usize::MAX).unwrap() else { panic!("a notice") };
    let committee = Committee::first(spec);
    let trust = Trust { spec, committee: &committee, now: Some(now), nonce: None };
    let proven = verify_bundle(&trust, &push.bundle, &push.slots).unwrap();
    (push.slots, proven)
}
