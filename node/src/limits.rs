//! The bounds of the node, each with its unit and the reason for its size. Those of messages and proofs are
//! in `windlass_protocol`, those of connections and streams in `windlass_p2p`.

use std::time::Duration;

/// Bytes of a configuration file; a real one has a few hundred.
pub const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// Addresses in the relay's `allow`: each takes a line of the file.
pub const MAX_ALLOWED: usize = 1_000;

/// Bytes per second that a relay may be held to at least: a handshake through it then takes a second.
pub const LEAST_RELAY_RATE: u64 = 4_096;

/// Devices whose relayed bytes `/metrics` names, those with the most; all others are summed up.
pub const METRICS_DEVICES: usize = 1_000;

/// Between two looks at the chain spec's file: whoever renews it needn't wait, and a look costs a system call.
pub const SPEC_LOOK: Duration = Duration::from_secs(10);

/// Multiaddrs in each list of the configuration.
pub const MAX_CONFIGURED: usize = 64;

/// Final headers kept: as many as EIP-2935 remembers hashes of.
pub const HEADERS_KEPT: u64 = 8_192;

/// Attested heights that stay provable, so that an answer under way outlives a few new blocks.
pub const WINDOW_HEADS: usize = 8;

/// Unfinalised blocks followed; beyond it finality has stalled for longer than a day on Ethereum.
pub const MAX_TAIL_BLOCKS: u64 = 8_192;

/// Final blocks behind which the follower fetches logs in ranges instead of block by block.
pub const CATCH_UP_BLOCKS: u64 = 128;

/// Blocks of the first range asked for, and of the largest: what common providers allow.
pub const FIRST_RANGE_BLOCKS: u64 = 2_000;
/// See [`FIRST_RANGE_BLOCKS`].
pub const MAX_RANGE_BLOCKS: u64 = 50_000;

/// Time for one answer of a chain provider.
pub const PROVIDER_DEADLINE: Duration = Duration::from_secs(10);

/// Time for each provider's word in a comparison: asked of all at once, waited for by the follower.
pub const CONFIRM_DEADLINE: Duration = Duration::from_secs(2);

/// For how long a provider that kept a comparison waiting is left out of the next ones.
pub const SILENT_REST: Duration = Duration::from_secs(60);

/// Answers in a row, each later than [`CONFIRM_DEADLINE`], after which a provider is left for another, which may be
/// quicker.
pub const SLOW_ANSWERS: u32 = 3;

/// Providers that have to call a head final before it is signed, except on a development chain; and that have to
/// contradict a mirror before it is given up.
pub const NEEDED_PROVIDERS: usize = 2;

/// Times that a block's logs may lead to another root than is proven, before the chain itself is doubted: more than there
/// are bad providers, most likely.
pub const MISMATCHES: u32 = 5;

/// Bytes of one answer of a provider: fifty thousand logs, and more than any block's.
pub const MAX_PROVIDER_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Writes of the registry in one block: more than the gas of any chain's block pays for.
pub const MAX_BLOCK_CHANGES: usize = 65_536;

/// Time between comparisons of how far the providers are.
pub const SURVEY_EVERY: Duration = Duration::from_secs(10);

/// Blocks that the preferred provider may be behind the highest in two comparisons in a row.
pub const MAX_PROVIDER_LAG: u64 = 3;

/// Time for which a provider that was wrong isn't preferred for being ahead.
pub const DISTRUST_TIME: Duration = Duration::from_secs(600);

/// The longest pause of the follower after failures.
pub const MAX_FOLLOW_PAUSE: Duration = Duration::from_secs(10);

/// Blocks whose written slots are remembered, for watchers that fall behind.
pub const RECENT_BLOCKS: usize = 256;

/// A member signs its head anew after this long: well under the 20 s that others may count on.
pub const RESIGN_EVERY: Duration = Duration::from_secs(10);

/// Epochs whose head of the second half is kept for devices that slept: three weeks of the shortest epochs there are on
/// development chains, and longer than any trusting period elsewhere. Each takes a few thousand bytes.
pub const STEPS_KEPT: u32 = 512;

/// Epochs that a kept head proves to be without a change before its own: a device that comes from anywhere in between
/// finds one, and chains may stand still for as long.
pub const STEP_EPOCHS: u32 = 8;

/// Heads that are asked of peers in one go, where this node lost what it kept or was away: each is a request.
pub const RECOVERED_PER_ROUND: u32 = 32;

/// Pauses between two rounds of asking peers for kept heads: the first, and what doubling it leads to. Who has none now will
/// hardly have one later.
pub const FIRST_RECOVERY_PAUSE: Duration = Duration::from_secs(5);
/// See [`FIRST_RECOVERY_PAUSE`].
pub const LAST_RECOVERY_PAUSE: Duration = Duration::from_secs(900);

/// Changes of committee whose lists are remembered: one a day for eleven years.
pub const COMMITTEES_KEPT: usize = 4_096;

/// Pause before the chain is asked again for the list of a committee.
pub const LIST_PAUSE: Duration = Duration::from_secs(1);

/// Challenges of devices under way at a time; each is a frame to every member and a signature of each.
pub const CHALLENGES_UNDER_WAY: usize = 64;

/// Time for members to sign a device's nonce: a round trip between nodes, and then some.
pub const CHALLENGE_DEADLINE: Duration = Duration::from_secs(2);

/// Challenges per second and peer: one in 10 s. Each makes every member sign.
pub const CHALLENGES_PER_SECOND: f64 = 0.1;

/// Challenges per second of all strangers together, and how many at once: peer ids cost nothing.
pub const ALL_CHALLENGES_PER_SECOND: f64 = 16.0;
/// See [`ALL_CHALLENGES_PER_SECOND`].
pub const ALL_CHALLENGES_BURST: f64 = 32.0;

/// What is said to peers once and waits for their streams to take it; a slow one misses the oldest.
pub const SAID_ONCE: usize = 256;

/// Attestable heights below our own final one for which attestations are collected; of each member twice as
/// many in all, for a node that is behind.
pub const COLLECTED_HEADS: u64 = 64;

/// Our own newest heads whose attestations are told to peers.
pub const TOLD_HEADS: usize = 4;

/// Streams of attestations of peers that are neither configured nor in the committee, one each. Those that are
/// have a place of their own, so strangers can't keep a node from its committee.
pub const MAX_STRANGER_HEAD_STREAMS: usize = 32;

/// Time in which a stranger's stream of attestations has to say something.
pub const HEAD_IDLE: Duration = Duration::from_secs(60);

/// Streams of attestations a peer may open per second, and how many at once. The newest replaces the one before.
pub const HEAD_STREAMS_PER_SECOND: f64 = 1.0;
/// See [`HEAD_STREAMS_PER_SECOND`].
pub const HEAD_STREAM_BURST: f64 = 8.0;

/// Seconds that a member's clock may be ahead of ours. Clients take a minute: what we pass on has to pass also
/// where a clock is behind ours.
pub const MAX_MEMBER_CLOCK_SKEW: u64 = 5;

/// Messages about heads waiting for the attester. Readers wait when it is full.
pub const HEAD_INBOX: usize = 256;

/// Messages about heads per second and peer, and how many at once. Each costs a signature recovery, and a
/// peer that is slowed down sends its newest and skips what is outdated.
pub const HEAD_MESSAGES_PER_SECOND: f64 = 50.0;
/// See [`HEAD_MESSAGES_PER_SECOND`].
pub const HEAD_MESSAGE_BURST: f64 = 200.0;

/// Time for a stream of attestations to open, and for one of its frames to be written.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Pause before a configured peer is tried again.
pub const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// New streams of one protocol waiting to be taken; a stream beyond it is reset. They are taken as fast as they come, so
/// this covers a moment without a free thread: a second's worth of devices that all come back.
pub const STREAM_QUEUE: usize = 2_048;

/// Requests of one protocol answered at a time; each holds one thread for as long as its proofs take.
pub const CONCURRENT_REQUESTS: usize = 256;

/// Streams of one protocol on which a request is awaited or answered. Waiting takes no thread.
pub const REQUEST_STREAMS: usize = 4_096;

/// Those of one peer: a whole burst of requests, so that each gets its answer or is told to slow down.
pub const REQUEST_STREAMS_PER_PEER: usize = 64;

/// Requests on one stream of routes; who has more opens another.
pub const ROUTE_REQUESTS_PER_STREAM: usize = 64;

/// Questions, route and watch messages per second and peer, and how many at once.
pub const REQUESTS_PER_SECOND: f64 = 20.0;
/// See [`REQUESTS_PER_SECOND`].
pub const REQUEST_BURST: f64 = 60.0;

/// Peers whose rate is remembered until they may send a whole burst again. While all of them are at it, a
/// newcomer has to wait.
pub const RATED_PEERS: usize = 65_536;

/// Time for a request to arrive, and for its answer to be taken.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// Watching streams at a time: every device of a full node, and callers.
pub const MAX_WATCHERS: usize = 65_536;

/// Watching streams of one peer: one, and those of connections that broke and weren't noticed yet.
pub const WATCHES_PER_PEER: usize = 4;

/// Time for a watcher to take one push; a slower one is dropped and may come back.
pub const PUSH_DEADLINE: Duration = Duration::from_secs(20);

/// Watch messages of one client waiting while its proofs are pushed.
pub const WATCH_INBOX: usize = 2;

/// Routes kept: as many as reservations.
pub const MAX_ROUTES_KEPT: usize = 65_536;

/// Time between sweeps of expired routes.
pub const ROUTE_SWEEP: Duration = Duration::from_secs(60);

/// Time for the swarm to report its listening addresses.
pub const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// Time for each task to end at shutdown; after it, it is aborted.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of a snapshot before its rows: a header and an account proof have a few thousand.
pub const MAX_SNAPSHOT_HEAD_BYTES: usize = 64 * 1024;

/// Rows of a snapshot: they are checked and written as one batch, in memory.
pub const MAX_SNAPSHOT_ROWS: u64 = 1 << 24;

/// Seconds after its last signature within which a member counts as signing: what others may count on.
pub const ATTESTING_AGE: u64 = 20;

/// Seconds after which a head that nobody vouched for again makes the node unhealthy: what strict clients take.
pub const HEALTHY_AGE: u64 = 90;

/// Bytes of memory for what was read of the data directory lately, if the configuration doesn't say otherwise: a registry
/// of a million slots fits.
pub const STORE_CACHE_BYTES: usize = 384 * 1024 * 1024;

/// The least that may be configured: indices and filters of a small registry.
pub const LEAST_STORE_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Nibbles of the paths whose trie nodes are kept in memory besides: five levels, 69,905 trie nodes of 532 bytes at
/// most, 45 MB with what holds them. From a million slots on every proof has all five.
pub const CACHED_TRIE_NIBBLES: usize = 4;

/// Entries of the past that one block's batch prunes: a few megabytes, and far more than a block adds.
pub const PRUNED_AT_ONCE: usize = 50_000;

/// Bytes of a batch that takes the mirror back or brings it to another schema.
pub const REWRITTEN_AT_ONCE: usize = 4 * 1024 * 1024;

/// Ranges of logs that wait to be applied while the next one is fetched: a few megabytes.
pub const RANGES_AHEAD: usize = 1;

/// Ranges for which a provider's refusal of a larger one is remembered: what blocks hold changes.
pub const REFUSAL_HOLDS: u32 = 32;

/// Pause of a mirror that is built beside, once it has caught up and waits to be proven.
pub const BESIDE_PAUSE: Duration = Duration::from_millis(500);

/// Attempts to have a member convicted: more than bad moments of a chain, and each costs a fee at most.
pub const REPORT_ATTEMPTS: u32 = 5;

/// Between two looks at what evidence there is, and at what became of it.
pub const EVIDENCE_PAUSE: Duration = Duration::from_secs(5);

/// Time for a report to get into a block before it counts as lost for now.
pub const INCLUSION_DEADLINE: Duration = Duration::from_secs(120);

/// Registered nodes that are remembered with their addresses: four times what a network of ten million devices has, and
/// each paid a stake to be one. Two megabytes.
pub const NODES_KNOWN: usize = 4_096;

/// Nodes that hold a device's route besides the one it was published at: the nearest to it. Any one of them is enough.
pub const ROUTE_HOLDERS: usize = 4;

/// Nodes asked at a time in one walk: all that may hold the route, so that a dead one costs no time of its own.
pub const WALK_AT_ONCE: usize = 4;

/// Nodes asked in one walk at most; a thousand nodes take fewer than ten.
pub const WALK_NODES: usize = 24;

/// Time for one node's answer in a walk, its connection included.
pub const WALK_STEP: Duration = Duration::from_millis(1_000);

/// Time for a walk: well within the three seconds that a client gives the node it asks.
pub const WALK_DEADLINE: Duration = Duration::from_secs(2);

/// For how long a walk that found a route waits for a newer one from those that were asked with it.
pub const WALK_GRACE: Duration = Duration::from_millis(200);

/// Time for a route to be put where it belongs: nobody waits for it.
pub const PLACE_DEADLINE: Duration = Duration::from_secs(10);

/// Walks per second for one peer, and for one network (/24 or /56), and how many at once: each costs other nodes' time.
pub const WALKS_PER_SECOND: f64 = 1.0;
/// See [`WALKS_PER_SECOND`].
pub const WALK_BURST: f64 = 4.0;

/// Walks under way at a time; beyond it who asks is told that the node is busy.
pub const WALKS_AT_ONCE: usize = 64;

/// Callers that wait for one walk; more ask again.
pub const WALK_WAITERS: usize = 64;

/// Wishes for walks that wait for the task, and routes that wait to be placed. A route beyond is placed when its device
/// publishes the next one.
pub const WALK_INBOX: usize = 1_024;

/// Routes being placed at a time.
pub const PLACES_AT_ONCE: usize = 16;

/// For how long the outcome of a walk answers the next caller: a route that was found, and that there is none. Short, since
/// a device may come up, or move, at any time.
pub const FOUND_HOLDS: Duration = Duration::from_secs(10);
/// See [`FOUND_HOLDS`].
pub const NOT_FOUND_HOLDS: Duration = Duration::from_secs(3);

/// Outcomes of walks remembered: at most 4 MiB.
pub const OUTCOMES_KEPT: usize = 4_096;

/// Between two greetings of the nodes nearest to this one, and of some others: how late a node may be to hear of a new one.
pub const GREET_EVERY: Duration = Duration::from_secs(60);

/// The same while no other node has answered.
pub const GREET_PAUSE: Duration = Duration::from_secs(1);

/// Failures in a row after which a node that nobody configured is forgotten; it greets when it is back.
pub const NODE_FAILURES: u32 = 3;

/// For how long a node that failed is asked only where there is nobody else.
pub const NODE_REST: Duration = Duration::from_secs(30);

/// Questions and routes per second of one registered node, and how many at once: a node of ten thousand devices has 33 new
/// routes a second, and after its restart all of them at once.
pub const NODE_REQUESTS_PER_SECOND: f64 = 200.0;
/// See [`NODE_REQUESTS_PER_SECOND`].
pub const NODE_REQUEST_BURST: f64 = 2_000.0;

/// The same for peers that aren't known to be nodes: each question costs a look at the mirror.
pub const STRANGER_NODE_REQUESTS_PER_SECOND: f64 = 0.5;
/// See [`STRANGER_NODE_REQUESTS_PER_SECOND`].
pub const STRANGER_NODE_REQUEST_BURST: f64 = 8.0;
