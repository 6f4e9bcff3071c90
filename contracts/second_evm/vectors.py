"""The shared vectors, computed once more: everything in contracts/vectors/vectors.json that follows from something else in it.

`python vectors.py --write` fills in what follows, after inputs were added. They were first computed with ethers 6; this is
a second opinion that shares no code with it, with the contracts or with the Rust crates.
"""

import json
import re
import sys

from eth_abi import encode
from eth_utils import keccak, to_checksum_address

from evm import ROOT, Person, create_address
from world import KINDS, STATEMENTS, digest, domain_of, grant_key, grant_parties, head_domain, pack, slot, struct_hash, word

FILE = ROOT / "vectors" / "vectors.json"
# The fields of each record, from the low end up.
FIELDS = {
    "device": [("key", 160), ("fleet", 48), ("validUntil", 40), ("status", 8)],
    "keyOf": [("device", 160), ("since", 40)],
    "fleet": [("operator", 160), ("policyEpoch", 40), ("nonce", 40), ("flags", 16)],
    "grant": [("expiry", 40), ("policyEpoch", 40), ("fleet", 48), ("rights", 8)],
    "name": [("target", 160), ("expiry", 40), ("kind", 8), ("version", 48)],
    "nameOwner": [("owner", 160), ("nonce", 40)],
    "node": [("stake", 96), ("since", 40), ("unbondAt", 40), ("flags", 16)],
}
FIELDS["deviceForever"] = FIELDS["device"]


def hexed(data):
    return "0x" + data.hex()


def raw(text):
    return bytes.fromhex(text[2:])


def value_of(kind, value):
    """A value of the file as eth_abi takes it."""
    if kind == "address":
        return value
    return raw(value) if kind == "bytes32" else int(value)


def is_legal(label):
    """The grammar of names."""
    return bool(re.fullmatch(r"[a-z0-9-]{3,63}", label)) and label[0] != "-" != label[-1] and label[2:4] != "--"


def domain_hash(domain):
    if "salt" in domain:
        assert domain["name"] == "Windlass Head"
        return head_domain(raw(domain["salt"]), int(domain["chainId"]))
    return domain_of(domain["name"], domain["verifyingContract"], int(domain["chainId"]))


def signed(vectors, one):
    name = one["type"].split("(")[0]
    assert one["type"] == STATEMENTS[name]
    fields = [field.split(" ") for field in one["type"][len(name) + 1 : -1].split(",")]
    assert [field for _, field in fields] == list(one["message"])
    values = [value_of(kind, one["message"][field]) for kind, field in fields]
    hash_ = digest(domain_hash(one["domain"]), struct_hash(name, values))
    r, s, v = Person(raw(vectors["people"][one["signer"]]["secret"])).sign(hash_)
    return {**one, "digest": hexed(hash_), "r": hexed(r), "s": hexed(s), "v": v}


def grant(one):
    target, grantee = (int(one[party], 16) for party in ("target", "grantee"))
    h = grant_parties(one["targetKind"], target, one["granteeKind"], grantee, one["service"])
    return {**one, "h": hexed(h), "g": hexed(grant_key(one["fleet"], h))}


def commitment(vectors):
    one = vectors["commitment"]
    kinds = ["bytes32", "address", "address", "uint8", "uint40", "bytes32"]
    fields = ["labelHash", "owner", "target", "kind", "duration", "secret"]
    values = [value_of(kind, one[field]) for kind, field in zip(kinds, fields)]
    data = encode([*kinds, "uint256", "address"], [*values, vectors["chainId"], vectors["contracts"]["names"]])
    return {**one, "digest": hexed(keccak(data))}


def record(name, one):
    fields = FIELDS[name]
    as_number = lambda value: int(value, 16 if str(value).startswith("0x") else 10) if isinstance(value, str) else value
    return {**one, "word": hexed(pack(*[(as_number(one[field]), bits) for field, bits in fields]))}


def recompute(vectors):
    """The file with everything that follows computed anew."""
    people = {
        name: {**one, "address": Person(raw(one["secret"])).address} for name, one in vectors["people"].items()
    }
    creations = [
        {**one, "address": to_checksum_address(create_address(raw(one["deployer"]), one["nonce"]))}
        for one in vectors["creations"]
    ]
    legal = [{**one, "labelHash": hexed(keccak(text=one["label"]))} for one in vectors["names"]["legal"]]
    members = vectors["committee"]["members"]
    return {
        **vectors,
        "people": people,
        "creations": creations,
        "slots": [{**one, "slot": hexed(slot(KINDS[one["kind"]], raw(one["key"])))} for one in vectors["slots"]],
        "records": {name: record(name, one) for name, one in vectors["records"].items()},
        "grants": [grant(one) for one in vectors["grants"]],
        "names": {**vectors["names"], "legal": legal},
        "commitment": commitment(vectors),
        "committee": {**vectors["committee"], "digest": hexed(keccak(b"".join(word(member) for member in members)))},
        "signed": {name: signed(vectors, one) for name, one in vectors["signed"].items()},
    }


if __name__ == "__main__" and "--write" in sys.argv:
    FILE.write_text(json.dumps(recompute(json.loads(FILE.read_text())), indent=1, ensure_ascii=False) + "\n")
