# py-libp2p beside our nodes and devices, with secp256k1 keys:
#
#   python clients/pylibp2p.py ask PROTOCOL FRAME NODE…
#   python clients/pylibp2p.py circuit PROTOCOL CIRCUIT
#
# `ask`: for each NODE, a multiaddr over TCP or QUIC that ends in /p2p/…, a host with a key of its own connects (TCP with
# Noise and yamux alone; QUIC is aioquic's), identifies and pings the node, sends FRAME, hexadecimal and with its length
# before it, on a stream of PROTOCOL and reads the frame that comes back. It prints a line of JSON for each. The same address
# under another peer id must not connect.
# `circuit`: a host reserves at the relay of CIRCUIT, dials through it whoever CIRCUIT ends in, and has 30,000 bytes echoed.
# Both say `done` at the end.

import json
import sys

import trio
from multiaddr import Multiaddr

from libp2p import new_host
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.custom_types import TProtocol
from libp2p.host.ping import ID as PING, perform_ping_roundtrip
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.io.utils import read_exactly
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as Noise
from libp2p.transport.quic.stream import QUICStream

# Seconds for everything, on a machine that is busy with everything else, and for one exchange.
WITHIN, EXCHANGE = 100, 10
# An exchange that fails may be had again, on another stream: its reader misses a wake-up now and then.
TRIES = 8


async def stop_writing(stream, code):
    stream._write_closed = True
    stream._backpressure_event.set()
    stream._connection._quic.reset_stream(int(stream.stream_id), code)
    await stream._connection._transmit()


# A defect of py-libp2p 0.8.1, mended: it takes STOP_SENDING, the word that the other side reads no more of a stream, for the
# end of what the other side has written on it, so that answers that came in the same packet are lost.
QUICStream.handle_stop_sending = stop_writing


def host_for(address):
    key = create_new_key_pair()
    quic = "quic-v1" in address
    noise = {NOISE: Noise(key, noise_privkey=create_noise_key_pair().private_key)}
    return new_host(key_pair=key, sec_opt=noise, enable_quic=quic, enable_tcp=not quic)


async def on_a_stream(host, peer, protocol, exchange):
    for left in reversed(range(TRIES)):
        try:
            with trio.fail_after(EXCHANGE):
                stream = await host.new_stream(peer, [TProtocol(protocol)])
                result = await exchange(stream)
                await stream.close()
                return result
        except Exception as failure:
            if left == 0:
                raise
            print(f"again: {protocol}: {failure!r}"[:200], file=sys.stderr)


async def read_frame(stream):
    length, shift = 0, 0
    while True:
        byte = (await read_exactly(stream, 1))[0]
        length |= (byte & 127) << shift
        if byte < 128:
            return await read_exactly(stream, length)
        shift += 7


async def ask(protocol, frame, address):
    async def question(stream):
        await stream.write(bytes.fromhex(frame))
        return await read_frame(stream)

    host = host_for(address)
    node = info_from_p2p_addr(Multiaddr(address))
    async with host.run(listen_addrs=[]):
        await host.connect(node)
        identity = Identify.FromString(await on_a_stream(host, node.peer_id, IDENTIFY, read_frame))
        # One ping a stream: rust-libp2p answers a second one over QUIC only once something else wakes the connection.
        await on_a_stream(host, node.peer_id, PING, perform_ping_roundtrip)
        answer = await on_a_stream(host, node.peer_id, protocol, question)
    peer = ID.from_pubkey(deserialize_public_key(identity.public_key))
    said = {"agent": identity.agent_version, "protocols": sorted(identity.protocols)}
    return {"address": address, "peer": str(peer), "answer": answer.hex(), **said}


async def connects_to_nobody_else(address):
    host = host_for(address)
    node = info_from_p2p_addr(Multiaddr(address))
    somebody = ID.from_pubkey(create_new_key_pair().public_key)
    async with host.run(listen_addrs=[]):
        try:
            await host.connect(PeerInfo(somebody, node.addrs))
        except Exception as refusal:
            print(f"refused: {refusal!r}"[:200], file=sys.stderr)
            return
    raise SystemExit(f"{address} was taken for somebody else")


async def circuit(protocol, address):
    host = host_for(address)
    sent = bytes(at * 7 % 256 for at in range(30_000))

    async def echo(stream):
        await stream.write(sent)
        return await read_exactly(stream, len(sent))

    config = RelayConfig(roles=RelayRole.STOP | RelayRole.CLIENT)
    async with host.run(listen_addrs=[]):
        relays = CircuitV2Transport(host, CircuitV2Protocol(host, config.limits, allow_hop=False), config)
        await relays.dial(Multiaddr(address))
        relay = ID.from_string(relays.parse_circuit_ma(Multiaddr(address))[0].get_peer_id())
        if relay not in relays._reservations:
            raise SystemExit("no reservation")
        device = ID.from_string(Multiaddr(address).get_peer_id())
        if await on_a_stream(host, device, protocol, echo) != sent:
            raise SystemExit("other bytes came back")


async def main(what, protocol, *rest):
    with trio.fail_after(WITHIN):
        if what == "circuit":
            await circuit(protocol, *rest)
        for address in rest[1:] if what == "ask" else ():
            print(json.dumps(await ask(protocol, rest[0], address)), flush=True)
            await connects_to_nobody_else(address)
    print("done")


trio.run(main, *sys.argv[1:])
