//! Bringing a directory that an older release wrote to the present schema: a list of steps, each from one schema to the
//! next.
//!
//! A step moves what is there in bounded batches, and takes out of the old place in the same batch what it put into the
//! new one: what is left to do is what is left there, so a process that dies goes on where it was. The last batch of a
//! step writes the new schema's number with it.

use super::column::{Column, Schema};
use super::family::{Family, SCHEMA};
use super::version::{self, Former};
use super::{Batch, Cursor, Durability, Floor, Store, StoreError};
use crate::limits::REWRITTEN_AT_ONCE;
use rocksdb::{Direction, IteratorMode};
use windlass_protocol::trie::NibblePath;

/// Asked after each batch; ending there is what a kill does.
type GoOn<'a> = &'a mut dyn FnMut() -> bool;

/// Says whether it came to its end; what goes into the last batch is put there.
type Step = fn(&Store, &mut Batch<'_>, GoOn<'_>) -> Result<bool, StoreError>;

/// From which schema each leads to the next one.
const STEPS: [(u64, Step); 1] = [(1, apart)];

/// Families that older schemas had and the present one doesn't.
const FORMER: [&str; 7] = ["header", "slot", "trie", "stale", "tail", "index", "account"];

/// Whether a directory of this schema can be used.
pub(super) fn leads_from(found: u64) -> bool {
    found == SCHEMA || STEPS.iter().any(|(from, _)| *from == found)
}

/// Takes all steps from the schema that was found; says whether they came to their end.
pub(super) fn run(store: &Store, found: u64, go_on: GoOn<'_>) -> Result<bool, StoreError> {
    for (from, step) in STEPS {
        if from < found {
            continue;
        }
        tracing::info!(from, to = from + 1, "bringing the data directory to a newer schema");
        let mut batch = store.batch();
        if !step(store, &mut batch, go_on)? {
            return Ok(false);
        }
        batch.put::<Schema>(&(), &(from + 1));
        batch.commit(Durability::Disk)?;
    }
    for name in FORMER {
        if store.db.cf_handle(name).is_some() {
            store.db.drop_cf(name).map_err(|error| store.disk(error))?;
        }
    }
    Ok(true)
}

/// An entry of an older schema.
type Entry = (Box<[u8]>, Box<[u8]>);

/// From 1 to 2. Slots and trie nodes had every version under one key and its inverted height; now the newest stands by
/// itself and what it replaced lies in the past. Cursor and floor move to the mirror they are about.
fn apart(store: &Store, last: &mut Batch<'_>, go_on: GoOn<'_>) -> Result<bool, StoreError> {
    let meta = store.family(Family::Meta);
    for key in [Cursor::key(&()), Floor::key(&())] {
        if let Some(value) = store.db.get_cf(&meta, &key).map_err(|error| store.disk(error))? {
            last.put_raw(Family::Mark, &key, &value);
            last.delete_raw(Family::Meta, &key);
        }
    }
    let floor = store.db.get_cf(&meta, Floor::key(&())).map_err(|error| store.disk(error))?;
    let lowest = floor.and_then(|bytes| Floor::decode(&bytes)).unwrap_or_default();
    let slot = |prefix: &[u8]| (prefix.len() == 32).then(|| prefix.to_vec());
    let trie = |prefix: &[u8]| Some(version::trie_key(&NibblePath::from_bytes(prefix.get(32..)?)?));
    let put = |batch: &mut Batch<'_>, family: Family, key: Option<Vec<u8>>, versions: &[Entry]| {
        let put = key.and_then(|key| put_versions(batch, family, &key, versions, lowest));
        put.ok_or_else(|| store.damaged(family))
    };
    let whole = drain(store, "slot", 8, go_on, |batch, prefix, versions| {
        put(batch, Family::Slot, slot(prefix), versions)
    })? && drain(store, "trie", 8, go_on, |batch, prefix, versions| {
        put(batch, Family::Trie, trie(prefix), versions)
    })?;
    if !whole {
        return Ok(false);
    }
    for (from, family) in [("header", Family::Header), ("tail", Family::Tail), ("account", Family::Account)] {
        let moved = drain(store, from, 0, go_on, |batch, key, entries| {
            entries.iter().for_each(|(_, value)| batch.put_raw(family, key, value));
            Ok(())
        })?;
        if !moved {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts what the versions of one key, newest first, come to. `None` says that they are damaged.
fn put_versions(
    batch: &mut Batch<'_>,
    family: Family,
    key: &[u8],
    versions: &[Entry],
    floor: u64,
) -> Option<()> {
    let height = |version: &Entry| {
        let inverted = version.0.get(version.0.len().checked_sub(8)?..)?;
        Some(!u64::from_be_bytes(inverted.try_into().ok()?))
    };
    for (index, version) in versions.iter().enumerate() {
        let (at, bytes) = (height(version)?, &version.1);
        let removed = bytes.is_empty();
        if index == 0 && !(removed && at <= floor) {
            batch.put_raw(family, key, &version::standing(at, bytes));
        }
        // What was there before matters only to who reads below.
        if at <= floor {
            break;
        }
        let before = versions.get(index + 1);
        let stood = before.map(|before| Some(version::standing(height(before)?, &before.1)));
        let stood = match stood {
            Some(stood) => Some(stood?),
            None => None,
        };
        let former = Former { removed, stood: stood.as_deref() };
        batch.put_raw(Family::Past, &version::past_key(at, family, key), &former.encode());
    }
    Some(())
}

/// Moves all entries of a former family, those that differ only in their last `suffix` bytes together; says whether it
/// came to the end.
fn drain(
    store: &Store,
    from: &str,
    suffix: usize,
    go_on: GoOn<'_>,
    mut put: impl FnMut(&mut Batch<'_>, &[u8], &[Entry]) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let Some(family) = store.db.cf_handle(from) else { return Ok(true) };
    let mut after: Vec<u8> = Vec::new();
    loop {
        let mut batch = store.batch();
        let mut group: Vec<Entry> = Vec::new();
        let mut more = false;
        for entry in store.db.iterator_cf(&family, IteratorMode::From(&after, Direction::Forward)) {
            let (key, value) = entry.map_err(|error| store.disk(error))?;
            if let Some((last, _)) = group.last()
                && prefix(last, suffix) != prefix(&key, suffix)
            {
                put(&mut batch, prefix(last, suffix), &group)?;
                after = next(last);
                group.clear();
                more = batch.bytes() > REWRITTEN_AT_ONCE;
                if more {
                    break;
                }
            }
            group.push((key, value));
        }
        if let Some((last, _)) = group.last().filter(|_| !more) {
            put(&mut batch, prefix(last, suffix), &group)?;
            after = next(last);
        }
        batch.delete_up_to(&family, &after);
        batch.commit(Durability::Process)?;
        if !go_on() {
            return Ok(false);
        }
        if !more {
            return Ok(true);
        }
    }
}

fn prefix(key: &[u8], suffix: usize) -> &[u8] {
    &key[..key.len().saturating_sub(suffix)]
}

/// The key right after this one.
fn next(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Accounts, Headers, Position, Signed, SpecHash, Tail, TailBlock, View};
    use super::*;
    use crate::limits::STORE_CACHE_BYTES;
    use crate::store::column::Word;
    use crate::testing;
    use rocksdb::{DB, Options};
    use std::collections::BTreeMap;
    use std::path::Path;
    use windlass_protocol::spec::VerifiedSpec;
    use windlass_protocol::trie::{self, MemoryStore, NodeStore, TrieId};
    use windlass_protocol::{B256, Bytes, keccak256};

    /// Slots of the fixture: their trie nodes take several batches.
    const SLOTS: u64 = 30_000;
    /// The lowest height that it can be read at, and the highest.
    const HEIGHTS: std::ops::RangeInclusive<u64> = 4..=6;

    fn word(number: u64) -> B256 {
        keccak256(number.to_be_bytes())
    }

    /// What block `height` writes: everything at first, then a few, some of them deleted and set again.
    fn changes(height: u64) -> BTreeMap<B256, B256> {
        let last = if height == 4 { SLOTS } else { 600 };
        let value = |slot: u64| match (slot + height).is_multiple_of(3) && height > 4 {
            true => B256::ZERO,
            false => B256::left_padding_from(&(slot * 8 + height).to_be_bytes()),
        };
        (0..last).map(|slot| (word(slot), value(slot))).collect()
    }

    /// Trie nodes in memory, and which the last update wrote.
    #[derive(Default)]
    struct Noted {
        store: MemoryStore,
        written: BTreeMap<NibblePath, Vec<u8>>,
    }

    impl NodeStore for Noted {
        type Error = std::convert::Infallible;
        fn load(&self, trie: TrieId, path: &NibblePath) -> Result<Option<Vec<u8>>, Self::Error> {
            self.store.load(trie, path)
        }
        fn store(&mut self, trie: TrieId, path: &NibblePath, node: Option<&[u8]>) -> Result<(), Self::Error> {
            self.written.insert(*path, node.unwrap_or_default().to_vec());
            self.store.store(trie, path, node)
        }
    }

    /// The roots and slots of each height of the fixture.
    struct Fixture {
        roots: BTreeMap<u64, B256>,
        slots: BTreeMap<u64, BTreeMap<B256, B256>>,
    }

    fn former_key(prefix: &[u8], height: u64) -> Vec<u8> {
        [prefix, &(!height).to_be_bytes()].concat()
    }

    /// A directory as the first schema had it.
    fn write_schema_1(path: &Path, spec: &VerifiedSpec) -> Fixture {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let node = ["meta", "route", "head", "ticket"];
        let db = DB::open_cf(&options, path, node.iter().chain(&FORMER)).unwrap();
        let put = |family: &str, key: &[u8], value: &[u8]| {
            db.put_cf(&db.cf_handle(family).unwrap(), key, value).unwrap();
        };
        let trie = keccak256(spec.contracts.registry.address);
        let (mut noted, mut state) = (Noted::default(), BTreeMap::new());
        let mut fixture = Fixture { roots: BTreeMap::new(), slots: BTreeMap::new() };
        for height in HEIGHTS {
            let changes = changes(height);
            noted.written.clear();
            let leaves = changes.iter().map(|(slot, value)| (keccak256(slot), trie::slot_change(value)));
            let root = trie::update(&mut noted, trie, &leaves.collect()).unwrap();
            for (slot, value) in &changes {
                let bytes: &[u8] = if value.is_zero() { &[] } else { value.as_slice() };
                put("slot", &former_key(slot.as_slice(), height), bytes);
            }
            for (path, node) in &noted.written {
                put("trie", &former_key(&[trie.as_slice(), &path.to_bytes()].concat(), height), node);
            }
            put("header", &height.to_be_bytes(), &[height as u8]);
            put("account", &height.to_be_bytes(), &Accounts::encode(&vec![Bytes::from(vec![height as u8])]));
            state.extend(changes);
            fixture.roots.insert(height, root);
            fixture.slots.insert(height, state.clone());
        }
        // Pruned up to the lowest: versions that were replaced there are gone already, as here none was written before.
        let tail = TailBlock { header: vec![7].into(), changes: Vec::new(), account: None };
        put("tail", &7u64.to_be_bytes(), &Tail::encode(&tail));
        put("meta", b"schema", &Schema::encode(&1));
        put("meta", b"spec", &SpecHash::encode(&Word(spec.hash())));
        put("meta", b"cursor", &Cursor::encode(&position()));
        put("meta", b"floor", &Floor::encode(HEIGHTS.start()));
        put("head", b"signed", &Signed::encode(&position()));
        fixture
    }

    fn position() -> Position {
        Position { number: *HEIGHTS.end(), hash: word(6) }
    }

    fn check(store: &Store, fixture: &Fixture) {
        assert_eq!(store.schema().unwrap(), Some(SCHEMA));
        assert_eq!(
            (store.cursor().unwrap(), store.get::<Signed>(&()).unwrap()),
            (Some(position()), Some(position()))
        );
        assert_eq!(store.tail().unwrap().len(), 1);
        assert_eq!(store.proven_heights(0).unwrap(), HEIGHTS.collect::<Vec<_>>());
        for height in HEIGHTS {
            let view = View::new(store, height, store.generation());
            assert_eq!(view.root().unwrap(), fixture.roots[&height], "the root at {height}");
            for slot in (0..SLOTS).filter(|slot| *slot < 700 || slot.is_multiple_of(97)) {
                let expected = fixture.slots[&height].get(&word(slot)).copied().unwrap_or_default();
                assert_eq!(view.value(&word(slot)).unwrap(), expected, "slot {slot} at {height}");
            }
            assert!(store.get::<Headers>(&height).unwrap().is_some());
            view.check().unwrap();
        }
        assert!(View::new(store, 3, 0).check().is_err(), "nothing is readable that wasn't");
        assert!(FORMER.iter().all(|name| store.db.cf_handle(name).is_none()), "the former families are gone");
    }

    #[test]
    fn a_directory_of_the_first_schema_is_brought_up_to_date_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let (spec, _) = testing::spec(3);
        let fixture = write_schema_1(directory.path(), &spec);
        let read_only = Store::open_read_only(directory.path(), &spec).err().unwrap();
        assert!(matches!(read_only, StoreError::Older(_)), "{read_only}");
        let store = Store::open(directory.path(), &spec).unwrap();
        check(&store, &fixture);
        // What comes on top, and what is taken off again, is as if it had never been otherwise.
        let block = |number: u64| super::super::FinalBlock {
            position: Position { number, hash: word(number) },
            header: vec![7].into(),
            changes: changes(number).into_iter().collect(),
            account: None,
        };
        store.apply(&block(7), 4, Durability::Process).unwrap();
        store.rewind_to(Position { number: 4, hash: word(4) }).unwrap();
        let view = |height| View::new(&store, height, store.generation()).root().unwrap();
        assert_eq!((view(4), view(9)), (fixture.roots[&4], fixture.roots[&4]));
        store.apply(&block(5), 5, Durability::Process).unwrap();
        assert_eq!(view(5), fixture.roots[&5]);
    }

    /// Cut after every number of batches there is, and gone on from there.
    #[test]
    fn a_migration_goes_on_wherever_it_was_cut() {
        let (spec, _) = testing::spec(3);
        let mut cut_after = 1;
        loop {
            let directory = tempfile::tempdir().unwrap();
            let fixture = write_schema_1(directory.path(), &spec);
            let store = Store::open_raw(directory.path(), &spec, STORE_CACHE_BYTES).unwrap();
            let mut batches = 0;
            let whole = store
                .bring_up_to_date(&mut || {
                    batches += 1;
                    batches < cut_after
                })
                .unwrap();
            drop(store);
            check(&Store::open(directory.path(), &spec).unwrap(), &fixture);
            if whole {
                break;
            }
            cut_after += 1;
        }
        assert!(cut_after > 5, "all of it fits {cut_after} batches: make it larger");
    }
}
