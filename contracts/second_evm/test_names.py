"""Names from commitment to expiry and beyond, and reverse names, played on py-evm."""

import unittest

from eth_utils import keccak

from world import DAY, FEES, GRACE, MAX_AGE, MIN_AGE, ZERO, World, name_word, pack

YEAR = 365 * DAY
LABEL = "sensor-7"
HASH = keccak(text=LABEL)


class Names(World):
    def name(self):
        return self.record("name", HASH)

    def commitment(self, owner, duration=YEAR, secret=keccak(text="secret")):
        return self.names.view("commitmentOf", HASH, owner.address, ZERO, 0, duration, secret)

    def arguments(self, owner, duration=YEAR):
        return (LABEL, owner.address, ZERO, 0, duration, keccak(text="secret"))

    def test_commit_wait_register_expire_and_go_to_another(self):
        owner, fee = self.name_owner, self.names.view("fee", LABEL, YEAR)
        self.assertEqual(fee, FEES[2])
        self.refused("NoCommitment", owner, self.names, "register", *self.arguments(owner), value=fee)
        self.names.send(self.stranger, "commit", self.commitment(owner))
        self.refused("CommitmentLive", self.stranger, self.names, "commit", self.commitment(owner))
        self.refused("CommitmentTooYoung", owner, self.names, "register", *self.arguments(owner), value=fee)
        self.evm.warp(self.evm.now + MIN_AGE)
        # Copied from the mempool it is nobody else's; and the payment is exact.
        self.refused("NoCommitment", self.thief, self.names, "register", *self.arguments(self.thief), value=fee)
        self.refused("WrongFee", owner, self.names, "register", *self.arguments(owner), value=fee - 1)
        events = self.names.send(self.thief, "register", *self.arguments(owner), value=fee)
        expiry = self.evm.now + YEAR
        self.assertEqual(events[-1], ("NameRegistered", (HASH, owner.address.lower(), LABEL, ZERO, 0, expiry, 1)))
        self.assertEqual(self.name(), name_word(0, expiry, 0, 1))
        self.assertEqual(self.record("nameOwner", HASH), pack((owner.address, 160), (0, 40)))

        self.names.send(owner, "setTarget", HASH, self.device.address, 1)
        self.names.send(owner, "setRecords", HASH, keccak(text="records"))
        self.assertEqual(self.name(), name_word(self.device.address, expiry, 1, 1))
        self.assertEqual(self.record("nameRecords", HASH), keccak(text="records"))
        self.refused("NotNameOwner", self.thief, self.names, "setTarget", HASH, self.thief.address, 3)
        self.refused("BadTarget", owner, self.names, "setTarget", HASH, self.device.address, 0)

        # In grace only renewal works; nobody else gets it before grace is over.
        self.evm.warp(expiry)
        self.names.send(self.stranger, "commit", self.commitment(self.thief))
        self.refused("NameExpired", owner, self.names, "setTarget", HASH, ZERO, 0)
        self.refused("NameExpired", owner, self.names, "transfer", HASH, self.thief.address)
        self.evm.warp(self.evm.now + MIN_AGE)
        self.refused("NameTaken", self.thief, self.names, "register", *self.arguments(self.thief), value=fee)
        self.evm.warp(expiry + GRACE)
        self.refused("NameExpired", owner, self.names, "renew", LABEL, YEAR, value=fee)
        self.refused("CommitmentTooOld", self.thief, self.names, "register", *self.arguments(self.thief), value=fee)
        self.names.send(self.stranger, "commit", self.commitment(self.thief))
        self.evm.warp(self.evm.now + MIN_AGE)
        self.names.send(self.thief, "register", *self.arguments(self.thief), value=fee)
        self.assertEqual(self.name(), name_word(0, self.evm.now + YEAR, 0, 2))
        self.assertEqual(self.record("nameRecords", HASH), bytes(32))
        self.assertEqual(self.record("nameOwner", HASH), pack((self.thief.address, 160), (1, 40)))
        self.assertLess(MIN_AGE, MAX_AGE)

    def test_a_name_is_not_held_for_the_price_of_a_second(self):
        owner = self.name_owner
        self.names.send(owner, "commit", self.commitment(owner, 1))
        self.evm.warp(self.evm.now + MIN_AGE)
        fee = self.names.view("fee", LABEL, 1)
        self.refused("BadDuration", owner, self.names, "register", *self.arguments(owner, 1), value=fee)

    def test_transfer_clears_and_signed_calls_count_once(self):
        self.register_name(self.name_owner, LABEL, self.device.address, 1)
        by = self.name_owner
        values = (HASH, self.next.address, 3, 0, 2**40 - 1)
        signed = self.sign(by, self.names, "SetTarget", *values)
        forged = self.sign(self.thief, self.names, "SetTarget", *values)
        arguments = (HASH, self.next.address, 3, 2**40 - 1)
        self.refused("BadSignature", self.stranger, self.names, "setTargetBySig", *arguments, forged)
        self.names.send(self.stranger, "setTargetBySig", *arguments, signed)
        self.refused("BadSignature", self.stranger, self.names, "setTargetBySig", *arguments, signed)
        stale = self.sign(by, self.names, "SetRecords", HASH, keccak(text="r"), 1, 2**40 - 1)
        self.names.send(by, "transfer", HASH, self.next.address)
        self.assertEqual(self.name()[:6], (2).to_bytes(6, "big"))
        self.assertEqual(self.name()[12:], bytes(20))
        self.names.send(self.next, "transfer", HASH, by.address)
        arguments = (HASH, keccak(text="r"), 2**40 - 1, stale)
        self.refused("BadSignature", self.stranger, self.names, "setRecordsBySig", *arguments)

    def test_reverse_names_are_set_by_who_they_are_about(self):
        fleet = self.create_fleet(self.operator)
        self.enrol(fleet, self.operator, self.device)
        self.rotate(self.device, self.device, self.next)
        id_ = self.device.address
        for person in (self.device, self.operator, self.thief):
            self.refused("NotSubject", person, self.names, "setReverse", id_, HASH)
        self.names.send(self.next, "setReverse", id_, HASH)
        self.assertEqual(self.record("reverse", id_), HASH)
        self.refused("NotSubject", self.next, self.names, "setReverse", self.next.address, HASH)
        self.names.send(self.stranger, "setReverse", self.stranger.address, HASH)
        signed = self.sign(self.thief, self.names, "SetReverse", self.thief.address, HASH, 0, 2**40 - 1)
        self.names.send(self.stranger, "setReverseBySig", self.thief.address, HASH, 2**40 - 1, signed)
        arguments = (self.thief.address, HASH, 2**40 - 1, signed)
        self.refused("BadSignature", self.stranger, self.names, "setReverseBySig", *arguments)

    def test_fees_reach_the_treasury(self):
        self.register_name(self.name_owner, "abc")
        self.assertEqual(self.evm.balance(self.names), FEES[0])
        before = self.evm.balance(self.stranger)
        self.names.send(self.thief, "withdraw")
        self.assertEqual(self.evm.balance(self.stranger) - before, FEES[0])
        self.assertEqual(self.evm.balance(self.names), 0)


if __name__ == "__main__":
    unittest.main()
