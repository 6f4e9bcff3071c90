//! Whom this node's relay serves, by the mirror or by a list of the owner's; the relay itself is in
//! [`windlass_p2p::relay`].
//!
//! Registered is a peer whose key is an active device's, or a node's of the chain spec's committee. Judged by the newest
//! final block in the mirror: this node needs nobody's word for what it has itself. It decides nothing about who may
//! open a service.

use crate::clock::unix_seconds;
use crate::follower::MirrorState;
use crate::limits::{LEAST_RELAY_RATE, MAX_ALLOWED};
use crate::store::{Store, View, ViewError};
use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::PeerId;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use windlass_p2p::identity::key_address_of;
use windlass_p2p::limits::CIRCUIT_IDLE;
use windlass_p2p::relay::{Caps, Group, NotReady, Policy, RelayConfig, Standing};
use windlass_protocol::authorise::judge_device;
use windlass_protocol::record::{DeviceRecord, KeyRecord};
use windlass_protocol::slot::Slot;
use windlass_protocol::{Address, DeviceId, KeyAddress};

/// Whom the relay serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Every active device, and the committee's nodes.
    Registered,
    /// These devices or keys only, as long as none of them is revoked.
    AllowList(HashSet<Address>),
}

/// The table `[relay]` of the configuration, as written. Everything has a default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayTable {
    serve: Option<String>,
    #[serde(default)]
    allow: Vec<String>,
    strangers: Option<bool>,
    reservations: Option<usize>,
    circuits: Option<usize>,
    circuits_per_device: Option<usize>,
    bytes_per_second: Option<u64>,
    device_bytes_per_second: Option<u64>,
    idle_seconds: Option<u64>,
}

impl RelayTable {
    /// What it means, or what is wrong with it.
    pub fn settings(self) -> Result<RelaySettings, String> {
        let serve = self.serve()?;
        let shipped = Caps::default();
        let limits = RelayConfig {
            caps: Caps {
                reservations: most("reservations", self.reservations, shipped.reservations)?,
                circuits: most("circuits", self.circuits, shipped.circuits)?,
                circuits_per_destination: most(
                    "circuits_per_device",
                    self.circuits_per_device,
                    shipped.circuits_per_destination,
                )?,
                ..shipped
            },
            // Who names each guest by hand has no place for strangers, unless he says so.
            strangers: self.strangers.unwrap_or(serve == Serve::Registered),
            bytes_per_second: rate("bytes_per_second", self.bytes_per_second)?,
            device_bytes_per_second: rate("device_bytes_per_second", self.device_bytes_per_second)?,
            idle: self.idle_seconds.map_or(CIRCUIT_IDLE, |seconds| Duration::from_secs(seconds.max(1))),
            ..RelayConfig::default()
        };
        Ok(RelaySettings { serve, limits })
    }

    fn serve(&self) -> Result<Serve, String> {
        match self.serve.as_deref() {
            None | Some("registered") if self.allow.is_empty() => Ok(Serve::Registered),
            None | Some("registered") => {
                Err("`allow` is for serve = \"allow-list\"; leave it out, or choose that".to_owned())
            }
            Some("allow-list") if self.allow.is_empty() => {
                Err("serve = \"allow-list\" needs `allow`, a list of addresses".to_owned())
            }
            Some("allow-list") if self.allow.len() > MAX_ALLOWED => {
                Err(format!("{} addresses in `allow` are more than {MAX_ALLOWED}", self.allow.len()))
            }
            Some("allow-list") => {
                let parse = |text: &String| {
                    let key: Result<KeyAddress, _> = text.parse();
                    key.map(|key| key.0).map_err(|error| format!("allow: {text:?}: {error}"))
                };
                self.allow.iter().map(parse).collect::<Result<_, _>>().map(Serve::AllowList)
            }
            Some("channel") => {
                Err("serve = \"channel\" needs the settlement of tickets, which this version \
                                    doesn't have; use \"registered\" or \"allow-list\""
                    .to_owned())
            }
            Some(other) => {
                Err(format!("serve = {other:?} is not known; use \"registered\" or \"allow-list\""))
            }
        }
    }
}

/// A cap: an owner may lower what is shipped, and not to nothing.
fn most(key: &str, wanted: Option<usize>, shipped: usize) -> Result<usize, String> {
    match wanted {
        None => Ok(shipped),
        Some(wanted) if (1..=shipped).contains(&wanted) => Ok(wanted),
        Some(wanted) => Err(format!("{key} = {wanted} is not between 1 and {shipped}")),
    }
}

/// A rate under which not even handshakes come through is a mistake.
fn rate(key: &str, wanted: Option<u64>) -> Result<Option<u64>, String> {
    match wanted {
        Some(wanted) if wanted < LEAST_RELAY_RATE => Err(format!(
            "{key} = {wanted} is under {LEAST_RELAY_RATE}, too slow for a handshake; leave it out for no limit"
        )),
        other => Ok(other),
    }
}

/// What the configuration says of the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySettings {
    /// Whom it serves.
    pub serve: Serve,
    /// Caps, rates and times.
    pub limits: RelayConfig,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self { serve: Serve::Registered, limits: RelayConfig::default() }
    }
}

/// Judges peers by the mirror.
pub struct Judge {
    serve: Serve,
    members: HashSet<Address>,
    store: Arc<Store>,
    mirror: watch::Receiver<MirrorState>,
}

impl Judge {
    /// A judge by this mirror. `members` are the committee's addresses.
    pub fn new(
        serve: Serve,
        members: HashSet<Address>,
        store: Arc<Store>,
        mirror: watch::Receiver<MirrorState>,
    ) -> Arc<Self> {
        Arc::new(Self { serve, members, store, mirror })
    }

    /// The device that uses this key, with its record; reads the disk.
    fn device(&self, key: KeyAddress) -> Result<Option<(DeviceId, DeviceRecord)>, NotReady> {
        let base = self.mirror.borrow().base.ok_or(NotReady)?;
        let view = View::new(&self.store, base.number, self.store.generation());
        let read = || -> Result<_, ViewError> {
            let rotated = KeyRecord::decode(&view.slot(Slot::KeyOf(key))?).ok().flatten();
            let id = rotated.map_or(key.as_first_key(), |record| record.device);
            let record = DeviceRecord::decode(&view.slot(Slot::Device(id))?).ok().flatten();
            view.check()?;
            Ok(record.filter(|record| record.key == key).map(|record| (id, record)))
        };
        read().map_err(|error| {
            tracing::debug!(%error, "the relay can't judge a peer now");
            NotReady
        })
    }

    fn judge(&self, peer: PeerId, now: u64) -> Result<Standing, NotReady> {
        let Ok(key) = key_address_of(&peer) else { return Ok(Standing::Refused) };
        let found = self.device(key)?;
        if let Some((_, record)) = &found
            && judge_device(record, 0, now).is_err()
        {
            return Ok(Standing::Refused);
        }
        let fleet = found.as_ref().map(|(_, record)| Group::Fleet(record.fleet));
        Ok(match &self.serve {
            Serve::Registered => match fleet {
                Some(fleet) => Standing::Served(fleet),
                None if self.members.contains(&key.0) => Standing::Served(Group::Nodes),
                None => Standing::Stranger,
            },
            Serve::AllowList(list) => {
                let listed =
                    list.contains(&key.0) || found.as_ref().is_some_and(|(id, _)| list.contains(&id.0));
                match listed {
                    true => Standing::Served(fleet.unwrap_or(Group::Nodes)),
                    false => Standing::Stranger,
                }
            }
        })
    }
}

/// A judge's word on any peer, asked for where waiting for the disk holds nobody up.
pub struct ByMirror(pub Arc<Judge>);

impl Policy for ByMirror {
    fn standing(&self, peer: PeerId) -> BoxFuture<'static, Result<Standing, NotReady>> {
        let judge = self.0.clone();
        async move {
            let judged = tokio::task::spawn_blocking(move || judge.judge(peer, unix_seconds()));
            judged.await.unwrap_or(Err(NotReady))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{self, Served as Mirror};
    use windlass_protocol::B256;
    use windlass_protocol::record::{DeviceStatus, NEVER};

    fn device(seed: u8, key: u8, status: DeviceStatus, valid_until: u64) -> (B256, B256) {
        let record = DeviceRecord { key: testing::key(key).address(), fleet: 7, valid_until, status };
        let id = testing::key(seed).address().as_first_key();
        (Slot::Device(id).storage_key(), record.encode())
    }

    fn peer(seed: u8) -> PeerId {
        windlass_p2p::identity::peer_id_of(&testing::key(seed).public_key())
    }

    const SERVED: Result<Standing, NotReady> = Ok(Standing::Served(Group::Fleet(7)));

    #[tokio::test]
    async fn active_devices_and_members_are_served_and_a_revoked_device_is_not() {
        let mut mirror = Mirror::start();
        let members: HashSet<Address> = mirror.members.iter().map(|member| member.address().0).collect();
        let judge = Judge::new(Serve::Registered, members, mirror.store.clone(), mirror.state());
        assert_eq!(judge.judge(peer(0x31), mirror.now), Err(NotReady), "nothing is mirrored yet");
        let rotated = KeyRecord { device: testing::key(0x34).address().as_first_key(), since: 1 };
        let rotation = Slot::KeyOf(testing::key(0x35).address()).storage_key();
        mirror
            .advance(vec![
                device(0x31, 0x31, DeviceStatus::Active, NEVER),
                device(0x32, 0x32, DeviceStatus::Suspended, NEVER),
                device(0x33, 0x33, DeviceStatus::Active, mirror.now + 10),
                device(0x34, 0x35, DeviceStatus::Active, NEVER),
                (rotation, rotated.encode()),
            ])
            .await;
        assert_eq!(judge.judge(peer(0x31), mirror.now), SERVED);
        assert_eq!(judge.judge(peer(0x32), mirror.now), Ok(Standing::Refused));
        assert_eq!(judge.judge(peer(0x33), mirror.now), SERVED);
        assert_eq!(judge.judge(peer(0x33), mirror.now + 11), Ok(Standing::Refused), "expired");
        assert_eq!(judge.judge(peer(0x35), mirror.now), SERVED, "by the key it uses now");
        assert_eq!(judge.judge(peer(0x34), mirror.now), Ok(Standing::Stranger), "a key given up");
        assert_eq!(judge.judge(peer(0x36), mirror.now), Ok(Standing::Stranger));
        assert_eq!(judge.judge(peer(1), mirror.now), Ok(Standing::Served(Group::Nodes)), "a member");
        mirror.advance(vec![device(0x31, 0x31, DeviceStatus::Revoked, mirror.now)]).await;
        assert_eq!(judge.judge(peer(0x31), mirror.now), Ok(Standing::Refused));
        assert_eq!(judge.judge(PeerId::random(), mirror.now), Ok(Standing::Refused), "no key of ours");
    }

    #[tokio::test]
    async fn a_list_serves_whom_it_names_while_they_are_not_revoked() {
        let mut mirror = Mirror::start();
        let listed = [0x31, 0x32, 0x40].map(|seed| testing::key(seed).address().0);
        let serve = Serve::AllowList(listed.into_iter().collect());
        let judge = Judge::new(serve, HashSet::new(), mirror.store.clone(), mirror.state());
        mirror
            .advance(vec![
                device(0x31, 0x31, DeviceStatus::Active, NEVER),
                device(0x32, 0x32, DeviceStatus::Revoked, mirror.now),
                device(0x33, 0x33, DeviceStatus::Active, NEVER),
            ])
            .await;
        assert_eq!(judge.judge(peer(0x31), mirror.now), SERVED);
        assert_eq!(judge.judge(peer(0x32), mirror.now), Ok(Standing::Refused));
        assert_eq!(judge.judge(peer(0x33), mirror.now), Ok(Standing::Stranger));
        assert_eq!(judge.judge(peer(0x40), mirror.now), Ok(Standing::Served(Group::Nodes)), "a key alone");
    }

    /// Where the log of the test below goes.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_misbehaviour_is_the_line_that_a_filter_is_told_to_look_for() {
        let lines = Lines::default();
        let written = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let misbehaviour = windlass_p2p::misbehaviour::Misbehaviour::default();
            misbehaviour.tell(
                Some([203, 0, 113, 9].into()),
                Some(peer(1)),
                "requests come\nip=192.0.2.1 too fast",
            );
        });
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "no peer's words make a line of their own: {log}");
        assert!(
            log.contains(" WARN windlass::misbehaviour: misbehaviour ip=203.0.113.9 peer=16Uiu2"),
            "{log}"
        );
    }
}
