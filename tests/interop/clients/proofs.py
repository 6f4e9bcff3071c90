"""Verifies eth_getProof (EIP-1186) with nothing but keccak256 from a library. Usage: proofs.py HTTP_URL REGISTRY

Walks every block: proves each account that a transaction or log names, and every slot that Registry's logs say was
written, under the state root of a header whose hash is recomputed from its bytes. Then it spoils each proof in several
ways and must find every one out. Shares no code with Windlass: RLP, tries and headers are read here."""

import json
import sys
import urllib.request

from eth_hash.auto import keccak

EMPTY_ROOT = keccak(b"\x80")


def ask(url, method, *params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=30))
    if "error" in answer:
        raise SystemExit(f"{method} {params}: {answer['error']}")
    return answer["result"]


def decode(data):
    """The item that `data` encodes, canonically and to its last byte."""
    item, rest = split(data)
    assert rest == b"", "bytes after the end"
    return item


def split(data):
    first = data[0]
    if first < 0x80:
        return data[:1], data[1:]
    base = 0x80 if first < 0xC0 else 0xC0
    if first - base <= 55:
        start, size = 1, first - base
    else:
        start = first - base - 54
        assert data[1] != 0, "a length with leading zeros"
        size = int.from_bytes(data[1:start])
        assert size > 55, "a long length for a short item"
    payload, rest = data[start : start + size], data[start + size :]
    assert len(payload) == size, "cut short"
    if base == 0x80:
        assert size != 1 or payload[0] >= 0x80, "a byte that needed no length"
        return payload, rest
    items = []
    while payload:
        item, payload = split(payload)
        items.append(item)
    return items, rest


def verify(root, key, proof):
    """The value at `key` under `root`, `None` if proven absent. Every node of `proof` must be needed."""
    path = "".join(f"{byte:02x}" for byte in keccak(key))
    if root == EMPTY_ROOT and not proof:
        return None
    nodes, expected, node = list(proof), root, None
    while True:
        if isinstance(expected, list):
            node = expected  # Shorter than a hash: the parent holds the node itself.
        else:
            encoded = nodes.pop(0)
            assert keccak(encoded) == expected, "not the node that its parent names"
            node = decode(encoded)
        if len(node) == 17:
            if path == "":
                expected, value = None, node[16]
            else:
                expected, path, value = node[int(path[0], 16)], path[1:], b""
        else:
            assert len(node) == 2, "neither branch, extension nor leaf"
            flag, nibbles = node[0][0] >> 4, node[0].hex()
            own = nibbles[1:] if flag & 1 else nibbles[2:]
            if flag & 2:
                assert not nodes, "a node that nothing needs"
                return node[1] if own == path else None
            if not path.startswith(own):
                assert not nodes, "a node that nothing needs"
                return None
            expected, path, value = node[1], path[len(own) :], b""
        if not expected:
            assert not nodes, "a node that nothing needs"
            return value or None


def unhex(text):
    return bytes.fromhex(text[2:].rjust((len(text) - 1) // 2 * 2, "0"))


def spoiled(proof):
    """Proofs that must not verify: cut, extended, with a flipped bit."""
    if not proof:
        return
    yield proof[:-1]
    yield proof + [proof[0]]
    for place in range(0, len(proof[-1]), 7):
        yield proof[:-1] + [proof[-1][:place] + bytes([proof[-1][place] ^ 1]) + proof[-1][place + 1 :]]


def check(root, key, proof, value):
    """Verifies one proof and refuses its spoiled forms; gives how many those were."""
    assert verify(root, key, proof) == value, "another value"
    count = 0
    for forged in spoiled(proof):
        count += 1
        try:
            verify(root, key, forged)
        except (AssertionError, IndexError):
            continue
        raise SystemExit("a spoiled proof was taken")
    return count


def main(url, registry):
    registry = registry.lower()
    written, proofs, refused = keccak(b"Set(bytes32,bytes32)"), 0, 0
    for number in range(int(ask(url, "eth_blockNumber"), 16) + 1):
        block = ask(url, "eth_getBlockByNumber", hex(number), True)
        header = unhex(ask(url, "debug_getRawHeader", hex(number)))
        assert keccak(header).hex() == block["hash"][2:], "the header's hash"
        root = decode(header)[3]
        logs = ask(url, "eth_getLogs", {"fromBlock": hex(number), "toBlock": hex(number)})
        accounts = {"0x" + "5a" * 20} | {log["address"] for log in logs}
        accounts |= {one[name] for one in block["transactions"] for name in ("from", "to") if one[name]}
        slots = [log["topics"][1] for log in logs if log["topics"] and unhex(log["topics"][0]) == written]
        for account in sorted(accounts):
            keys = sorted(set(slots)) if account == registry else ["0x" + "00" * 32]
            answer = ask(url, "eth_getProof", account, keys, hex(number))
            numbers = [unhex(answer[name]).lstrip(b"\0") for name in ("nonce", "balance")]
            fields = numbers + [unhex(answer["storageHash"]), unhex(answer["codeHash"])]
            proof = [unhex(node) for node in answer["accountProof"]]
            proven = verify(root, unhex(account), proof)
            assert proven is None or decode(proven) == fields, "another account"
            assert proven is not None or fields == [b"", b"", EMPTY_ROOT, keccak(b"")], "an absent account with values"
            refused += check(root, unhex(account), proof, proven)
            for slot in answer["storageProof"]:
                nodes, value = [unhex(node) for node in slot["proof"]], unhex(slot["value"]).lstrip(b"\0")
                leaf = verify(fields[2], unhex(slot["key"]).rjust(32, b"\0"), nodes)
                assert (decode(leaf) if leaf else b"") == value, "another value"
                refused += check(fields[2], unhex(slot["key"]).rjust(32, b"\0"), nodes, leaf)
                proofs += 1
            proofs += 1
    print(json.dumps({"proofs": proofs, "refused": refused}))


main(*sys.argv[1:])
