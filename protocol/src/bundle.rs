//! Bundles: everything one answer carries, and the one place where a node's word becomes evidence.
//!
//! attested hash = header hash → state root → account proof with the pinned code hash → storage root →
//! slot proofs. Slots and trie keys are derived here, never taken from the answer; every trie node must be
//! used; nothing recurses.

use crate::address::{DeviceId, KeyAddress};
use crate::head::{Attestation, HeadError, Trust, VerifiedHead, verify_head};
use crate::header::MAX_HEADER_BYTES;
use crate::record::{DeviceRecord, FleetRecord, GrantRecord, KeyRecord, NameRecord, RecordError};
use crate::slot::Slot;
use crate::spec::{ContractPin, MAX_COMMITTEE};
use crate::trie::{self, Account, ProofError, ProofPool};
use crate::wire;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use alloy_primitives::{B256, Bytes, keccak256};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most bytes of a bundle: one frame.
pub const MAX_BUNDLE_BYTES: usize = 60 * 1_024;
/// Most slots one bundle proves.
pub const MAX_BUNDLE_SLOTS: usize = 24;
/// Most bytes of a staple, the bundle a caller sends with its open.
pub const MAX_STAPLE_BYTES: usize = 16 * 1_024;
/// Most trie nodes of an account proof: 16 levels.
const MAX_ACCOUNT_NODES: usize = 16;
/// Most trie nodes of all slot proofs together: 24 paths of 16 levels.
const MAX_STORAGE_NODES: usize = 24 * 16;

/// Attestations, header and proofs, as sent: RLP `[header, [attestation…], [account node…], [storage
/// node…]]`. Account nodes go root first; storage nodes are a pool in any order, each once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bundle {
    /// The attested block's header, RLP.
    pub header: Bytes,
    /// Signatures over the header's number and hash.
    pub attestations: Vec<Attestation>,
    /// The proof of the Registry's account.
    pub account: Vec<Bytes>,
    /// The nodes of all slot proofs, shared ones once.
    pub storage: Vec<Bytes>,
}

impl Encodable for Bundle {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(4).append(&self.header.as_ref()).append_list(&self.attestations);
        wire::append_slices(s, &self.account);
        wire::append_slices(s, &self.storage);
    }
}

impl Decodable for Bundle {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        if rlp.as_raw().len() > MAX_BUNDLE_BYTES {
            return Err(DecoderError::RlpIsTooBig);
        }
        let f = wire::fields(rlp, 4)?;
        let header = f[0].data()?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(DecoderError::RlpIsTooBig);
        }
        Ok(Self {
            header: Bytes::copy_from_slice(header),
            attestations: wire::list(&f[1], MAX_COMMITTEE)?,
            account: wire::byte_strings(&f[2], MAX_ACCOUNT_NODES)?,
            storage: wire::byte_strings(&f[3], MAX_STORAGE_NODES)?,
        })
    }
}

/// Why a bundle proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The account proof does not lead from the state root to the Registry.
    #[error("the account proof of the registry is wrong: {0}")]
    Account(ProofError),
    /// Proven: there is no such contract under this head.
    #[error("the registry is not deployed under this head")]
    NoRegistry,
    /// The code at the registry's address is not the pinned one.
    #[error("the code at the registry's address is {found}, not the pinned {pinned}")]
    CodeHash {
        /// What the proof shows.
        found: B256,
        /// What the spec pins.
        pinned: B256,
    },
    /// A slot proof does not lead from the storage root to a value or a true absence.
    #[error("the proof of {slot:?} is wrong: {source}")]
    Slot {
        /// The slot asked for.
        slot: Slot,
        /// What is wrong with it.
        source: ProofError,
    },
    /// The storage nodes are no pool (repeated or oversized nodes), or some were not needed.
    #[error("the slot proofs are wrong: {0}")]
    Storage(ProofError),
    /// More slots than one bundle may prove.
    #[error("an answer over more than {MAX_BUNDLE_SLOTS} slots")]
    TooManySlots,
    /// A slot that this bundle did not prove.
    #[error("{0:?} was not proven")]
    NotProven(Slot),
    /// A proven value outside the registry's layout.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A bundle whose head and account hold, while its slots are read one by one. [`OpenBundle::finish`] ends
/// the reading and refuses what was not used.
pub struct OpenBundle {
    header: Bytes,
    attestations: Vec<Attestation>,
    account: Vec<Bytes>,
    head: VerifiedHead,
    storage_root: B256,
    pool: ProofPool,
    values: BTreeMap<Slot, B256>,
}

/// Checks a bundle's head and the Registry's account, and readies its slots for reading.
pub fn open_bundle(trust: &Trust<'_>, bundle: &Bundle) -> Result<OpenBundle, BundleError> {
    let head = verify_head(trust, &bundle.header, &bundle.attestations)?;
    let account = verify_account(&trust.spec.contracts.registry, head.header().state_root, &bundle.account)?;
    Ok(OpenBundle {
        header: bundle.header.clone(),
        attestations: bundle.attestations.clone(),
        account: bundle.account.clone(),
        head,
        storage_root: account.storage_root,
        pool: ProofPool::new(&bundle.storage).map_err(BundleError::Storage)?,
        values: BTreeMap::new(),
    })
}

/// Proves the account of a pinned contract under a state root, and that its code is the pinned one.
pub fn verify_account(pin: &ContractPin, state_root: B256, proof: &[Bytes]) -> Result<Account, BundleError> {
    let value =
        trie::verify_proof(state_root, &keccak256(pin.address), proof).map_err(BundleError::Account)?;
    let account = Account::decode(&value.ok_or(BundleError::NoRegistry)?).map_err(BundleError::Account)?;
    if account.code_hash != pin.code_hash {
        return Err(BundleError::CodeHash { found: account.code_hash, pinned: pin.code_hash });
    }
    Ok(account)
}

impl OpenBundle {
    /// The head this bundle rests on.
    pub fn head(&self) -> &VerifiedHead {
        &self.head
    }

    /// Proves one slot: its value, zero where its absence is proven.
    pub fn value(&mut self, slot: Slot) -> Result<B256, BundleError> {
        if let Some(value) = self.values.get(&slot) {
            return Ok(*value);
        }
        if self.values.len() == MAX_BUNDLE_SLOTS {
            return Err(BundleError::TooManySlots);
        }
        let wrong = |source| BundleError::Slot { slot, source };
        let leaf = self.pool.lookup(self.storage_root, &slot.trie_key()).map_err(wrong)?;
        let value = leaf.map_or(Ok(B256::ZERO), |leaf| trie::decode_slot_value(&leaf)).map_err(wrong)?;
        self.values.insert(slot, value);
        Ok(value)
    }

    /// Ends the reading; nodes that no slot needed are refused.
    pub fn finish(self) -> Result<VerifiedBundle, BundleError> {
        self.pool.all_used().map_err(BundleError::Storage)?;
        Ok(VerifiedBundle {
            header: self.header,
            attestations: self.attestations,
            account: self.account,
            head: self.head,
            storage_root: self.storage_root,
            pool: self.pool,
            values: self.values,
        })
    }
}

/// Slots of the Registry proven under one head; made only by [`OpenBundle::finish`].
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    header: Bytes,
    attestations: Vec<Attestation>,
    account: Vec<Bytes>,
    head: VerifiedHead,
    storage_root: B256,
    pool: ProofPool,
    values: BTreeMap<Slot, B256>,
}

impl VerifiedBundle {
    /// The head all of it rests on.
    pub fn head(&self) -> &VerifiedHead {
        &self.head
    }

    /// The root of the Registry's storage under this head: while it stays, nothing in the registry changed.
    pub fn storage_root(&self) -> B256 {
        self.storage_root
    }

    /// Puts the same slots under a newer head, if the storage root held: then nothing in the registry changed, and one
    /// header with its account proof is all that is new. False where it doesn't.
    pub fn renew(&mut self, newer: &Self) -> bool {
        let fresher =
            (newer.head.number(), newer.head.attested_at()) > (self.head.number(), self.head.attested_at());
        if newer.storage_root != self.storage_root || !fresher || newer.head.number() < self.head.number() {
            return false;
        }
        self.header = newer.header.clone();
        self.attestations.clone_from(&newer.attestations);
        self.account.clone_from(&newer.account);
        self.head = newer.head;
        true
    }

    /// The head and the account proof alone.
    pub fn head_alone(&self) -> Self {
        Self {
            header: self.header.clone(),
            attestations: self.attestations.clone(),
            account: self.account.clone(),
            head: self.head,
            storage_root: self.storage_root,
            pool: ProofPool::default(),
            values: BTreeMap::new(),
        }
    }

    /// Every proven slot with its value, zero for a proven absence.
    pub fn values(&self) -> &BTreeMap<Slot, B256> {
        &self.values
    }

    /// The value of a proven slot.
    pub fn value(&self, slot: Slot) -> Result<B256, BundleError> {
        self.values.get(&slot).copied().ok_or(BundleError::NotProven(slot))
    }

    /// The record of a device, `None` if it is proven unenrolled.
    pub fn device(&self, id: DeviceId) -> Result<Option<DeviceRecord>, BundleError> {
        Ok(DeviceRecord::decode(&self.value(Slot::Device(id))?)?)
    }

    /// Which device took a key by rotation.
    pub fn key(&self, key: KeyAddress) -> Result<Option<KeyRecord>, BundleError> {
        Ok(KeyRecord::decode(&self.value(Slot::KeyOf(key))?)?)
    }

    /// The record of a fleet.
    pub fn fleet(&self, fleet: u64) -> Result<Option<FleetRecord>, BundleError> {
        Ok(FleetRecord::decode(&self.value(Slot::Fleet(fleet))?)?)
    }

    /// The grant with this id.
    pub fn grant(&self, id: B256) -> Result<Option<GrantRecord>, BundleError> {
        Ok(GrantRecord::decode(&self.value(Slot::Grant(id))?)?)
    }

    /// The name with this label hash.
    pub fn name(&self, label_hash: B256) -> Result<Option<NameRecord>, BundleError> {
        Ok(NameRecord::decode(&self.value(Slot::Name(label_hash))?)?)
    }

    /// A bundle of the same head with the proofs of just these slots, which must be among the proven ones:
    /// how a caller makes its staple.
    pub fn extract(&self, slots: &[Slot]) -> Result<Bundle, BundleError> {
        let mut storage: Vec<Bytes> = Vec::new();
        for slot in slots {
            self.value(*slot)?;
            let path = self
                .pool
                .path(self.storage_root, &slot.trie_key())
                .map_err(|source| BundleError::Slot { slot: *slot, source })?;
            for node in path {
                if !storage.contains(&node) {
                    storage.push(node);
                }
            }
        }
        Ok(Bundle {
            header: self.header.clone(),
            attestations: self.attestations.clone(),
            account: self.account.clone(),
            storage,
        })
    }
}

/// Proves exactly these slots.
pub fn verify_bundle(
    trust: &Trust<'_>,
    bundle: &Bundle,
    slots: &[Slot],
) -> Result<VerifiedBundle, BundleError> {
    let mut open = open_bundle(trust, bundle)?;
    for slot in slots {
        open.value(*slot)?;
    }
    open.finish()
}

#[cfg(test)]
mod tests;
