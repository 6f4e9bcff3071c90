"""A deployment of all four contracts with the people and terms of forge's tests, what they sign, and where records lie.

The layout, the packing and the statements are written here once more from their description in contracts/README.md and the
interfaces: neither Solidity nor Rust is asked.
"""

import unittest

from eth_abi import encode
from eth_utils import keccak, to_canonical_address, to_checksum_address
from trie import HexaryTrie

from evm import CHAIN_ID, ETHER, START, Contract, Evm, Person, Refused, create_address

FOREVER = 2**40 - 1
ZERO = "0x" + "00" * 20
DAY = 24 * 3600
MIN_AGE, MAX_AGE, GRACE = 60, DAY, 30 * DAY
FEES = (6 * ETHER // 10, ETHER // 10, ETHER // 100)
EPOCH, STAKED, UNBONDING = DAY, 7 * DAY, 21 * DAY
STAKE = 10 * ETHER
GENESIS = keccak(text="genesis")
GIB = 2**30
PRICE, CAP = 10**9, 2**34

KINDS = ["device", "keyOf", "fleet", "pendingOperator", "grant", "name", "nameOwner", "nameRecords", "reverse", "node"]
KINDS += ["nodeOwner", "committee", "fleetCount"]
NONE, ACTIVE, SUSPENDED, REVOKED, REVOKING = range(5)

# The EIP-712 statements, by name.
STATEMENTS = {
    text.split("(")[0]: text
    for text in """
    Enrol(address device,uint48 fleet,address operator,uint40 validUntil,uint40 deadline)
    Rotate(address device,address oldKey,address newKey,uint40 deadline)
    RevokeOwn(address device,uint40 deadline)
    Suspend(address device,uint40 nonce,uint40 deadline)
    Resume(address device,uint40 nonce,uint40 deadline)
    Extend(address device,uint40 validUntil,uint40 nonce,uint40 deadline)
    Revoke(address device,uint40 nonce,uint40 deadline)
    CancelRevoke(address device,uint40 validUntil,uint40 nonce,uint40 deadline)
    BumpPolicyEpoch(uint48 fleet,uint40 nonce,uint40 deadline)
    ProposeOperator(uint48 fleet,address operator,uint40 nonce,uint40 deadline)
    CancelOperator(uint48 fleet,uint40 nonce,uint40 deadline)
    AcceptOperator(uint48 fleet,uint40 nonce,uint40 deadline)
    Grant(uint48 fleet,bytes32 h,uint40 expiry,uint8 rights,uint40 nonce,uint40 deadline)
    RevokeGrant(uint48 fleet,bytes32 h,uint40 nonce,uint40 deadline)
    Transfer(bytes32 labelHash,address to,uint40 nonce,uint40 deadline)
    SetTarget(bytes32 labelHash,address target,uint8 kind,uint40 nonce,uint40 deadline)
    SetRecords(bytes32 labelHash,bytes32 records,uint40 nonce,uint40 deadline)
    SetReverse(address subject,bytes32 labelHash,uint256 nonce,uint40 deadline)
    RegisterNode(address node,address owner,uint40 deadline)
    Head(uint64 number,bytes32 hash,uint64 attestedAt,bytes32 nonce)
    Ticket(uint48 fleet,address node,address device,uint128 bytesTotal,uint64 connsTotal,uint64 issuedAt)
    Voucher(uint48 fleet,address node,uint256 total)
    """.split("\n")
    if "(" in text
    for text in [text.strip()]
}


def word(value):
    """A key or number as 32 bytes."""
    if isinstance(value, str):
        return to_canonical_address(value).rjust(32, b"\0")
    return value if isinstance(value, bytes) else value.to_bytes(32, "big")


def slot(kind, key):
    """Where the record of `kind` and `key` lies: keccak256(key ‖ kind), and slot 12 itself for the count of fleets."""
    number = KINDS.index(kind)
    return word(12) if kind == "fleetCount" else keccak(word(key) + word(number))


def pack(*fields):
    """(value, bits) from the low end up, as 32 bytes."""
    packed, shift = 0, 0
    for value, bits in fields:
        value = int(value, 16) if isinstance(value, str) else value
        assert value < 2**bits
        packed |= value << shift
        shift += bits
    assert shift <= 256
    return word(packed)


def device_word(key, fleet, valid_until, status):
    return pack((key, 160), (fleet, 48), (valid_until, 40), (status, 8))


def fleet_word(operator, epoch, nonce, flags):
    return pack((operator, 160), (epoch, 40), (nonce, 40), (flags, 16))


def name_word(target, expiry, kind, version):
    return pack((target, 160), (expiry, 40), (kind, 8), (version, 48))


def struct_hash(name, values):
    """keccak256(typeHash ‖ words); every type here is of one word."""
    text = STATEMENTS[name]
    types = [field.split(" ")[0] for field in text[text.index("(") + 1 : -1].split(",")]
    return keccak(keccak(text=text) + encode(types, values))


def domain_of(name, contract, chain_id=CHAIN_ID):
    text = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    hashes = [keccak(text=text), keccak(text=name), keccak(text="1")]
    return keccak(b"".join(hashes) + encode(["uint256", "address"], [chain_id, contract]))


def head_domain(genesis, chain_id=CHAIN_ID):
    text = "EIP712Domain(string name,string version,uint256 chainId,bytes32 salt)"
    hashes = [keccak(text=text), keccak(text="Windlass Head"), keccak(text="1")]
    return keccak(b"".join(hashes) + encode(["uint256", "bytes32"], [chain_id, genesis]))


def digest(domain, structure):
    return keccak(b"\x19\x01" + domain + structure)


def grant_parties(target_kind, target, grantee_kind, grantee, service):
    types = ["uint8", "uint256", "uint8", "uint256", "uint32"]
    as_number = lambda value: int(value, 16) if isinstance(value, str) else value
    return keccak(encode(types, [target_kind, as_number(target), grantee_kind, as_number(grantee), service]))


def grant_key(fleet, h):
    return keccak(encode(["uint48", "bytes32"], [fleet, h]))


# A deployment of each kind, made once and copied for every test: creating contracts is what takes py-evm longest.
DEPLOYED = {}


class World(unittest.TestCase):
    """A test starts from a fresh deployment. Every call's `Set` events are followed, and at the end they must give the
    storage root that the chain has."""

    has_history = True
    header_numbers = True

    def setUp(self):
        labels = ["operator", "stranger", "device", "node owner", "node", "next", "thief", "name owner"]
        self.operator, self.stranger, self.device, self.owner, self.node, self.next, self.thief, self.name_owner = people = [
            Person(label) for label in labels
        ]
        self.mirror = {}
        kind = (self.has_history, self.header_numbers)
        if kind not in DEPLOYED:
            self.evm = Evm(people, self.has_history)
            DEPLOYED[kind] = (self.evm, self.deploy())
        evm, contracts = DEPLOYED[kind]
        self.evm = evm.copy()
        contracts = [Contract(self.evm, each.artifact, each.raw) for each in contracts]
        self.registry, self.names, self.staking, self.settlement = contracts
        self.evm.watchers.append(self.follow)

    def deploy(self, predecessor=ZERO):
        """The four, at the addresses predicted from the deployer's nonces."""
        by = self.operator
        nonce = self.evm.chain.get_vm().state.get_nonce(by.raw)
        at = [to_checksum_address(create_address(by.raw, nonce + i)) for i in range(4)]
        terms = [
            ("Registry", (at[1], at[2], predecessor)),
            ("NameRegistrar", (at[0], self.stranger.address, (MIN_AGE, MAX_AGE, GRACE), FEES)),
            ("NodeStaking", (at[0], GENESIS, self.header_numbers, STAKE, (EPOCH, STAKED, UNBONDING))),
            ("Settlement", (at[0],)),
        ]
        made = [self.evm.deploy(name, by, *arguments) for name, arguments in terms]
        self.assertEqual([contract.address for contract in made], at)
        return made

    def follow(self, logs):
        for at, topics, data in logs:
            if at == self.registry.raw and topics[0] == int.from_bytes(keccak(text="Set(bytes32,bytes32)"), "big"):
                self.mirror[topics[1].to_bytes(32, "big")] = data

    def tearDown(self):
        """Following `Set` gives the whole storage: the trie built from the events has the account's storage root."""
        trie = HexaryTrie({})
        for at, value in self.mirror.items():
            trimmed = value.lstrip(b"\0")
            if trimmed:
                trie[keccak(at)] = bytes([trimmed[0]]) if len(trimmed) == 1 and trimmed[0] < 128 else rlp_string(trimmed)
        self.assertEqual(trie.root_hash, self.registry.storage_root())

    # ---- checks -----------------------------------------------------------------------------------------------

    def refused(self, name, person, contract, function, *arguments, value=0):
        """The call is refused by this very rule, and changes nothing (see `Contract.send`)."""
        roots = [each.storage_root() for each in (self.registry, self.names, self.staking, self.settlement)]
        with self.assertRaises(Refused) as caught:
            contract.send(person, function, *arguments, value=value)
        self.assertEqual(caught.exception.name, name)
        after = [each.storage_root() for each in (self.registry, self.names, self.staking, self.settlement)]
        self.assertEqual(after, roots)
        return caught.exception.arguments_

    def record(self, kind, key):
        """The record's word: what `get` answers, which must be what lies at the slot."""
        answered = self.registry.view("get", KINDS.index(kind), word(key))
        self.assertEqual(answered, self.evm.storage(self.registry.raw, slot(kind, key)))
        return answered

    # ---- statements -------------------------------------------------------------------------------------------

    def sign(self, person, contract, statement, *values):
        domain = domain_of(contract.artifact.name, contract.address)
        return person.sign(digest(domain, struct_hash(statement, values)))

    def consent(self, person, device, fleet, operator, valid_until=FOREVER, deadline=FOREVER):
        values = (device.address, fleet, operator.address, valid_until, deadline)
        return self.sign(person, self.registry, "Enrol", *values)

    def sign_head(self, person, number, hash_, attested_at=START, nonce=bytes(32), genesis=GENESIS):
        return person.sign(digest(head_domain(genesis), struct_hash("Head", (number, hash_, attested_at, nonce))))

    # ---- steps that most tests need ---------------------------------------------------------------------------

    def create_fleet(self, person, flags=0):
        events = dict(self.registry.send(person, "createFleet", flags))
        return events["FleetCreated"][0]

    def enrol(self, fleet, operator, device, valid_until=FOREVER):
        yes = self.consent(device, device, fleet, operator, valid_until)
        return self.registry.send(operator, "enrol", fleet, device.address, valid_until, FOREVER, yes)

    def rotate(self, device, old, new):
        yes = self.sign(new, self.registry, "Rotate", device.address, old.address, new.address, FOREVER)
        return self.registry.send(old, "rotate", device.address, new.address, FOREVER, yes)

    def register_name(self, owner, label, target=ZERO, kind=0, duration=365 * DAY):
        labelled = keccak(text=label)
        secret = keccak(text="secret")
        commitment = self.names.view("commitmentOf", labelled, owner.address, target, kind, duration, secret)
        self.names.send(owner, "commit", commitment)
        self.evm.warp(self.evm.now + MIN_AGE + 1)
        fee = self.names.view("fee", label, duration)
        arguments = (label, owner.address, target, kind, duration, secret)
        return self.names.send(owner, "register", *arguments, value=fee)

    def bond(self, node, stake=STAKE):
        yes = self.sign(node, self.staking, "RegisterNode", node.address, self.owner.address, FOREVER)
        return self.staking.send(self.owner, "register", node.address, FOREVER, yes, value=stake)


def rlp_string(data):
    assert 0 < len(data) < 56
    return bytes([0x80 + len(data)]) + data
