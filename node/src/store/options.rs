//! How RocksDB is set up: what it compresses, filters and holds in memory. Never what is in it.

use super::family::Family;
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DataBlockIndexType, Options};

/// Of the directory as a whole.
pub(super) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // RocksDB's own log, which nobody reads unless something is wrong.
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options.set_max_total_wal_size(64 * 1024 * 1024);
    options
}

/// The memory that all families share for what was read lately, indices and filters included.
pub(super) fn cache(bytes: usize) -> Cache {
    Cache::new_lru_cache(bytes)
}

/// Of one family.
pub(super) fn family(family: Family, cache: &Cache) -> Options {
    let mut options = Options::default();
    // Two write buffers at most of each: slots and trie hold 64 MiB at worst, and as much again while a mirror is
    // built beside; the others 4 MiB each.
    let bytes = match family {
        Family::Slot | Family::Trie => 16 * 1024 * 1024,
        _ => 2 * 1024 * 1024,
    };
    options.set_write_buffer_size(bytes);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    match family {
        // Point reads, and hashes, which don't compress.
        Family::Slot | Family::Trie => {
            options.set_compression_type(DBCompressionType::None);
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.05);
            blocks.set_bloom_filter(10.0, false);
            blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        }
        _ => options.set_compression_type(DBCompressionType::Lz4),
    }
    // Whoever asks for a trie node knows from its parent that it is there.
    options.set_optimize_filters_for_hits(family == Family::Trie);
    options.set_block_based_table_factory(&blocks);
    options
}

/// Of a family that only an older release, or a newer one, knows.
pub(super) fn former() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(2 * 1024 * 1024);
    options
}
