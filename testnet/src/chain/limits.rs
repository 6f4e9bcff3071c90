//! Bounds of everything a client of the chain can send or make it keep, each with its unit and reason.

/// Blocks whose state can be read and proven, the newest included: as many as EIP-2935 remembers hashes of.
pub(crate) const STATE_WINDOW_BLOCKS: u64 = 8_192;

/// Bytes of one request body: what geth takes, and room for a batch of large contract creations.
pub(crate) const MAX_REQUEST_BYTES: usize = 5 * 1024 * 1024;

/// Calls in one batch: as many as geth takes.
pub(crate) const MAX_BATCH_CALLS: usize = 1_000;

/// Transactions waiting in the pool: a load generator's minute at 1,000 per second.
pub(crate) const MAX_POOLED_TRANSACTIONS: usize = 65_536;

/// Bytes of all transactions waiting in the pool, encoded: 2,048 of the largest.
pub(crate) const MAX_POOLED_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of one encoded transaction: what geth's pool takes.
pub(crate) const MAX_TRANSACTION_BYTES: usize = 128 * 1024;

/// Bytes of code that creates a contract (EIP-3860).
pub(crate) const MAX_INITCODE_BYTES: usize = 49_152;

/// Logs in one answer; a client that gets the error asks for fewer blocks at a time.
pub(crate) const MAX_LOGS_PER_ANSWER: usize = 20_000;

/// Addresses, or alternatives at one topic, in one log filter.
pub(crate) const MAX_FILTER_ALTERNATIVES: usize = 1_000;

/// Blocks of one fee history: what geth takes.
pub(crate) const MAX_FEE_HISTORY_BLOCKS: u64 = 1_024;

/// Percentiles of one fee history: what geth takes.
pub(crate) const MAX_FEE_PERCENTILES: usize = 100;

/// Storage keys of one `eth_getProof`: what geth takes.
pub(crate) const MAX_PROOF_KEYS: usize = 1_024;

/// Blocks one `evm_mine` or one reorg makes.
pub(crate) const MAX_BLOCKS_PER_CALL: u64 = 10_000;

/// Blocks kept by hash after a reorg took them off the chain, so that a follower can still ask for them.
pub(crate) const MAX_ORPHANS: usize = 1_024;

/// Gas of one transaction (EIP-7825).
pub(crate) const MAX_TRANSACTION_GAS: u64 = 16_777_216;

/// Seconds a shutdown waits for requests under way.
pub(crate) const SHUTDOWN_SECONDS: u64 = 2;

/// Events kept for subscriptions and filters: as many as transactions wait, so that one that polls between
/// two blocks misses none of them.
pub(crate) const MAX_FEED_EVENTS: usize = MAX_POOLED_TRANSACTIONS;

/// Bytes of the transactions and logs in those events: as many as may wait, once more. An event that is
/// larger by itself is kept until the next one.
pub(crate) const MAX_FEED_BYTES: usize = MAX_POOLED_BYTES;

/// Filters installed at a time: far more than the tools of one developer install.
pub(crate) const MAX_FILTERS: usize = 1_024;

/// Seconds after which a filter that nobody polls is forgotten: as many as geth waits.
pub(crate) const FILTER_EXPIRY_SECONDS: u64 = 300;

/// WebSocket connections at a time, each of which costs a task and its buffers.
pub(crate) const MAX_CONNECTIONS: usize = 256;

/// Subscriptions of one WebSocket connection.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 64;

/// Events one WebSocket connection is told of before its next request is looked at.
pub(crate) const MAX_EVENTS_PER_TURN: usize = 256;

/// Seconds a WebSocket connection may take to read one message before it is dropped.
pub(crate) const SLOW_READER_SECONDS: u64 = 5;

/// Bytes of the answers to one batch: what geth gives.
pub(crate) const MAX_BATCH_ANSWER_BYTES: usize = 25_000_000;

/// Bytes of memory for what was read from the store lately.
pub(crate) const STORE_BLOCK_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of writes that the store holds in memory before it sorts them into a file; up to three such
/// buffers at once.
pub(crate) const STORE_WRITE_BUFFER_BYTES: usize = 32 * 1024 * 1024;

/// Contracts' codes kept analysed, 24 KiB each at most (EIP-170).
pub(crate) const MAX_CACHED_CODES: usize = 1_024;

/// Transactions in the newest blocks that are kept in memory, the newest block always being so.
pub(crate) const MAX_RECENT_TRANSACTIONS: usize = 16_384;

/// Newest blocks kept in memory: those that clients ask for most.
pub(crate) const MAX_RECENT_BLOCKS: usize = 256;

/// Older blocks kept in memory after somebody asked for them: clients ask for a block's transactions one
/// after the other.
pub(crate) const MAX_VISITED_BLOCKS: usize = 4;
/// Accounts impersonated at a time.
pub(crate) const MAX_IMPERSONATED: usize = 4_096;

/// Snapshots kept at a time; the oldest goes when there is one more.
pub(crate) const MAX_SNAPSHOTS: usize = 1_024;

/// Seconds since 1970 that time travel ends at, the year 9999: later timestamps break programs that print
/// them, and sums of them must not overflow.
pub(crate) const MAX_TIMESTAMP: u64 = 253_402_300_799;

/// Calls within calls that a trace tells of: what a JSON library reads without overflowing its stack.
pub(crate) const MAX_TRACE_DEPTH: usize = 256;

/// Bytes of input, output and logs in one trace: data that costs the caller nothing to pass on again and
/// again costs memory here.
pub(crate) const MAX_TRACE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of one typed message (EIP-712) to sign: as many as a transaction has at most.
pub(crate) const MAX_TYPED_DATA_BYTES: usize = 128 * 1024;

/// Seconds between two blocks at most: longer intervals are typing mistakes.
pub(crate) const MAX_INTERVAL_SECONDS: u64 = 86_400;

/// Names with faults of their own: more providers than any test needs.
pub(crate) const MAX_FAULT_SETS: usize = 256;

/// Bytes of such a name, which becomes part of a path.
pub(crate) const MAX_FAULT_NAME_BYTES: usize = 64;

/// Milliseconds a faulty provider delays what it says: longer than any client waits.
pub(crate) const MAX_FAULT_DELAY_MILLISECONDS: u64 = 60_000;
