//! The task that carries attestations between nodes: one stream per direction, `/windlass/head/1`.
//!
//! To each configured peer a stream is kept open; to a peer that opened one to us, we keep one back for as long.
//! Whatever the attester wants told goes out on all of them. Nothing is believed here: the attester checks
//! signatures. Members of the committee and configured peers have a place each; strangers share a few.

use super::{Heard, KnownLineage};
use crate::limits::{
    HEAD_DEADLINE, HEAD_IDLE, HEAD_MESSAGE_BURST, HEAD_MESSAGES_PER_SECOND, HEAD_STREAM_BURST,
    HEAD_STREAMS_PER_SECOND, MAX_STRANGER_HEAD_STREAMS, RECONNECT_PAUSE,
};
use crate::rate::Rates;
use futures::io::AsyncReadExt;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::{Control, Incoming, PeerStream, identity};
use windlass_protocol::message::head::{HeadMessage, MAX_HEAD_MESSAGE_BYTES};
use windlass_protocol::message::names;
use windlass_protocol::{KeyAddress, wire};

const PROTOCOL: StreamProtocol = StreamProtocol::new(names::HEAD);

/// A peer and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Who.
    pub id: PeerId,
    /// Where to dial it.
    pub addresses: Vec<Multiaddr>,
}

/// Carries attestations.
pub struct Gossip {
    link: Link,
    configured: Vec<Peer>,
    places: Places,
    /// How often a peer may open a stream.
    openings: Rates,
    /// How long a stranger may be silent.
    idle: Duration,
}

/// What the tasks of the streams share.
#[derive(Clone)]
struct Link {
    control: Control,
    told: watch::Receiver<Arc<Vec<HeadMessage>>>,
    once: broadcast::Sender<HeadMessage>,
    inbox: mpsc::Sender<Heard>,
    rates: Arc<Rates>,
}

/// How we stand to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// We keep a stream to it anyway.
    Configured,
    Member,
    Stranger,
}

/// Which task serves the stream of which peer: one each, the newest.
struct Places {
    lineage: KnownLineage,
    configured: HashSet<PeerId>,
    held: HashMap<PeerId, (Standing, AbortHandle)>,
}

impl Places {
    fn standing(&self, peer: PeerId, address: KeyAddress) -> Standing {
        match () {
            () if self.configured.contains(&peer) => Standing::Configured,
            () if self.lineage.borrow().committees().knows(&address.0) => Standing::Member,
            () => Standing::Stranger,
        }
    }

    /// Whether there is a place for one more stream. A peer's newest takes the place of its former one: a
    /// connection that broke may not have been noticed on our side yet.
    fn is_free(&self, peer: PeerId, standing: Standing) -> bool {
        let strangers = self.held.values().filter(|(standing, _)| *standing == Standing::Stranger);
        standing != Standing::Stranger
            || self.held.contains_key(&peer)
            || strangers.count() < MAX_STRANGER_HEAD_STREAMS
    }

    fn hold(&mut self, peer: PeerId, standing: Standing, task: AbortHandle) {
        if let Some((_, former)) = self.held.insert(peer, (standing, task)) {
            former.abort();
        }
    }

    fn release(&mut self, task: Id) {
        self.held.retain(|_, (_, held)| held.id() != task);
    }
}

impl Gossip {
    /// Tells `told` to peers and `inbox` what peers say.
    pub fn new(
        control: Control,
        configured: Vec<Peer>,
        lineage: KnownLineage,
        told: watch::Receiver<Arc<Vec<HeadMessage>>>,
        once: broadcast::Sender<HeadMessage>,
        inbox: mpsc::Sender<Heard>,
    ) -> Self {
        let rates = Arc::new(Rates::new(HEAD_MESSAGES_PER_SECOND, HEAD_MESSAGE_BURST));
        let ids = configured.iter().map(|peer| peer.id).collect();
        Self {
            link: Link { control, told, once, inbox, rates },
            configured,
            places: Places { lineage, configured: ids, held: HashMap::new() },
            openings: Rates::new(HEAD_STREAMS_PER_SECOND, HEAD_STREAM_BURST),
            idle: HEAD_IDLE,
        }
    }

    /// Runs until cancelled. Every stream's task ends with it.
    pub async fn run(mut self, mut incoming: Incoming, cancelled: CancellationToken) {
        let mut tasks = JoinSet::new();
        for peer in std::mem::take(&mut self.configured) {
            let link = self.link.clone();
            tasks.spawn(async move { match link.keep_telling(peer.id, peer.addresses).await {} });
        }
        loop {
            tokio::select! {
                () = cancelled.cancelled() => break,
                Some(stream) = incoming.next() => self.accept(&mut tasks, stream),
                Some(ended) = tasks.join_next_with_id() => match ended {
                    Ok((task, ())) => self.places.release(task),
                    Err(error) => self.places.release(error.id()),
                },
            }
        }
        tasks.shutdown().await;
    }

    /// Gives a stream its place; dropping it instead resets it, which tells the peer that there is none.
    fn accept(&mut self, tasks: &mut JoinSet<()>, stream: PeerStream) {
        let peer = stream.peer();
        let Ok(from) = identity::key_address_of(&peer) else { return };
        let standing = self.places.standing(peer, from);
        if !self.places.is_free(peer, standing) || !self.openings.admit(peer, Instant::now()) {
            tracing::trace!(%peer, ?standing, "no place for a stream of attestations");
            return;
        }
        let (link, idle) = (self.link.clone(), self.idle);
        let task = tasks.spawn(async move {
            match standing {
                Standing::Configured => link.listen(stream, from, None).await,
                Standing::Member => link.converse(stream, from, None).await,
                Standing::Stranger => link.converse(stream, from, Some(idle)).await,
            }
        });
        self.places.hold(peer, standing, task);
    }
}

impl Link {
    /// Listens to a peer and answers it, until it stops, breaks off or talks nonsense.
    async fn converse(&self, stream: PeerStream, from: KeyAddress, idle: Option<Duration>) {
        let peer = stream.peer();
        tokio::select! {
            () = self.listen(stream, from, idle) => {}
            // Over the connection there is.
            never = self.keep_telling(peer, Vec::new()) => match never {},
        }
    }

    /// Reads what a peer says until it stops, breaks off, talks nonsense or, if asked to, is silent.
    async fn listen(&self, mut stream: PeerStream, from: KeyAddress, idle: Option<Duration>) {
        let peer = stream.peer();
        loop {
            let read = tokio::time::timeout(idle.unwrap_or(Duration::MAX), read_frame(&mut stream));
            let Ok(Ok(frame)) = read.await else { return };
            let message = match wire::decode::<HeadMessage>(&frame, MAX_HEAD_MESSAGE_BYTES) {
                Ok(message) => message,
                Err(error) => {
                    tracing::debug!(%peer, %error, "a peer sent no message about heads: closing its stream");
                    return;
                }
            };
            self.rates.wait(peer).await;
            // Waits while the attester is busy, and so slows the peer down.
            if self.inbox.send(Heard { from: from.0, message }).await.is_err() {
                return;
            }
        }
    }

    /// Keeps a stream open to a peer, for ever, and tells it everything. Without addresses it is opened over
    /// the connection there is.
    async fn keep_telling(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Infallible {
        loop {
            match self.control.open(peer, addresses.clone(), PROTOCOL, HEAD_DEADLINE).await {
                Ok(stream) => {
                    tracing::debug!(%peer, "telling a peer about heads");
                    tell(stream, self.told.clone(), self.once.subscribe()).await;
                }
                Err(error) => tracing::debug!(%peer, %error, "a peer can't be told about heads"),
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

/// Sends what is to be told and wasn't on this stream, until the stream breaks.
async fn tell(
    stream: PeerStream,
    mut told: watch::Receiver<Arc<Vec<HeadMessage>>>,
    mut once: broadcast::Receiver<HeadMessage>,
) {
    let (mut reader, mut writer) = stream.split();
    let mut sent: Arc<Vec<HeadMessage>> = Arc::default();
    let mut unasked = [0];
    told.mark_changed();
    loop {
        let mut said = None;
        tokio::select! {
            changed = told.changed() => if changed.is_err() {
                return;
            },
            message = once.recv() => match message {
                Ok(message) => said = Some(message),
                // Whoever waits for it asks again.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            },
            // The peer says nothing on it but its end, which a write alone would miss once.
            _ = reader.read(&mut unasked) => return,
        }
        let messages = told.borrow_and_update().clone();
        for message in said.iter().chain(messages.iter().filter(|message| !sent.contains(message))) {
            let frame = wire::encode(message);
            match tokio::time::timeout(HEAD_DEADLINE, write_frame(&mut writer, &frame)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
        sent = messages;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::STREAM_QUEUE;
    use crate::network::Network;
    use crate::testing::{self, device::Device};
    use std::num::NonZeroUsize;
    use windlass_protocol::{B256, SecretKey};

    /// A node that carries attestations, with a committee of three and no configured peer.
    struct Loopback {
        node: PeerId,
        address: Multiaddr,
        members: Vec<SecretKey>,
        heard: mpsc::Receiver<Heard>,
        told: watch::Sender<Arc<Vec<HeadMessage>>>,
        cancelled: CancellationToken,
    }

    impl Loopback {
        async fn start(idle: Duration) -> Self {
            let (spec, members) = testing::spec(3);
            let listen = ["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
            let (network, control) = Network::listen(&testing::key(0x60), &listen, Vec::new()).await.unwrap();
            let (node, address) = (network.peer_id(), network.addresses()[0].clone());
            let incoming = control.accept(PROTOCOL, NonZeroUsize::new(STREAM_QUEUE).unwrap()).unwrap();
            let cancelled = CancellationToken::new();
            let (inbox, heard) = mpsc::channel(STREAM_QUEUE);
            let told = watch::Sender::new(Arc::new(vec![report(77)]));
            let mut gossip = Gossip::new(
                control,
                Vec::new(),
                testing::lineage(&spec),
                told.subscribe(),
                broadcast::Sender::new(8),
                inbox,
            );
            gossip.idle = idle;
            tokio::spawn(network.run(cancelled.clone()));
            tokio::spawn(gossip.run(incoming, cancelled.clone()));
            Self { node, address, members, heard, told, cancelled }
        }

        async fn open(&self, device: &Device) -> PeerStream {
            device.open(self.node, &self.address, names::HEAD).await
        }
    }

    impl Drop for Loopback {
        fn drop(&mut self) {
            self.cancelled.cancel();
        }
    }

    fn report(number: u64) -> HeadMessage {
        HeadMessage::Report { number, hash: B256::ZERO }
    }

    async fn say(stream: &mut PeerStream, message: HeadMessage) {
        write_frame(stream, &wire::encode(&message)).await.unwrap();
    }

    #[tokio::test]
    async fn silent_strangers_keep_no_member_from_being_heard_and_answered() {
        let mut loopback = Loopback::start(HEAD_IDLE).await;
        let flooder = Device::start(&testing::key(0x70));
        let mut held = Vec::new();
        for _ in 0..220 {
            held.push(loopback.open(&flooder).await);
        }
        let strangers: Vec<Device> = (0..MAX_STRANGER_HEAD_STREAMS as u8 + 4)
            .map(|n| Device::start(&testing::key(0x80 + n)))
            .collect();
        for stranger in &strangers {
            held.push(loopback.open(stranger).await);
        }
        let member = Device::start(&loopback.members[1]);
        let mut answers = member.control().accept(PROTOCOL, NonZeroUsize::MIN).unwrap();
        let mut stream = loopback.open(&member).await;
        say(&mut stream, report(5)).await;
        let heard = loopback.heard.recv().await.unwrap();
        assert_eq!((heard.from, heard.message), (loopback.members[1].address().0, report(5)));
        let mut answer = answers.next().await.unwrap();
        assert_eq!(read_frame(&mut answer).await.unwrap(), wire::encode(&report(77)));
    }

    #[tokio::test]
    async fn a_peer_is_answered_again_when_the_answer_broke_off() {
        let loopback = Loopback::start(HEAD_IDLE).await;
        let member = Device::start(&loopback.members[1]);
        let mut answers = member.control().accept(PROTOCOL, NonZeroUsize::MIN).unwrap();
        let _stream = loopback.open(&member).await;
        drop(answers.next().await.unwrap());
        // Something to say, so that the node meets the broken stream.
        loopback.told.send_replace(Arc::new(vec![report(78)]));
        let mut answer = answers.next().await.unwrap();
        assert_eq!(read_frame(&mut answer).await.unwrap(), wire::encode(&report(78)));
    }

    #[tokio::test]
    async fn a_silent_stranger_loses_its_place_a_silent_member_does_not() {
        let mut loopback = Loopback::start(Duration::from_millis(50)).await;
        let (stranger, member) = (Device::start(&testing::key(0x70)), Device::start(&loopback.members[2]));
        let mut silent = loopback.open(&member).await;
        let mut theirs = loopback.open(&stranger).await;
        assert!(read_frame(&mut theirs).await.is_err(), "the node says nothing on it but its end");
        say(&mut silent, report(6)).await;
        assert_eq!(loopback.heard.recv().await.unwrap().from, loopback.members[2].address().0);
    }

    #[tokio::test]
    async fn a_peers_newest_stream_is_the_one_that_counts() {
        let mut loopback = Loopback::start(HEAD_IDLE).await;
        let member = Device::start(&loopback.members[0]);
        let mut former = loopback.open(&member).await;
        say(&mut former, report(1)).await;
        loopback.heard.recv().await.unwrap();
        let mut newest = loopback.open(&member).await;
        say(&mut newest, report(2)).await;
        assert_eq!(loopback.heard.recv().await.unwrap().message, report(2));
        assert!(read_frame(&mut former).await.is_err(), "reset");
    }
}
