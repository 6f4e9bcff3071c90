"""Nodes, committees and what convicts, played on py-evm: with its own BLOCKHASH and its own EIP-2935."""

import unittest

from eth_utils import keccak

from evm import Person
from world import EPOCH, STAKE, STAKED, UNBONDING, World, pack, word

A, B = keccak(text="a"), keccak(text="b")


class Staking(World):
    def setUp(self):
        super().setUp()
        self.bond(self.node)
        self.since = self.evm.now

    def node_word(self, stake=STAKE, unbond_at=0, flags=0):
        return pack((stake, 96), (self.since, 40), (unbond_at, 40), (flags, 16))

    def report(self, number, hash_):
        arguments = (self.node.address, (number, hash_, self.evm.now, bytes(32)))
        signature = self.sign_head(self.node, number, hash_, self.evm.now)
        return (*arguments, signature)

    def assert_slashed(self):
        self.assertEqual(self.record("node", self.node.address), self.node_word(0, 0, 1))
        self.assertEqual(self.staking.view("claimable", self.stranger.address), STAKE // 4)
        self.assertEqual(self.evm.balance(self.staking), STAKE)

    def test_register_unbond_release_claim(self):
        self.assertEqual(self.record("node", self.node.address), self.node_word())
        self.assertEqual(self.record("nodeOwner", self.node.address), word(self.owner.address))
        stolen = self.sign(self.next, self.staking, "RegisterNode", self.next.address, self.owner.address, 2**40 - 1)
        arguments = (self.next.address, 2**40 - 1, stolen)
        self.refused("BadSignature", self.thief, self.staking, "register", *arguments, value=STAKE)
        self.refused("BadStake", self.owner, self.staking, "register", *arguments, value=STAKE - 1)
        self.refused("NotNodeOwner", self.thief, self.staking, "unbond", self.node.address)
        self.staking.send(self.owner, "unbond", self.node.address)
        free = self.evm.now + UNBONDING
        self.assertEqual(self.record("node", self.node.address), self.node_word(STAKE, free))
        self.refused("StillBonded", self.owner, self.staking, "release", self.node.address)
        self.evm.warp(free)
        self.staking.send(self.owner, "release", self.node.address)
        self.assertEqual(self.record("node", self.node.address), bytes(32))
        self.assertEqual(self.record("nodeOwner", self.node.address), word(self.owner.address))
        before = self.evm.balance(self.staking)
        self.staking.send(self.owner, "claim")
        self.assertEqual(before - self.evm.balance(self.staking), STAKE)
        self.refused("NothingToClaim", self.owner, self.staking, "claim")

    def test_two_hashes_for_one_number_convict_and_two_nonces_do_not(self):
        first = (7, A, self.evm.now, bytes(32))
        same = (7, A, self.evm.now + 20, keccak(text="nonce"))
        other = (7, B, self.evm.now + 20, keccak(text="nonce"))
        sign = lambda head: self.sign_head(self.node, *head)
        pair = lambda x, y: (self.node.address, x, sign(x), y, sign(y))
        self.refused("NoContradiction", self.stranger, self.staking, "reportTwoHeads", *pair(first, same))
        elsewhere = self.sign_head(self.node, *other, genesis=keccak(text="another chain"))
        arguments = (self.node.address, first, sign(first), other, elsewhere)
        self.refused("BadSignature", self.stranger, self.staking, "reportTwoHeads", *arguments)
        self.staking.send(self.stranger, "reportTwoHeads", *pair(first, other))
        self.assert_slashed()
        self.refused("NodeIsSlashed", self.stranger, self.staking, "reportTwoHeads", *pair(first, other))
        self.refused("NotBonded", self.owner, self.staking, "unbond", self.node.address)

    def test_the_chains_own_hash_convicts_only_who_contradicts_it(self):
        number = self.evm.number
        true, false = self.evm.hash_of(number), A
        self.refused("HeadIsTrue", self.stranger, self.staking, "reportFalseHead", *self.report(number, true))
        self.staking.send(self.stranger, "reportFalseHead", *self.report(number, false))
        self.assert_slashed()

    def test_a_head_from_the_future_convicts(self):
        number = self.evm.number + 1  # the block of the report itself: not known to itself
        self.refused("HashUnknown", self.stranger, self.staking, "reportFalseHead", *self.report(number, A))
        self.staking.send(self.stranger, "reportFalseHead", *self.report(self.evm.number + 3, A))
        self.assert_slashed()

    def test_older_blocks_are_known_by_eip2935_and_for_ever_once_anchored(self):
        number = self.evm.number
        true = self.evm.hash_of(number)
        for _ in range(300):
            self.evm.mine()
        self.refused("HeadIsTrue", self.stranger, self.staking, "reportFalseHead", *self.report(number, true))
        self.assertEqual(self.staking.send(self.stranger, "anchor", number), [("Anchored", (number, true))])
        self.assertEqual(self.staking.view("anchored", number), true)
        self.staking.send(self.stranger, "reportFalseHead", *self.report(number, B))
        self.assert_slashed()

    def test_committees(self):
        others = [Person(f"member{i}") for i in range(2)]
        for i, other in enumerate(others):
            self.bond(other, STAKE * (i + 2))
        members = sorted([self.node.address.lower(), *[other.address.lower() for other in others]])
        next_epoch = lambda: self.evm.now // EPOCH + 1
        self.assertLess(self.evm.now % EPOCH, EPOCH // 2)
        refused = self.refused("NotEligible", self.stranger, self.staking, "proposeCommittee", next_epoch(), members)
        self.assertEqual(refused, (members[0],))
        self.evm.warp(((self.evm.now + STAKED) // EPOCH + 1) * EPOCH)
        self.evm.mine()
        e = next_epoch()
        propose = lambda epoch, list_: ("proposeCommittee", epoch, list_)
        self.refused("NotInTime", self.stranger, self.staking, *propose(e + 1, members))
        self.refused("BadCommittee", self.stranger, self.staking, *propose(e, members[::-1]))
        self.refused("BadCommittee", self.stranger, self.staking, *propose(e, []))
        self.staking.send(self.stranger, *propose(e, members[:2]))
        self.staking.send(self.stranger, *propose(e, members))
        self.assertEqual(self.record("committee", e), keccak(b"".join(word(member) for member in members)))
        self.refused("NotBetter", self.stranger, self.staking, *propose(e, members[1:]))
        self.evm.warp((e - 1) * EPOCH + EPOCH // 2)
        self.refused("NotInTime", self.stranger, self.staking, *propose(e, members))


class WithoutHistory(World):
    """A chain without EIP-2935: a call to nobody succeeds and answers nothing, which must convict nobody."""

    has_history = False

    def test_an_honest_node_is_not_convicted_by_silence(self):
        self.bond(self.node)
        number = self.evm.number
        true = self.evm.hash_of(number)
        for _ in range(260):
            self.evm.mine()
        for hash_ in (true, A):
            head = (number, hash_, self.evm.now, bytes(32))
            arguments = (self.node.address, head, self.sign_head(self.node, *head))
            self.refused("HashUnknown", self.stranger, self.staking, "reportFalseHead", *arguments)
        self.refused("HashUnknown", self.stranger, self.staking, "anchor", number)


class WithoutHeaderNumbers(World):
    """A chain whose `block.number` isn't the header's: only two heads convict."""

    header_numbers = False

    def test_the_chain_convicts_nobody(self):
        self.bond(self.node)
        head = (self.evm.number + 9, A, self.evm.now, bytes(32))
        arguments = (self.node.address, head, self.sign_head(self.node, *head))
        self.refused("NumbersUnknown", self.stranger, self.staking, "reportFalseHead", *arguments)
        self.refused("NumbersUnknown", self.stranger, self.staking, "anchor", 1)


if __name__ == "__main__":
    unittest.main()
