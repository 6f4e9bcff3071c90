//! The lies: each takes an honest answer and returns a false one.

use windlass_protocol::bundle::Bundle;
use windlass_protocol::head::{Attestation, Head};
use windlass_protocol::header::Header;
use windlass_protocol::message::resolve::Response;
use windlass_protocol::spec::ChainSpec;
use windlass_protocol::{B256, Bytes, SecretKey, keccak256};

/// A way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Lie {
    /// Another value in the proven leaf.
    WrongValue,
    /// The last trie node left out.
    TruncatedProof,
    /// The leaf cut out of its branch, as if the slot were empty.
    ForgedAbsence,
    /// A genuine answer from before.
    StaleHead,
    /// Signatures of somebody outside the committee.
    Unattested,
    /// One genuine signature, below the threshold.
    TooFew,
    /// A header with another state root under genuine signatures.
    ForgedHeader,
    /// Trie nodes that nobody asked for.
    Padded,
    /// A genuine proof of something else than was asked.
    ForeignProof,
    /// Another code hash in the registry's account.
    OtherCode,
    /// More trie nodes than a bundle may have.
    Oversized,
    /// A header with another state root, signed with a genuine committee key: the fault that costs a stake.
    Equivocation,
    /// A genuine committee key's signature for a chain with another genesis.
    OtherChain,
    /// Signatures of the very block by a key that was in the committee and is no more.
    RetiredCommittee,
    /// Signatures that answer somebody's nonce, sent again as if they answered nothing.
    ReplayedNonce,
    /// Genuine answers and heads, but no watched slot's change, nor a word of it.
    WithheldPush,
    /// Bytes that are no answer.
    Garbage,
    /// No answer at all.
    Silence,
}

impl Lie {
    /// Words of the refusal that this lie deserves, and whether it is told as a lie: an old head and silence
    /// may be an honest node's as well.
    pub fn deserves(self) -> (&'static str, bool) {
        match self {
            Self::WrongValue | Self::TruncatedProof | Self::ForgedAbsence => ("cut short or changed", true),
            Self::StaleHead => ("older than block", false),
            Self::Unattested | Self::ForgedHeader | Self::Equivocation | Self::OtherChain => {
                ("not in the committee", true)
            }
            Self::RetiredCommittee => ("is no more", true),
            Self::ReplayedNonce => ("not in the committee", true),
            Self::ForeignProof => ("cut short or changed", true),
            Self::OtherCode => ("account proof", true),
            Self::Oversized => ("sent ", true),
            Self::TooFew => ("attestations it needs", true),
            Self::Padded => ("doesn't need", true),
            Self::WithheldPush => ("withheld", true),
            Self::Garbage => ("sent ", true),
            Self::Silence => ("gave no answer within", false),
        }
    }

    /// Whether it takes one genuine committee key to tell.
    pub fn needs_member(self) -> bool {
        matches!(self, Self::Equivocation | Self::OtherChain | Self::ReplayedNonce | Self::RetiredCommittee)
    }

    /// The false answer for an honest one.
    pub fn falsify(self, honest: Response, recorded: Option<&Response>, signer: &Signer) -> Response {
        if let (Self::StaleHead, Some(recorded)) = (self, recorded) {
            return recorded.clone();
        }
        let Response::Proven { mut bundle, routes } = honest else {
            return honest;
        };
        match self {
            Self::WrongValue => wrong_value(&mut bundle),
            Self::TruncatedProof => drop(bundle.storage.pop()),
            Self::ForgedAbsence => forged_absence(&mut bundle),
            Self::Unattested => unattested(&mut bundle, &signer.key),
            Self::TooFew => bundle.attestations.truncate(1),
            Self::ForgedHeader => forged_header(&mut bundle),
            Self::Padded => bundle.storage.push(Bytes::from_static(&[0xc0])),
            Self::OtherCode => other_code(&mut bundle),
            Self::Oversized => oversized(&mut bundle),
            Self::Equivocation => {
                forged_header(&mut bundle);
                signer.attest(&mut bundle, 0, |_| {});
            }
            Self::OtherChain => {
                signer.attest(&mut bundle, 0, |spec| spec.genesis_hash = B256::repeat_byte(0x77));
            }
            Self::RetiredCommittee => {
                for place in 0..bundle.attestations.len() {
                    signer.attest(&mut bundle, place, |_| {});
                }
            }
            Self::ReplayedNonce => {
                for attestation in &mut bundle.attestations {
                    attestation.nonce = B256::repeat_byte(0x5a);
                }
                signer.attest(&mut bundle, 0, |_| {});
                bundle.attestations.iter_mut().for_each(|attestation| attestation.nonce = B256::ZERO);
            }
            Self::StaleHead | Self::ForeignProof | Self::WithheldPush | Self::Garbage | Self::Silence => {}
        }
        Response::Proven { bundle, routes }
    }
}

/// Who signs what the lie needs signed: a committee member, or nobody in particular.
pub struct Signer {
    /// The key.
    pub key: SecretKey,
    /// The chain it signs for.
    pub spec: Option<ChainSpec>,
}

impl Signer {
    /// Puts a signature of the bundle's header in place of an attestation, for a spec changed like this.
    fn attest(&self, bundle: &mut Bundle, place: usize, change: impl FnOnce(&mut ChainSpec)) {
        let (Some(mut spec), Ok(header)) = (self.spec.clone(), Header::decode(&bundle.header)) else {
            return;
        };
        change(&mut spec);
        if let Some(attestation) = bundle.attestations.get_mut(place) {
            let Attestation { attested_at, nonce, .. } = *attestation;
            let head = Head { number: header.number, hash: header.hash, attested_at, nonce };
            *attestation = head.attest(&spec, &self.key);
        }
    }
}

/// Trie nodes that are leaves or extensions have two items, branches seventeen.
fn is_leaf(node: &Bytes) -> bool {
    rlp::Rlp::new(node).item_count() == Ok(2)
}

/// Flips a bit in a leaf's value, which ends the node.
fn wrong_value(bundle: &mut Bundle) {
    for node in bundle.storage.iter_mut().filter(|node| is_leaf(node)) {
        let mut bytes = node.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        *node = bytes.into();
    }
}

/// Takes a leaf out of the pool and empties every reference to it.
fn forged_absence(bundle: &mut Bundle) {
    let Some(place) = bundle.storage.iter().position(is_leaf) else {
        return;
    };
    let leaf = keccak256(bundle.storage.remove(place));
    for node in &mut bundle.storage {
        let branch = rlp::Rlp::new(node);
        if branch.item_count() != Ok(17) {
            continue;
        }
        let mut forged = rlp::RlpStream::new_list(17);
        for item in branch.iter() {
            match item.data() {
                Ok(hash) if hash == leaf.as_slice() => forged.append_empty_data(),
                _ => forged.append_raw(item.as_raw(), 1),
            };
        }
        *node = forged.out().to_vec().into();
    }
}

/// The code hash ends the account, and the account its leaf.
fn other_code(bundle: &mut Bundle) {
    if let Some(leaf) = bundle.account.last_mut() {
        let mut bytes = leaf.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        *leaf = bytes.into();
    }
}

/// As much as a frame takes.
fn oversized(bundle: &mut Bundle) {
    for number in 0..100u8 {
        let mut node = vec![number; 600];
        node[..3].copy_from_slice(&[0xb9, 0x02, 0x55]);
        bundle.storage.push(node.into());
    }
}

fn unattested(bundle: &mut Bundle, key: &SecretKey) {
    for attestation in &mut bundle.attestations {
        let signature = key.sign(&keccak256(b"not a head"));
        *attestation = Attestation { signature, ..*attestation };
    }
}

/// Another state root: the fourth item of the header.
fn forged_header(bundle: &mut Bundle) {
    let header = rlp::Rlp::new(&bundle.header);
    let items: Vec<_> = header.iter().collect();
    let mut forged = rlp::RlpStream::new_list(items.len());
    for (index, item) in items.iter().enumerate() {
        match index {
            3 => forged.append(&B256::repeat_byte(0x66).as_slice()),
            _ => forged.append_raw(item.as_raw(), 1),
        };
    }
    bundle.header = forged.out().to_vec().into();
}
