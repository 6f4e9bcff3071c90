"""py-evm, as a chain that a test drives: one transaction per block, time at the test's will.

Owns accounts, contracts made from the committed artifacts, calls, refusals by name, events and storage. Knows nothing of
what the contracts mean, and shares no code with the Rust crates, revm or forge.
"""

import json
from pathlib import Path

from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.db.backends.memory import MemoryDB
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.constants import HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CONTRACT_CODE
from eth_abi import decode, encode
from eth_keys import keys
from eth_utils import keccak, to_canonical_address, to_checksum_address
from rlp import decode as rlp_decode
from rlp import encode as rlp_encode
from trie import HexaryTrie

ROOT = Path(__file__).resolve().parent.parent
CHAIN_ID = 31_337
START = 1_800_000_000
ETHER = 10**18
GAS_PRICE = 100 * 10**9
GAS_LIMIT = 20_000_000


class Chain(MiningChain):
    """Prague, the newest fork that py-evm has; the contracts are compiled for Shanghai."""

    vm_configuration = ((0, PragueVM),)
    chain_id = CHAIN_ID


class Person:
    """Somebody with a key: given, or derived from a label as forge's tests do, so that both play the same people."""

    def __init__(self, label):
        derived = lambda: (int.from_bytes(keccak(text=label), "big") >> 1).to_bytes(32, "big")
        secret = label if isinstance(label, bytes) else derived()
        self.key = keys.PrivateKey(secret)
        self.raw = self.key.public_key.to_canonical_address()
        self.address = to_checksum_address(self.raw)

    def sign(self, digest):
        """r, s and v as contracts take them."""
        signature = self.key.sign_msg_hash(digest)
        return (signature.r.to_bytes(32, "big"), signature.s.to_bytes(32, "big"), signature.v + 27)


class Refused(Exception):
    """A call that reverted: the custom error's name and arguments."""

    def __init__(self, name, arguments=()):
        super().__init__(f"{name}{arguments}")
        self.name = name
        self.arguments_ = arguments


def abi_type(entry):
    """The canonical type of an ABI entry, tuples written out."""
    if entry["type"].startswith("tuple"):
        inner = ",".join(abi_type(part) for part in entry["components"])
        return f"({inner}){entry['type'][len('tuple'):]}"
    return entry["type"]


def signature_of(entry):
    return f"{entry['name']}({','.join(abi_type(part) for part in entry['inputs'])})"


class Artifact:
    """One committed artifact: what is deployed, and how to talk to it."""

    def __init__(self, name):
        made = json.loads((ROOT / "artifacts" / f"{name}.json").read_text())
        self.name = name
        self.creation = bytes.fromhex(made["bytecode"][2:])
        self.deployed = bytes.fromhex(made["deployedBytecode"][2:])
        self.immutables = made["immutables"]
        self.storage = made["storageLayout"]
        by_kind = lambda kind: [entry for entry in made["abi"] if entry["type"] == kind]
        self.functions = {entry["name"]: entry for entry in by_kind("function")}
        self.errors = {keccak(text=signature_of(entry))[:4]: entry for entry in by_kind("error")}
        self.events = {keccak(text=signature_of(entry)): entry for entry in by_kind("event")}
        constructor = by_kind("constructor")
        self.constructor = [abi_type(part) for part in constructor[0]["inputs"]] if constructor else []

    def call_data(self, function, arguments):
        entry = self.functions[function]
        types = [abi_type(part) for part in entry["inputs"]]
        return keccak(text=signature_of(entry))[:4] + encode(types, arguments)

    def answer(self, function, output):
        types = [abi_type(part) for part in self.functions[function]["outputs"]]
        values = decode(types, output)
        return values[0] if len(values) == 1 else values

    def refusal(self, output):
        entry = self.errors.get(output[:4])
        if entry is None:
            return Refused(f"unnamed 0x{output[:36].hex()}")
        types = [abi_type(part) for part in entry["inputs"]]
        return Refused(entry["name"], decode(types, output[4:]))


class Evm:
    """A chain of one's own."""

    def __init__(self, people, has_history=True):
        self.db = MemoryDB()
        state = {person.raw: account(balance=1_000_000 * ETHER) for person in people}
        if has_history:  # the contract of EIP-2935; py-evm fills its storage if it finds it
            state[HISTORY_STORAGE_ADDRESS] = account(code=HISTORY_STORAGE_CONTRACT_CODE, nonce=1)
        genesis = {"difficulty": 0, "gas_limit": 30_000_000, "timestamp": START, "base_fee_per_gas": 10**9}
        self.chain = Chain.from_genesis(AtomicDB(self.db), genesis, state)
        self.now = START
        self.gas_used = 0
        # Called with the logs of every call that succeeded: (address, topics, data).
        self.watchers = []

    def copy(self):
        """The same chain, going its own way from here."""
        other = object.__new__(Evm)
        other.db = MemoryDB(dict(self.db.kv_store))
        other.chain = Chain(AtomicDB(other.db))
        other.now, other.gas_used, other.watchers = self.now, 0, []
        return other

    @property
    def number(self):
        """Of the newest block."""
        return self.chain.get_canonical_head().block_number

    def hash_of(self, number):
        return self.chain.get_canonical_block_header_by_number(number).hash

    def mine(self):
        """An empty block."""
        self._mine(lambda: None)

    def _mine(self, fill):
        self.now += 1
        self.chain.set_header_timestamp(self.now)
        # What happens before a block's transactions (EIP-2935), which py-evm does on import and not when it mines.
        vm = self.chain.get_vm()
        vm.block_preprocessing(vm.get_block())
        vm.state.persist()
        self.chain.header = self.chain.header.copy(state_root=vm.state.state_root)
        done = fill()
        self.chain.mine_block()
        return done

    def warp(self, to):
        """The next block is made at `to` at the earliest."""
        assert to >= self.now, "time only goes forward"
        self.now = max(self.now, to - 1)

    def transact(self, person, to, value, data):
        """The computation of a transaction in a block of its own. Raises nothing: a refused one is in its block too."""
        vm = self.chain.get_vm()
        unsigned = vm.create_unsigned_transaction(
            nonce=vm.state.get_nonce(person.raw), gas_price=GAS_PRICE, gas=GAS_LIMIT, to=to, value=value, data=data
        )
        signed = unsigned.as_signed_transaction(person.key, CHAIN_ID)
        block, receipt, computation = self._mine(lambda: self.chain.apply_transaction(signed))
        assert len(block.transactions) == 1
        self.gas_used = receipt.gas_used
        return computation

    def deploy(self, name, person, *arguments):
        """A contract from its artifact; its code on chain must be the artifact's with the immutables spliced in."""
        artifact = Artifact(name)
        made = self.transact(person, b"", 0, artifact.creation + encode(artifact.constructor, arguments))
        if made.is_error:
            raise artifact.refusal(made.output)
        contract = Contract(self, artifact, made.msg.storage_address)
        contract.assert_code()
        return contract

    def code(self, address):
        return self.chain.get_vm().state.get_code(address)

    def balance(self, who):
        return self.chain.get_vm().state.get_balance(to_canonical_address(getattr(who, "address", who)))

    def storage(self, address, slot):
        """The word at a slot, as 32 bytes."""
        word = self.chain.get_vm().state.get_storage(address, int.from_bytes(slot, "big"))
        return word.to_bytes(32, "big")


class Contract:
    """A deployed contract."""

    def __init__(self, evm, artifact, raw):
        self.evm, self.artifact, self.raw = evm, artifact, raw
        self.address = to_checksum_address(raw)

    def assert_code(self):
        """Byte for byte the artifact's, zeros where immutables went."""
        code = bytearray(self.evm.code(self.raw))
        for immutable in self.artifact.immutables:
            for offset in immutable["offsets"]:
                code[offset : offset + 32] = bytes(32)
        assert bytes(code) == self.artifact.deployed, f"{self.artifact.name}: other code than the artifact's"

    def send(self, person, function, *arguments, value=0):
        """Events of a call in a block of its own, as (name, arguments). A refusal is raised as `Refused`."""
        before = self.storage_root()
        done = self.evm.transact(person, self.raw, value, self.artifact.call_data(function, arguments))
        if done.is_error:
            assert self.storage_root() == before, f"{function} was refused and changed the state"
            raise self.artifact.refusal(done.output)
        for watcher in self.evm.watchers:
            watcher(done.get_log_entries())
        return [self.event(topics, data) for at, topics, data in done.get_log_entries() if at == self.raw]

    def event(self, topics, data):
        entry = self.artifact.events[topics[0].to_bytes(32, "big")]
        plain = [part for part in entry["inputs"] if not part["indexed"]]
        values = iter(decode([abi_type(part) for part in plain], data))
        words = iter(topics[1:])
        take = lambda part: decode([abi_type(part)], next(words).to_bytes(32, "big"))[0] if part["indexed"] else next(values)
        return entry["name"], tuple(take(part) for part in entry["inputs"])

    def view(self, function, *arguments):
        """What a call answers now, without a transaction."""
        vm = self.evm.chain.get_vm()
        caller = bytes(19) + b"\x01"
        done = vm.execute_bytecode(
            origin=caller,
            gas_price=0,
            gas=GAS_LIMIT,
            to=self.raw,
            sender=caller,
            value=0,
            data=self.artifact.call_data(function, arguments),
            code=self.evm.code(self.raw),
        )
        if done.is_error:
            raise self.artifact.refusal(done.output)
        return self.artifact.answer(function, done.output)

    def storage_root(self):
        """The root of its storage trie after the newest block, as the state trie has it."""
        chain = self.evm.chain
        state = HexaryTrie(chain.chaindb.db, chain.get_canonical_head().state_root)
        return rlp_decode(state[keccak(self.raw)])[2]


def account(balance=0, code=b"", nonce=0, storage=None):
    return {"balance": balance, "code": code, "nonce": nonce, "storage": storage or {}}


def create_address(raw, nonce):
    """Where the account's `nonce`th transaction creates a contract."""
    return keccak(rlp_encode([raw, nonce]))[12:]
