//! The task that owns the swarm: it polls, listens through relays, and reports which reservations stand.
//!
//! Streams and their bytes never come through here, and nothing is awaited but the swarm and the inbox. When
//! it stops it closes what is connected, so that bytes already written still arrive.

use crate::{
    events::{Event, Teller},
    limits::{CIRCUITS, COMMANDS, DRAIN},
    pool::{Node, is_quic},
};
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    identify,
    multiaddr::Protocol,
    swarm::{ConnectionId, SwarmEvent},
};
use std::collections::{HashMap, HashSet};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use windlass_p2p::swarm::{DeviceBehaviour, DeviceEvent, close_if_dead};
use windlass_p2p::{Control, Path};

/// How a reservation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reserved {
    Asked,
    /// Granted, with the circuits that the node says lead here.
    Granted(Vec<Multiaddr>),
    Lost,
}

enum Command {
    Reserve { circuit: Multiaddr, reply: oneshot::Sender<Option<Reservation>> },
    Release(ListenerId),
    Listen,
}

/// The handle of the network task.
#[derive(Clone)]
pub(crate) struct Network {
    commands: mpsc::Sender<Command>,
}

/// A reservation at one node; given up when dropped.
pub(crate) struct Reservation {
    pub(crate) state: watch::Receiver<Reserved>,
    listener: ListenerId,
    commands: mpsc::Sender<Command>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // The inbox has room for every reservation there can be; a task that is gone has none left.
        let _ = self.commands.try_send(Command::Release(self.listener));
    }
}

impl Network {
    pub(crate) fn new(
        swarm: Swarm<DeviceBehaviour>,
        control: Control,
        outlook: Outlook,
        teller: Teller,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let task = Task {
            swarm,
            control,
            inbox,
            commands: commands.downgrade(),
            reservations: HashMap::new(),
            given_up: HashSet::new(),
            is_listening: false,
            outlook,
            paths: HashMap::new(),
            teller,
        };
        (Self { commands }, task.run(stop))
    }

    /// Begins to listen for direct connections, unless it has begun before. Returns when that is asked for.
    pub(crate) async fn listen(&self) {
        // A task that is gone listens to nobody.
        let _ = self.commands.send(Command::Listen).await;
    }

    /// Asks a connected node for a reservation. `None` once the network task has stopped, or if the node's
    /// multiaddr can't carry one.
    pub(crate) async fn reserve(&self, node: &Node) -> Option<Reservation> {
        // It is connected; which of its addresses is named here makes no difference.
        let circuit = node.multiaddr().with(Protocol::P2pCircuit);
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Reserve { circuit, reply }).await.ok()?;
        answer.await.ok().flatten()
    }
}

/// What the network task tells of this device's place in the network.
pub(crate) struct Outlook {
    /// Where this device listens itself, if it does.
    pub(crate) listening: watch::Sender<Vec<Multiaddr>>,
    /// Where a router opened a port for it: nowhere, without the protocol that asks for it.
    #[cfg_attr(
        not(feature = "quic"),
        expect(dead_code, reason = "nothing is told of ports that nobody asks for")
    )]
    pub(crate) mapped: watch::Sender<Vec<Multiaddr>>,
    /// Where these nodes see this device's QUIC, by connection.
    pub(crate) observed: watch::Sender<HashMap<ConnectionId, Multiaddr>>,
    /// Relayed connections on which this device was let in; what is over is taken out.
    pub(crate) authorised: watch::Sender<HashSet<ConnectionId>>,
    /// Whose word counts.
    pub(crate) nodes: HashSet<PeerId>,
}

/// Where a device listens once it does: every interface, a port that the system chooses. An entry that the machine, or
/// what is compiled in, doesn't have is left out.
const EVERYWHERE: [&str; 4] =
    ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"];

struct Task {
    swarm: Swarm<DeviceBehaviour>,
    control: Control,
    inbox: mpsc::Receiver<Command>,
    commands: mpsc::WeakSender<Command>,
    reservations: HashMap<ListenerId, watch::Sender<Reserved>>,
    /// Given up before the node answered. The stock relay client panics at an answer whose listener is gone, so these stay
    /// until it came.
    given_up: HashSet<ListenerId>,
    is_listening: bool,
    outlook: Outlook,
    /// The best path to each connected peer, as it was told last.
    paths: HashMap<PeerId, Path>,
    teller: Teller,
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.inbox.recv() => match command {
                    Some(command) => self.execute(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        // Relayed connections first: their last bytes go through the others.
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        let is_relayed = |peer: &PeerId| self.control.connections(peer).iter().any(|c| c.path.is_relayed());
        let (relayed, direct): (Vec<PeerId>, Vec<PeerId>) = connected.into_iter().partition(is_relayed);
        self.close(&relayed).await;
        self.close(&direct).await;
    }

    /// Closes the connections with these peers and drives the swarm until they are, within [`DRAIN`].
    async fn close(&mut self, peers: &[PeerId]) {
        for peer in peers {
            // One that is gone already needs no closing.
            let _ = self.swarm.disconnect_peer_id(*peer);
        }
        let closed = async {
            while peers.iter().any(|peer| self.swarm.is_connected(peer)) {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(DRAIN, closed).await.is_err() {
            tracing::debug!(after = ?DRAIN, "gave up closing connections in order");
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Reserve { circuit, reply } => {
                // A caller that is gone drops the reservation, which releases it.
                let _ = reply.send(self.reserve(circuit));
            }
            Command::Listen => self.listen(),
            Command::Release(listener) => self.release(listener),
        }
    }

    fn release(&mut self, listener: ListenerId) {
        // One that is over already has no entry, and nothing to remove.
        match self.reservations.remove(&listener) {
            Some(state) if *state.borrow() == Reserved::Asked => drop(self.given_up.insert(listener)),
            _ => drop(self.swarm.remove_listener(listener)),
        }
    }

    fn listen(&mut self) {
        if std::mem::replace(&mut self.is_listening, true) {
            return;
        }
        for address in EVERYWHERE.iter().filter_map(|address| address.parse::<Multiaddr>().ok()) {
            if let Err(error) = self.swarm.listen_on(address.clone()) {
                tracing::debug!(%address, %error, "not listened on");
            }
        }
    }

    /// Notes where a node sees this device: it is the address of a socket that others could be answered from only over
    /// QUIC.
    fn on_identified(&mut self, connection: ConnectionId, peer: PeerId, observed: Multiaddr) {
        if self.outlook.nodes.contains(&peer) && is_quic(&observed) {
            self.outlook.observed.send_modify(|known| drop(known.insert(connection, observed)));
        }
    }

    #[cfg(feature = "quic")]
    fn on_router(&self, event: libp2p::upnp::Event) {
        use libp2p::upnp::Event as Router;
        tracing::info!(?event, "the router");
        match event {
            Router::NewExternalAddr { external_addr, .. } => {
                self.outlook.mapped.send_modify(|mapped| mapped.push(external_addr));
            }
            Router::ExpiredExternalAddr { external_addr, .. } => {
                self.outlook.mapped.send_modify(|mapped| mapped.retain(|known| *known != external_addr));
            }
            Router::GatewayNotFound | Router::NonRoutableGateway => {}
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.outlook.observed.send_if_modified(|known| known.remove(&connection).is_some());
        self.outlook.authorised.send_if_modified(|authorised| authorised.remove(&connection));
    }

    fn reserve(&mut self, circuit: Multiaddr) -> Option<Reservation> {
        let commands = self.commands.upgrade()?;
        let listener = self
            .swarm
            .listen_on(circuit.clone())
            .inspect_err(|error| tracing::warn!(%circuit, %error, "can't ask for a reservation"))
            .ok()?;
        let (sender, state) = watch::channel(Reserved::Asked);
        self.reservations.insert(listener, sender);
        Some(Reservation { state, listener, commands })
    }

    /// Tells the best path to a peer if it is another than before.
    fn tell_path(&mut self, peer: PeerId) {
        let path = self.control.connections(&peer).first().map(|best| best.path);
        let former = match path {
            Some(path) => self.paths.insert(peer, path),
            None => self.paths.remove(&peer),
        };
        if former != path {
            self.teller.tell(|| Event::Path { peer, path });
        }
    }

    fn on_event(&mut self, event: SwarmEvent<DeviceEvent>) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, .. } if self.given_up.remove(&listener_id) => {
                self.swarm.remove_listener(listener_id);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => match self.reservations.get(&listener_id) {
                Some(reservation) => reservation.send_modify(|state| match state {
                    Reserved::Granted(circuits) if circuits.len() < CIRCUITS => circuits.push(address),
                    Reserved::Granted(_) => {}
                    _ => *state = Reserved::Granted(vec![address]),
                }),
                None => self.outlook.listening.send_modify(|listening| listening.push(address)),
            },
            // A reservation's address doesn't stand among the direct ones.
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.outlook.listening.send_modify(|listening| listening.retain(|known| *known != address));
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.given_up.remove(&listener_id);
                if let Some(reservation) = self.reservations.remove(&listener_id) {
                    tracing::info!(?reason, "a reservation ended");
                    reservation.send_replace(Reserved::Lost);
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.tell_path(peer_id),
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.tell_path(peer_id);
                self.on_closed(connection_id);
            }
            SwarmEvent::Behaviour(DeviceEvent::Identify(event)) => {
                if let identify::Event::Received { connection_id, peer_id, info } = *event {
                    self.on_identified(connection_id, peer_id, info.observed_addr);
                }
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                tracing::debug!(%listener_id, %error, "a listener failed");
            }
            #[cfg(feature = "quic")]
            SwarmEvent::Behaviour(DeviceEvent::Upnp(event)) => self.on_router(event),
            SwarmEvent::Behaviour(DeviceEvent::Ping(event)) => close_if_dead(&mut self.swarm, &event),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::AsyncWriteExt;
    use std::num::NonZeroUsize;
    use std::time::Duration;
    use windlass_p2p::frame::{read_frame, write_frame};
    use windlass_p2p::swarm::{DeviceConfig, device_swarm};
    use windlass_protocol::SecretKey;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn network(key: u8) -> (Network, Control, watch::Receiver<Vec<Multiaddr>>, CancellationToken) {
        let key = SecretKey::from_bytes(&[key; 32]).unwrap();
        let (swarm, control) = device_swarm(&key, &DeviceConfig::new("test")).unwrap();
        let (listening, listens) = watch::channel(Vec::new());
        let outlook = Outlook {
            listening,
            mapped: watch::Sender::default(),
            observed: watch::Sender::default(),
            authorised: watch::Sender::default(),
            nodes: HashSet::new(),
        };
        let stop = CancellationToken::new();
        let (network, task) = Network::new(swarm, control.clone(), outlook, Teller::default(), stop.clone());
        tokio::spawn(task);
        (network, control, listens, stop)
    }

    /// A grant as the specification of circuit relay v2 has it: a status message with a reservation until 2100, and `OK`.
    fn granted(relay: &Multiaddr) -> Vec<u8> {
        let (expires, address) = ([0x08, 0x80, 0xae, 0x99, 0xa4, 0x0f], relay.to_vec());
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let reservation = [&expires[..], &[0x12, length(&address)], &address].concat();
        [&[0x08, 0x02, 0x1a, length(&reservation)], &reservation[..], &[0x28, 100]].concat()
    }

    /// A fixed bug: a node that answered late, once the device had given up, ended the device's network task.
    #[tokio::test]
    async fn an_answer_that_comes_too_late_harms_nobody() {
        let (relay, its_control, mut its_listening, its_stop) = network(1);
        relay.listen().await;
        let hop = libp2p::StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
        let mut hops = its_control.accept(hop, NonZeroUsize::MIN).unwrap();
        let is_local = |address: &&Multiaddr| address.to_string().starts_with("/ip4/127.0.0.1/tcp/");
        let known = its_listening.wait_for(|known| known.iter().any(|address| is_local(&address)));
        let at = timeout(DEADLINE, known).await.unwrap().unwrap().iter().find(is_local).unwrap().clone();
        let its_key = SecretKey::from_bytes(&[1; 32]).unwrap().public_key();
        let peer = windlass_p2p::identity::peer_id_of(&its_key);
        let dialled = at.with(Protocol::P2p(peer));
        let grant = granted(&dialled);
        let pool = crate::pool::NodePool::new(vec![dialled.clone()], Teller::default()).unwrap();
        let node = pool.ranked().remove(0);

        let (device, control, mut listening, stop) = network(2);
        control.connect(peer, vec![dialled], DEADLINE).await.unwrap();
        let reservation = device.reserve(&node).await.unwrap();
        let mut asked = timeout(DEADLINE, hops.next()).await.unwrap().unwrap();
        timeout(DEADLINE, read_frame(&mut asked)).await.unwrap().unwrap();
        drop(reservation);
        // The release was executed before this is, and its listener looked at in the round trip.
        device.listen().await;
        timeout(DEADLINE, listening.wait_for(|known| !known.is_empty())).await.unwrap().unwrap();
        let echo = libp2p::StreamProtocol::new("/echo");
        let mut echoes = its_control.accept(echo.clone(), NonZeroUsize::MIN).unwrap();
        let mut round_trip = async || {
            let opened = control.open(peer, Vec::new(), echo.clone(), DEADLINE);
            let (opened, came) =
                timeout(DEADLINE, async { tokio::join!(opened, echoes.next()) }).await.unwrap();
            drop((opened.unwrap(), came.unwrap()));
        };
        round_trip().await;
        write_frame(&mut asked, &grant).await.unwrap();
        asked.close().await.unwrap();
        round_trip().await;
        // The task still serves, and a reservation that is waited for is granted.
        let mut reservation = device.reserve(&node).await.unwrap();
        let mut asked = timeout(DEADLINE, hops.next()).await.unwrap().unwrap();
        timeout(DEADLINE, read_frame(&mut asked)).await.unwrap().unwrap();
        write_frame(&mut asked, &grant).await.unwrap();
        asked.close().await.unwrap();
        let granted = reservation.state.wait_for(|state| *state != Reserved::Asked);
        assert!(matches!(*timeout(DEADLINE, granted).await.unwrap().unwrap(), Reserved::Granted(_)));
        stop.cancel();
        its_stop.cancel();
    }
}
