//! The column families: which there are, and what they are called on disk. A directory has room for two mirrors; each has
//! families of its own.

/// Changes whenever a codec or a family here changes, together with a step in `migrate`.
pub(super) const SCHEMA: u64 = 2;

/// One of the two mirrors that a directory has room for: the one that is read, and one that is built beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Where a new directory begins.
    A,
    /// The other.
    B,
}

impl Side {
    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) fn number(self) -> u64 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    pub(super) fn of_number(number: u64) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|side| side.number() == number)
    }
}

/// A column family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Schema, chain spec, which side is read.
    Meta,
    /// Cursor and floor of a mirror.
    Mark,
    /// Number → header RLP of recent final blocks.
    Header,
    /// Slot → since when it has which value.
    Slot,
    /// Path → since when which trie node is there.
    Trie,
    /// Height and key → what the block of that height replaced, as long as somebody may read below it.
    Past,
    /// Number → what an unfinalised block will change.
    Tail,
    /// Height → proof of the registry's account.
    Account,
    /// Device → its newest route.
    Route,
    /// What this node signed.
    Head,
    /// Usage tickets.
    Ticket,
}

impl Family {
    /// Those of the node itself: one each, whichever mirror is read.
    const OF_NODE: [Self; 4] = [Self::Meta, Self::Route, Self::Head, Self::Ticket];

    /// Those of a mirror, one on each side: everything that the chain can tell again.
    pub(super) const OF_MIRROR: [Self; 7] =
        [Self::Mark, Self::Header, Self::Slot, Self::Trie, Self::Past, Self::Tail, Self::Account];

    /// All of a directory, each with its side; of the node's own either is the same.
    pub(super) fn all() -> impl Iterator<Item = (Self, Side)> {
        let of_node = Self::OF_NODE.map(|family| (family, Side::A));
        let sides = [Side::A, Side::B].into_iter();
        of_node.into_iter().chain(sides.flat_map(|side| Self::OF_MIRROR.map(|family| (family, side))))
    }

    /// The name on disk.
    pub(super) fn name(self, side: Side) -> &'static str {
        let of = |a, b| match side {
            Side::A => a,
            Side::B => b,
        };
        match self {
            Self::Meta => "meta",
            Self::Route => "route",
            Self::Head => "head",
            Self::Ticket => "ticket",
            Self::Mark => of("mark-a", "mark-b"),
            Self::Header => of("header-a", "header-b"),
            Self::Slot => of("slot-a", "slot-b"),
            Self::Trie => of("trie-a", "trie-b"),
            Self::Past => of("past-a", "past-b"),
            Self::Tail => of("tail-a", "tail-b"),
            Self::Account => of("account-a", "account-b"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            Family::all().map(|(family, side)| family.name(side)).collect();
        assert_eq!(names.len(), Family::all().count());
    }
}
