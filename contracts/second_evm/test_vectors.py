"""The shared vectors against a computation of their own, and what the contracts answer about them on py-evm."""

import json
import unittest

from eth_utils import keccak

from vectors import FILE, is_legal, raw, recompute
from world import STATEMENTS, World, grant_key, slot

VECTORS = json.loads(FILE.read_text())


class Vectors(World):
    def test_all_that_follows_follows(self):
        again = recompute(VECTORS)
        for section, values in VECTORS.items():
            self.assertEqual(again[section], values, section)

    def test_every_statement_has_a_vector(self):
        covered = {one["type"] for one in VECTORS["signed"].values()}
        self.assertEqual(covered, set(STATEMENTS.values()))

    def test_labels_are_legal_to_the_contract_exactly_when_they_are_here(self):
        legal = [one["label"] for one in VECTORS["names"]["legal"]]
        for label in legal + VECTORS["names"]["illegal"]:
            self.assertEqual(is_legal(label), label in legal, label)
            if label in legal:
                self.names.view("fee", label, 1)
            else:
                self.refused("IllegalLabel", self.stranger, self.names, "renew", label, 1)

    def test_slots_are_where_the_contract_reads(self):
        for one in VECTORS["slots"]:
            answered = self.registry.view("get", one["kind"], raw(one["key"]))
            self.assertEqual(answered, self.evm.storage(self.registry.raw, raw(one["slot"])))

    def test_grants_land_in_their_slots(self):
        fleet = self.create_fleet(self.operator)
        for one in VECTORS["grants"]:
            self.assertEqual(one["fleet"], fleet)
            self.registry.send(self.operator, "grant", fleet, raw(one["h"]), 2**40 - 1, 1)
            self.assertNotEqual(self.record("grant", raw(one["g"])), bytes(32))
            self.assertEqual(grant_key(fleet, raw(one["h"])), raw(one["g"]))

    def test_the_compilers_layout_is_the_documented_one(self):
        base = {variable["label"]: variable["slot"] for variable in self.registry.artifact.storage}
        self.assertEqual(base["device"], 0)
        for number, kind in enumerate(["device", "keyOf", "fleet", "pendingOperator", "grants", "name", "nameOwner",
                                       "nameRecords", "reverse", "node", "nodeOwner", "committee", "fleetCount"]):
            self.assertEqual(base[kind], number)
        self.assertEqual(slot("device", bytes(32)), keccak(bytes(64)))


if __name__ == "__main__":
    unittest.main()
