"""The gas that forge measured, measured once more: two EVMs charge the same for the same transactions."""

import json
import unittest

from eth_utils import keccak

from evm import ROOT, START, Person
from world import CAP, DAY, ETHER, FOREVER, PRICE, World

SNAPSHOT = json.loads((ROOT / "snapshots" / "gas.json").read_text())
# Addresses and signatures differ by some zero bytes, which cost 4 instead of 16.
TOLERANCE = 200


class Gas(World):
    def setUp(self):
        super().setUp()
        self.fleet = self.create_fleet(self.operator)
        self.enrol(self.fleet, self.operator, self.device)
        self.bond(self.node)

    def assert_as_forge(self, what):
        self.assertLess(abs(self.evm.gas_used - int(SNAPSHOT[what])), TOLERANCE, f"{what}: {self.evm.gas_used}")

    def test_devices_and_grants(self):
        new = Person("new")
        yes = self.consent(new, new, self.fleet, self.operator, FOREVER, START + DAY)
        self.registry.send(self.operator, "enrol", self.fleet, new.address, FOREVER, START + DAY, yes)
        self.assert_as_forge("enrol")
        self.registry.send(self.operator, "revoke", new.address)
        self.assert_as_forge("revoke")
        self.rotate(self.device, self.device, self.next)
        self.assert_as_forge("rotate")
        self.registry.send(self.operator, "grant", self.fleet, keccak(text="h"), FOREVER, 1)
        self.assert_as_forge("grant")
        self.registry.send(self.next, "revoke", self.device.address)
        self.assert_as_forge("revoke, by its own key")

    def test_names(self):
        self.names.send(self.operator, "commit", keccak(text="commitment"))
        self.assert_as_forge("commit")
        self.register_name(self.operator, "sensor-7", self.device.address, 1)
        self.assert_as_forge("register")
        label = keccak(text="sensor-7")
        self.names.send(self.operator, "setTarget", label, self.stranger.address, 3)
        self.assert_as_forge("setTarget")
        self.names.send(self.operator, "setRecords", label, keccak(text="first"))
        self.names.send(self.operator, "setRecords", label, keccak(text="second"))
        self.assert_as_forge("setRecords, again")

    def test_nodes_and_payments(self):
        self.bond(Person("next node"))
        self.assert_as_forge("register node")
        at = (self.fleet, self.node.address)
        self.settlement.send(self.operator, "openChannel", *at, PRICE, CAP, value=ETHER)
        self.settlement.send(self.operator, "vouch", *at, 1)
        signed = self.sign(self.operator, self.settlement, "Voucher", *at, 10**9)
        self.settlement.send(self.owner, "redeem", *at, 10**9, signed)
        self.assert_as_forge("redeem a voucher")


if __name__ == "__main__":
    unittest.main()
