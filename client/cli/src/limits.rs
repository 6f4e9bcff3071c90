//! Bounds of what the command line waits for, reads and serves, each with its unit and reason.

use std::time::Duration;

/// One JSON-RPC request. Public providers answer within a few seconds or not at all.
pub const RPC_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of one JSON-RPC answer: more than any block without its transactions, proof or contract's code.
pub const MAX_RPC_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// From sending a transaction to its receipt: some blocks of a slow chain.
pub const RECEIPT_DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks for a receipt, at first: the embedded chain makes a block at once.
pub const FIRST_POLL: Duration = Duration::from_millis(20);
/// Between two looks for a receipt, at most: half the block time of a fast chain.
pub const LAST_POLL: Duration = Duration::from_secs(1);
/// Beyond a commitment's minimum age, until the chain's clock must have got there.
pub const COMMIT_SLACK: Duration = Duration::from_secs(60);
/// Bytes of a profile.
pub const MAX_PROFILE_BYTES: u64 = 64 * 1024;
/// Bytes of a file of our own state: a head, a deployment journal.
pub const MAX_STATE_BYTES: u64 = 64 * 1024;
/// Bytes copied at a time in each direction of a stream: four chunks of it.
pub const COPY_BUFFER_BYTES: usize = 4 * (16 * 1024 - 2);
/// Streams that `publish` and `forward` serve at once; a client allows fewer per connection.
pub const MAX_STREAMS: usize = 512;
/// Datagrams of one sender that wait while its stream is opened; one more is lost.
pub const FLOW_QUEUE: usize = 64;
/// Without a datagram either way, a flow ends after this: as long as common address translators keep one.
pub const FLOW_IDLE: Duration = Duration::from_secs(120);
/// How long the other side may take to end a flow that this side has ended.
pub const FLOW_GOODBYE: Duration = Duration::from_secs(5);
/// After a refusal, until the same sender's datagrams are tried again.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Connecting to the local socket of a published service.
pub const LOCAL_CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Seconds a consent may be used when no deadline is given: time to carry it to the operator.
pub const CONSENT_LIFE: u64 = 24 * 3_600;
/// Seconds of a name's registration or renewal when no duration is given.
pub const YEAR: u64 = 365 * 24 * 3_600;
/// Between two looks at which nodes relay to a published service: only for telling.
pub const RELAYS_LOOK: Duration = Duration::from_millis(500);
