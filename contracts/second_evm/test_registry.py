"""Fleets, devices, keys and grants, played on py-evm: results, refusals, events and where records lie."""

import unittest

from eth_utils import keccak

from evm import START, Person
from world import (
    ACTIVE, DAY, FOREVER, REVOKED, REVOKING, SUSPENDED, World, device_word, fleet_word, grant_key, grant_parties, pack, word,
)

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SLOW = 1


class Registry(World):
    def setUp(self):
        super().setUp()
        self.fleet = self.create_fleet(self.operator)

    def test_enrol_rotate_revoke(self):
        self.enrol(self.fleet, self.operator, self.device, START + DAY)
        id_ = self.device.address
        self.assertEqual(self.record("device", id_), device_word(id_, 1, START + DAY, ACTIVE))
        self.assertEqual(self.record("fleetCount", 0), word(1))
        again = self.consent(self.device, self.device, self.fleet, self.operator)
        arguments = (self.fleet, id_, FOREVER, FOREVER, again)
        self.refused("AlreadyEnrolled", self.operator, self.registry, "enrol", *arguments)

        events = self.rotate(self.device, self.device, self.next)
        self.assertIn(("KeyRotated", (id_.lower(), id_.lower(), self.next.address.lower())), events)
        self.assertEqual(self.record("device", id_), device_word(self.next.address, 1, START + DAY, ACTIVE))
        self.assertEqual(self.record("keyOf", self.next.address), pack((id_, 160), (self.evm.now, 40)))

        # The retired key is nobody, the operator never rotates, and a key serves once.
        self.refused("NotOperatorOrKey", self.device, self.registry, "revoke", id_)
        back = self.sign(self.device, self.registry, "Rotate", id_, self.next.address, id_, FOREVER)
        self.refused("KeyTaken", self.next, self.registry, "rotate", id_, id_, FOREVER, back)
        to_thief = self.sign(self.thief, self.registry, "Rotate", id_, self.next.address, self.thief.address, FOREVER)
        self.refused("NotKey", self.operator, self.registry, "rotate", id_, self.thief.address, FOREVER, to_thief)
        taken = self.consent(self.next, self.next, self.fleet, self.operator)
        arguments = (self.fleet, self.next.address, FOREVER, FOREVER, taken)
        self.refused("KeyTaken", self.operator, self.registry, "enrol", *arguments)

        self.registry.send(self.operator, "revoke", id_)
        self.assertEqual(self.record("device", id_), device_word(self.next.address, 1, self.evm.now, REVOKED))
        self.refused("AlreadyEnrolled", self.operator, self.registry, "enrol", self.fleet, id_, FOREVER, FOREVER, again)
        self.refused("NotSuspended", self.operator, self.registry, "resume", id_)
        self.refused("DeviceRevoked", self.operator, self.registry, "extend", id_, FOREVER)

    def test_enrolment_takes_consent_to_exactly_this(self):
        id_ = self.device.address
        good = self.consent(self.device, self.device, self.fleet, self.operator)
        r, s, v = good
        twin = (r, (N - int.from_bytes(s, "big")).to_bytes(32, "big"), 55 - v)
        forged = [
            twin,
            (bytes(32), bytes(32), 27),
            self.consent(self.thief, self.device, self.fleet, self.operator),
            self.consent(self.device, self.device, self.fleet, self.thief),
            self.consent(self.device, self.device, self.fleet + 1, self.operator),
            self.consent(self.device, self.device, self.fleet, self.operator, FOREVER - 1),
        ]
        for consent in forged:
            self.refused("BadSignature", self.operator, self.registry, "enrol", 1, id_, FOREVER, FOREVER, consent)
        self.refused("NotOperator", self.thief, self.registry, "enrol", 1, id_, FOREVER, FOREVER, good)
        stale = self.consent(self.device, self.device, self.fleet, self.operator, FOREVER, START)
        self.refused("DeadlinePassed", self.operator, self.registry, "enrol", 1, id_, FOREVER, START, stale)
        by_sig = self.consent(self.operator, self.device, self.fleet, self.operator)
        self.registry.send(self.stranger, "enrolBySig", 1, id_, FOREVER, FOREVER, good, by_sig)
        self.assertEqual(self.record("device", id_), device_word(id_, 1, FOREVER, ACTIVE))

    def test_a_batch_skips_and_reports(self):
        yes = self.consent(self.device, self.device, 1, self.operator)
        no = self.consent(self.thief, self.next, 1, self.operator)
        batch = [(p.address, FOREVER, FOREVER, c) for p, c in [(self.device, yes), (self.next, no), (self.device, yes)]]
        events = self.registry.send(self.operator, "enrolBatch", 1, batch)
        skipped = [(device, reason) for name, (device, _, reason) in
                   [event for event in events if event[0] == "EnrolmentSkipped"] for device in [device]]
        reasons = [(self.next.address.lower(), "BadSignature()"), (self.device.address.lower(), "AlreadyEnrolled()")]
        self.assertEqual(skipped, [(device, keccak(text=error)[:4]) for device, error in reasons])

    def test_suspend_resume_extend_and_their_signed_variants(self):
        self.enrol(self.fleet, self.operator, self.device, START + DAY)
        id_ = self.device.address
        self.refused("NotOperator", self.device, self.registry, "suspend", id_)
        for nonce, (statement, extra, status, until) in enumerate(
            [("Suspend", (), SUSPENDED, START + DAY), ("Resume", (), ACTIVE, START + DAY),
             ("Extend", (START + 2 * DAY,), ACTIVE, START + 2 * DAY)]
        ):
            call = statement.lower() + "BySig"
            signed = self.sign(self.operator, self.registry, statement, id_, *extra, nonce, FOREVER)
            forged = self.sign(self.thief, self.registry, statement, id_, *extra, nonce, FOREVER)
            self.refused("BadSignature", self.stranger, self.registry, call, id_, *extra, FOREVER, forged)
            self.registry.send(self.stranger, call, id_, *extra, FOREVER, signed)
            self.assertEqual(self.record("device", id_), device_word(id_, 1, until, status))
            self.assertEqual(self.record("fleet", 1), fleet_word(self.operator.address, 1, nonce + 1, 0))
            self.refused("BadSignature", self.stranger, self.registry, call, id_, *extra, FOREVER, signed)
        self.refused("NotLater", self.operator, self.registry, "extend", id_, START + DAY)

    def test_a_stolen_operator_key_against_slow_revocation(self):
        slow = self.create_fleet(self.operator, SLOW)
        self.enrol(slow, self.operator, self.device)
        id_ = self.device.address
        self.registry.send(self.operator, "revoke", id_)
        due = self.evm.now + 2 * DAY
        self.assertEqual(self.record("device", id_), device_word(id_, slow, due, REVOKING))
        self.registry.send(self.operator, "cancelRevoke", id_, FOREVER)
        self.assertEqual(self.record("device", id_), device_word(id_, slow, FOREVER, SUSPENDED))
        self.registry.send(self.operator, "proposeOperator", slow, self.thief.address)
        self.refused("TooEarly", self.thief, self.registry, "acceptOperator", slow)
        self.registry.send(self.operator, "cancelOperator", slow)
        self.evm.warp(self.evm.now + 2 * DAY)
        self.refused("NotPendingOperator", self.thief, self.registry, "acceptOperator", slow)
        # Left alone it is a tombstone, without a second transaction.
        self.registry.send(self.operator, "revoke", id_)
        self.evm.warp(self.evm.now + 2 * DAY + 1)
        self.refused("NotRevoking", self.operator, self.registry, "cancelRevoke", id_, FOREVER)

    def test_a_fleet_changes_hands_in_two_steps(self):
        self.registry.send(self.operator, "proposeOperator", 1, self.next.address)
        self.refused("NotPendingOperator", self.thief, self.registry, "acceptOperator", 1)
        self.registry.send(self.next, "acceptOperator", 1)
        self.assertEqual(self.record("fleet", 1), fleet_word(self.next.address, 1, 1, 0))
        self.assertEqual(self.record("pendingOperator", 1), bytes(32))
        self.refused("NotOperator", self.operator, self.registry, "bumpPolicyEpoch", 1)
        self.refused("UnknownFlags", self.operator, self.registry, "createFleet", 2)

    def test_grants(self):
        other = self.create_fleet(self.thief)
        h = grant_parties(1, self.device.address, 1, self.next.address, 1 << 16 | 8080)
        self.registry.send(self.operator, "grant", 1, h, FOREVER, 1)
        g = grant_key(1, h)
        self.assertEqual(self.record("grant", g), pack((FOREVER, 40), (1, 40), (1, 48), (1, 8)))
        # A foreign operator neither writes nor blocks it.
        self.refused("NotOperator", self.thief, self.registry, "revokeGrant", 1, h)
        self.registry.send(self.thief, "grant", other, h, FOREVER, 1)
        self.assertEqual(self.record("grant", g), pack((FOREVER, 40), (1, 40), (1, 48), (1, 8)))
        self.refused("ZeroRights", self.operator, self.registry, "grant", 1, h, FOREVER, 0)
        self.refused("AlreadyExpired", self.operator, self.registry, "grant", 1, h, START, 1)
        self.registry.send(self.operator, "bumpPolicyEpoch", 1)
        self.registry.send(self.operator, "grantBatch", 1, [(h, START + 9 * DAY, 1)])
        self.assertEqual(self.record("grant", g), pack((START + 9 * DAY, 40), (2, 40), (1, 48), (1, 8)))
        self.registry.send(self.operator, "revokeGrant", 1, h)
        self.assertEqual(self.record("grant", g), bytes(32))
        self.refused("NoSuchGrant", self.operator, self.registry, "revokeGrant", 1, h)

    def test_only_the_two_contracts_put_and_only_their_kinds(self):
        for kind in (0, 4, 12, 13, 255):
            self.refused("UnknownKind", self.operator, self.registry, "put", kind, word(1), word(1))
        for kind in (5, 8, 9, 11):
            self.refused("NotWriter", self.operator, self.registry, "put", kind, word(1), word(1))

    def test_a_successor_inherits_keys_and_tombstones(self):
        dead = Person("dead")
        self.enrol(1, self.operator, self.device)
        self.enrol(1, self.operator, dead)
        self.rotate(self.device, self.device, self.next)
        self.registry.send(self.operator, "revoke", dead.address)
        first, followed = self.registry, dict(self.mirror)
        self.mirror.clear()
        self.registry, self.names, self.staking, self.settlement = self.deploy(predecessor=first.address)
        self.create_fleet(self.operator)
        id_ = self.device.address
        leaked = self.consent(self.device, self.device, 1, self.operator)
        self.refused("BadSignature", self.operator, self.registry, "enrol", 1, id_, FOREVER, FOREVER, leaked)
        again = self.consent(dead, dead, 1, self.operator)
        self.refused("RevokedBefore", self.operator, self.registry, "enrol", 1, dead.address, FOREVER, FOREVER, again)
        as_id = self.consent(self.next, self.next, 1, self.operator)
        self.refused("KeyTaken", self.operator, self.registry, "enrol", 1, self.next.address, FOREVER, FOREVER, as_id)
        yes = self.consent(self.next, self.device, 1, self.operator)
        self.registry.send(self.operator, "enrol", 1, id_, FOREVER, FOREVER, yes)
        self.assertEqual(self.record("device", id_), device_word(self.next.address, 1, FOREVER, ACTIVE))
        self.assertTrue(followed)


if __name__ == "__main__":
    unittest.main()
