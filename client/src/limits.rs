//! The bounds of the light client, each with its unit and the reason for its size.

use std::time::Duration;

/// What one client may hold at a time. Each is from 1 to its default, which is the most there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Live streams, both ways together; each takes some kilobytes, and as much as it buffers. Default: [`LIVE_STREAMS`].
    pub live_streams: usize,
    /// Services published. Default: [`PUBLICATIONS`].
    pub publications: usize,
    /// Inbound streams being judged; each may hold a frame of 64 KiB. Default: [`JUDGING`].
    pub judging: usize,
    /// Answers kept for who asks the same again; each takes a few kilobytes. Default: [`WARM_ANSWERS`].
    pub kept_answers: usize,
    /// Nodes watched; with one alone a revocation can be withheld until max_age. Default: [`WATCHED_NODES`].
    pub watched_nodes: usize,
    /// Nodes at which a publishing device holds reservations. Default: [`RESERVATIONS`].
    pub reservations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            live_streams: LIVE_STREAMS,
            publications: PUBLICATIONS,
            judging: JUDGING,
            kept_answers: WARM_ANSWERS,
            watched_nodes: WATCHED_NODES,
            reservations: RESERVATIONS,
        }
    }
}

impl Limits {
    /// For a device with a few megabytes to spare, that serves a few callers.
    pub fn embedded() -> Self {
        Self {
            live_streams: 16,
            publications: 4,
            judging: 8,
            kept_answers: 4,
            watched_nodes: WATCHED_NODES,
            reservations: 2,
        }
    }

    /// The first that is none or too many: its name, its value, and the most it may be.
    pub(crate) fn impossible(&self) -> Option<(&'static str, usize, usize)> {
        let most = Self::default();
        [
            ("live_streams", self.live_streams, most.live_streams),
            ("publications", self.publications, most.publications),
            ("judging", self.judging, most.judging),
            ("kept_answers", self.kept_answers, most.kept_answers),
            ("watched_nodes", self.watched_nodes, most.watched_nodes),
            ("reservations", self.reservations, most.reservations),
        ]
        .into_iter()
        .find(|(_, value, most)| !(1..=*most).contains(value))
    }
}

/// Nodes that may be configured; a device needs a few, and all of them are asked in the worst case.
pub const NODES: usize = 32;

/// Addresses that may be configured for one node: TCP and QUIC, over IPv4 and IPv6, inside and outside.
pub const ADDRESSES_PER_NODE: usize = 8;

/// Time for one node's answer, its connection included. A node that is silent longer costs more than
/// asking the next one.
pub const NODE_DEADLINE: Duration = Duration::from_secs(3);

/// How long a node is waited for before the next one is asked as well, where few are configured: well above what a
/// connection to a far node takes. Where there are many it is less, so that each gets its turn in time.
pub const HEDGE_AFTER: Duration = Duration::from_secs(1);

/// Time for one verified answer, however many nodes it takes.
pub const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// Answers kept for the next open; what is in them is watched, at most 24 slots each.
pub const WARM_ANSWERS: usize = 32;

/// How long such an answer is kept after it was used last: watching costs a node a place and this device a few bytes.
pub const WARM_FOR: Duration = Duration::from_secs(300);

/// Unix seconds from which a clock counts as set on a development chain, whose spec may be dated anyhow: late 2023.
pub const DEV_CLOCK: u64 = 1_700_000_000;

/// Seconds before the chain spec was made from which a clock counts as set: it may be a little slow, not years.
pub const CLOCK_SLACK: u64 = 86_400;

/// Between two walks that strangers' heads cause: anybody can make one up, and a genuine one is rare.
pub const WALK_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks for a newer chain spec: each is a question to every node, and asked only where none is believed.
pub const RENEW_PAUSE: Duration = Duration::from_secs(10);

/// How long nodes that are behind, starting or busy are asked again: honest ones are a gossip round apart.
pub const LAG_DEADLINE: Duration = Duration::from_secs(3);

/// Pause before such nodes are asked again.
pub const LAG_PAUSE: Duration = Duration::from_millis(200);

/// What an unmeasured node's latency is taken for: behind a near node, ahead of a far one.
pub const UNMEASURED: Duration = Duration::from_millis(200);

/// Time to reach a device whose route is known, its relay included.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Time for a device to answer an open.
pub const REPLY_DEADLINE: Duration = Duration::from_secs(5);

/// Time for a caller to send its open and take the reply; slow ones hold a place meanwhile.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// Inbound streams waiting to be judged; one beyond is reset.
pub const INBOUND_QUEUE: usize = 256;

/// Inbound streams being judged at a time; each holds up to one frame of memory. Beyond, those that have said
/// nothing make room.
pub const JUDGING: usize = 256;

/// Of these, how many of one peer may have said nothing yet: twice what an honest one agrees on at a time.
pub const JUDGING_PER_PEER: usize = 64;

/// Opens to one device that are under way at a time, from wanting a stream to its answer: fewer than
/// [`JUDGING_PER_PEER`], so that none of them is taken for silence while the device catches up.
pub const ENTERING: usize = 48;

/// Opens to one device that wait for their turn; the next one is told `Busy`.
pub const WAITING_TO_ENTER: usize = 4_096;

/// How long an open waits for what another one with the same question finds out, before it asks for itself.
pub const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// Accepted streams that one publication's owner hasn't taken yet; callers beyond are told `Busy`.
pub const ACCEPT_QUEUE: usize = 64;

/// Datagrams that wait to be sent over one stream; one more is lost.
pub const DATAGRAM_QUEUE: usize = 256;

/// Bytes of these: as much as a UDP socket buffers on common systems, and room for the longest datagram.
pub const DATAGRAM_QUEUE_BYTES: usize = 128 * 1_024;

/// Services published at a time.
pub const PUBLICATIONS: usize = 64;

/// Live streams, both ways together; each may pin four slots of evidence.
pub const LIVE_STREAMS: usize = 2_048;

/// Nodes watched at a time: one alone could withhold a revocation until max_age.
pub const WATCHED_NODES: usize = 2;

/// A watched node that pushes nothing for this long is left. Members vouch anew every 20 s.
pub const WATCH_SILENCE: Duration = Duration::from_secs(60);

/// Between two changes of what a node watches for us: four a second leave its rate to questions.
pub const WATCH_CHANGE_PAUSE: Duration = Duration::from_millis(250);

/// How long a watch stream is kept with nothing to watch, for the next stream to use.
pub const WATCH_LINGER: Duration = Duration::from_secs(30);

/// Pushes that a node may send at once: a new stream's 4,096 slots take 171 of 24 each.
pub const WATCH_PUSHES: u32 = 256;

/// Time for one push more: a head every few seconds takes few of these, and each costs two signatures to verify.
pub const WATCH_PUSH_PAUSE: Duration = Duration::from_millis(100);

/// Slots dropped from one watch stream and still accepted in pushes; beyond, the stream is made anew.
pub const WATCH_DROPPED: usize = 1_024;

/// Nodes at which a publishing device holds reservations.
pub const RESERVATIONS: usize = 3;

/// Time for a node to grant a reservation.
pub const RESERVE_DEADLINE: Duration = Duration::from_secs(5);

/// Multiaddrs of itself that a node may name with a reservation; ours are chosen among these.
pub const CIRCUITS: usize = 16;

/// Multiaddrs of one node in a route: TCP and QUIC, over IPv4 and IPv6.
pub const RELAY_MULTIADDRS: usize = 4;

/// Bytes of one such multiaddr, which a node says itself.
pub const RELAY_MULTIADDR_BYTES: usize = 96;

/// Bytes of all multiaddrs of one node in a route: with three nodes it stays under the 1 KiB that others keep.
pub const RELAY_BYTES: usize = 224;

/// Life of a published route in seconds; it is published anew at half of it.
pub const ROUTE_TTL: u64 = 600;

/// Direct multiaddrs in one route: the record must stay under 1 KiB.
pub const DIRECT_ADDRESSES: usize = 4;

/// Nodes asked for a route at a time.
pub const ROUTE_FETCHES: usize = 8;

/// Time until a new publication must be reachable through at least one node.
pub const PUBLISH_DEADLINE: Duration = Duration::from_secs(20);

/// First pause after a failure; doubled each time, with jitter.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// Longest pause between attempts: ten thousand devices that come back are spread over it.
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(30);

/// Events kept for an owner that hasn't taken them; the oldest are lost beyond. A power of two.
pub const EVENTS: usize = 256;

/// Commands waiting for the network task: a few per reservation.
pub const COMMANDS: usize = 64;

/// Time for all tasks to end at shutdown; what is left then is aborted.
pub const SHUTDOWN: Duration = Duration::from_secs(5);

/// Time for a peer to answer after this machine's addresses changed.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// Peers asked at a time.
pub const PROBES: usize = 32;

/// Devices that were let in through a relay and wait to be invited to a direct way; beyond, they stay relayed until their
/// next stream.
pub const INVITATIONS: usize = 256;

/// Direct ways being tried at a time, as the inviting and as the answering side.
pub const PUNCHES: usize = 32;

/// Nodes asked where they see this device; two that disagree show a network that gives each destination another port.
pub const OBSERVERS: usize = 2;

/// How long their word counts: routers keep a mapping for at least as long.
pub const OBSERVED_FOR: Duration = Duration::from_secs(20);

/// Time to begin listening, and for a node to say where it sees this device.
pub const LISTEN_WITHIN: Duration = Duration::from_secs(1);

/// How much later than an invitation the word may come that this device was let in; both are under way at once.
pub const AUTHORISED_WITHIN: Duration = Duration::from_secs(3);

/// Time for two devices to agree on a moment, and then for their dials.
pub const PUNCH_DEADLINE: Duration = Duration::from_secs(5);

/// Attempts without a pause; then the owner is told.
pub const PUNCH_ROUNDS: u32 = 3;

/// Pause after these, doubled each time.
pub const PUNCH_PAUSE: Duration = Duration::from_secs(60);

/// The longest such pause: networks change, and a minute of it a day costs little.
pub const PUNCH_PAUSE_LONGEST: Duration = Duration::from_secs(1800);

/// Time for connections to send their last bytes at shutdown; twice, the relayed ones going first.
pub const DRAIN: Duration = Duration::from_secs(1);

/// Addresses of this device that nodes are asked to dial in one round: both families over both transports, of an interface
/// or two, and where a router or a node says it is.
pub const CONFIRMED_AT_ONCE: usize = 12;

/// Time for one node to dial one of them and say so: longer than it takes it to give up.
pub const CONFIRM_DEADLINE: Duration = Duration::from_secs(8);

/// How long the first route of a device that wants direct connections waits for what the first round finds.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

/// Between two rounds when nothing changed: a router forgets ports, and so may an address that was reached be lost.
pub const CONFIRM_EVERY: Duration = Duration::from_secs(10 * 60);

/// Streams of those who dial back at a time; anybody may open one.
pub const DIAL_BACKS: usize = 16;

/// Time in which a device in the same local network answers: many times what it takes there. It is what an open costs where
/// the device isn't.
pub const LAN_WAIT: Duration = Duration::from_millis(100);

/// How long what was found, or not, answers the next one who looks for the same device.
pub const LAN_HOLDS: Duration = Duration::from_secs(5);

/// Devices for which that is remembered.
pub const LAN_PEERS: usize = 32;

/// Interfaces on which is asked.
pub const LAN_INTERFACES: usize = 16;

/// Answers taken on one interface: there is one device, and whoever else answers isn't it.
pub const LAN_ANSWERS: usize = 3;

/// Questions about this device that it answers in a second.
pub const LAN_ANSWERS_PER_SECOND: u32 = 50;
