"""Channels, tickets, vouchers and payouts, played on py-evm, with the money counted."""

import unittest

from evm import ETHER
from world import CAP, DAY, GIB, PRICE, World

NOTICE = 14 * DAY


class Settlement(World):
    def setUp(self):
        super().setUp()
        self.fleet = self.create_fleet(self.operator)
        self.enrol(self.fleet, self.operator, self.device)
        self.bond(self.node)
        self.at = (self.fleet, self.node.address)
        self.settlement.send(self.operator, "openChannel", *self.at, PRICE, CAP, value=ETHER)

    def tearDown(self):
        """The balance is Σ (deposit − paid), and no more is owed than that."""
        deposit, paid, *_ = self.settlement.view("channel", *self.at)
        self.assertEqual(self.evm.balance(self.settlement), deposit - paid)
        self.assertLessEqual(self.owed(), deposit - paid)
        super().tearDown()

    def owed(self):
        return self.settlement.view("owed", *self.at)

    def ticket(self, signer, device, bytes_total, fleet=None, node=None):
        values = (fleet or self.fleet, node or self.node.address, device.address, bytes_total, 1, self.evm.now)
        signature = self.sign(signer, self.settlement, "Ticket", *values)
        return (device.address, bytes_total, 1, self.evm.now, signature)

    def voucher(self, signer, total):
        return self.sign(signer, self.settlement, "Voucher", *self.at, total)

    def settle(self, *tickets):
        return self.settlement.send(self.stranger, "settle", *self.at, list(tickets))

    def refused_ticket(self, name, ticket):
        arguments = self.refused(name, self.stranger, self.settlement, "settle", *self.at, [ticket])
        self.assertEqual(arguments, (ticket[0].lower(),))

    def test_tickets_are_cumulative_and_vouchers_no_second_payment(self):
        three = self.ticket(self.device, self.device, 3 * GIB)
        self.settle(three, three)
        self.assertEqual(self.owed(), 3 * PRICE)
        self.assertEqual(self.settlement.view("billed", *self.at, self.device.address), 3 * GIB)
        self.settle(self.ticket(self.device, self.device, 2 * GIB))
        self.assertEqual(self.owed(), 3 * PRICE)
        self.settlement.send(self.stranger, "redeem", *self.at, 2 * PRICE, self.voucher(self.operator, 2 * PRICE))
        self.assertEqual(self.owed(), 3 * PRICE)
        self.settlement.send(self.stranger, "redeem", *self.at, 5 * PRICE, self.voucher(self.operator, 5 * PRICE))
        self.assertEqual(self.owed(), 5 * PRICE)
        forged = self.voucher(self.owner, 9 * PRICE)
        self.refused("BadSignature", self.owner, self.settlement, "redeem", *self.at, 9 * PRICE, forged)
        self.refused("NotNodeOwner", self.thief, self.settlement, "collect", *self.at, self.thief.address)
        before = self.evm.balance(self.thief)
        self.settlement.send(self.owner, "collect", *self.at, self.thief.address)
        self.assertEqual(self.evm.balance(self.thief) - before, 5 * PRICE)
        self.refused("NothingOwed", self.owner, self.settlement, "collect", *self.at, self.owner.address)

    def test_whose_tickets_count(self):
        self.refused_ticket("BadTicket", self.ticket(self.thief, self.device, GIB))
        self.refused_ticket("BadTicket", self.ticket(self.operator, self.device, GIB))
        self.refused_ticket("BadTicket", self.ticket(self.device, self.device, GIB, node=self.next.address))
        self.refused_ticket("ForeignDevice", self.ticket(self.thief, self.thief, GIB))
        other = self.create_fleet(self.thief)
        self.enrol(other, self.thief, self.next)
        self.refused_ticket("ForeignDevice", self.ticket(self.next, self.next, GIB))
        # A retired key counts for 14 days; revoking before settling saves nobody money.
        new = self.name_owner
        self.rotate(self.device, self.device, new)
        rotated = self.evm.now
        self.settle(self.ticket(self.device, self.device, GIB))
        self.registry.send(self.operator, "revoke", self.device.address)
        self.settle(self.ticket(new, self.device, 2 * GIB))
        self.assertEqual(self.owed(), 2 * PRICE)
        self.evm.warp(rotated + NOTICE)
        self.refused_ticket("BadTicket", self.ticket(self.device, self.device, 3 * GIB))
        self.settle(self.ticket(new, self.device, 3 * GIB))
        self.assertEqual(self.owed(), 3 * PRICE)

    def test_a_compromised_device_costs_its_daily_cap(self):
        greedy = self.ticket(self.device, self.device, 2**128 - 1)
        self.settle(greedy)
        self.assertEqual(self.owed(), CAP // GIB * PRICE)
        self.evm.warp(self.evm.now + DAY)
        self.settle(greedy)
        self.assertEqual(self.owed(), 2 * CAP // GIB * PRICE)

    def test_nothing_leaves_without_notice_and_what_is_earned_stays(self):
        self.refused("NoticeNotOver", self.operator, self.settlement, "withdraw", *self.at)
        self.settlement.send(self.operator, "announceWithdrawal", *self.at, ETHER)
        announced = self.evm.now
        self.settlement.send(self.operator, "announceTerms", *self.at, 2 * PRICE, CAP)
        self.refused("NoticeNotOver", self.operator, self.settlement, "withdraw", *self.at)
        self.settle(self.ticket(self.device, self.device, GIB))
        self.assertEqual(self.owed(), PRICE)
        self.evm.warp(announced + NOTICE + 10)
        self.settle(self.ticket(self.device, self.device, 2 * GIB))
        self.assertEqual(self.owed(), 3 * PRICE)
        self.refused("NotOperator", self.thief, self.settlement, "withdraw", *self.at)
        before = self.evm.balance(self.settlement)
        self.settlement.send(self.operator, "withdraw", *self.at)
        self.assertEqual(before - self.evm.balance(self.settlement), ETHER - 3 * PRICE)
        self.settlement.send(self.owner, "collect", *self.at, self.owner.address)
        self.assertEqual(self.evm.balance(self.settlement), 0)

    def test_who_has_a_say(self):
        for call in ("topUp", "withdraw"):
            self.refused("NotOperator", self.thief, self.settlement, call, *self.at)
        self.refused("NotOperator", self.owner, self.settlement, "announceTerms", *self.at, 0, 0)
        self.refused("NotOperator", self.owner, self.settlement, "vouch", *self.at, 1)
        self.refused("ChannelExists", self.operator, self.settlement, "openChannel", *self.at, PRICE, CAP)
        nobody = (self.fleet, self.thief.address)
        self.refused("NoSuchNode", self.operator, self.settlement, "openChannel", *nobody, PRICE, CAP)
        self.refused("NoSuchChannel", self.stranger, self.settlement, "settle", *nobody, [])


if __name__ == "__main__":
    unittest.main()
