"""A full round with web3.py: deploy, write, read, logs, filter, subscription. Usage: web3py.py HTTP_URL WS_URL"""

import asyncio
import json
import pathlib
import sys

from eth_account import Account
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.logs import DISCARD
from web3.exceptions import ContractCustomError
from web3.middleware import SignAndSendRawMiddlewareBuilder

# Everybody's key: the first of the development accounts.
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ZERO = "0x" + "00" * 20
OTHER = Web3.to_checksum_address("0x" + "aa" * 20)
FLEET = 2  # Registry's kind of record
SECONDS = 20

ARTIFACT = pathlib.Path(__file__).resolve().parents[3] / "contracts/artifacts/Registry.json"


def equal(what, seen, wanted):
    if seen != wanted:
        raise SystemExit(f"{what}: {seen!r}, not {wanted!r}")


async def subscribed(ws_url, address, topic, ready, heads, logs):
    """Subscribes to heads and to one event, says so, and collects what comes until one of each came."""
    async with AsyncWeb3(WebSocketProvider(ws_url)) as web3:
        head_id = await web3.eth.subscribe("newHeads")
        log_id = await web3.eth.subscribe("logs", {"address": address, "topics": [topic]})
        ready.set()
        async for message in web3.socket.process_subscriptions():
            (heads if message["subscription"] == head_id else logs).append(message["result"])
            if heads and logs:
                break
        equal("unsubscribing", await web3.eth.unsubscribe(log_id), True)


async def main(http_url, ws_url):
    web3 = Web3(Web3.HTTPProvider(http_url))
    account = Account.from_key(KEY)
    web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
    equal("chain id", web3.eth.chain_id, 31337)
    send = {"from": account.address}

    # Deploy.
    artifact = json.loads(ARTIFACT.read_text())
    factory = web3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
    deployment = factory.constructor(account.address, ZERO, ZERO).transact(send)
    deployed = web3.eth.wait_for_transaction_receipt(deployment, poll_latency=0.02)
    equal("deployment", deployed.status, 1)
    contract = web3.eth.contract(address=deployed.contractAddress, abi=artifact["abi"])
    if len(web3.eth.get_code(contract.address)) < 1000:
        raise SystemExit("no code")

    # A filter and a subscription, both from before the write.
    created = contract.events.FleetCreated
    log_filter = created.create_filter(from_block="latest")
    block_filter = web3.eth.filter("latest")
    ready, heads, logs = asyncio.Event(), [], []
    watching = asyncio.create_task(subscribed(ws_url, contract.address, created().topic, ready, heads, logs))
    await asyncio.wait([asyncio.create_task(ready.wait()), watching], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    equal("subscribed", ready.is_set(), True)

    # Write.
    written = contract.functions.createFleet(0).transact(send)
    receipt = web3.eth.wait_for_transaction_receipt(written, poll_latency=0.02)
    equal("status", receipt.status, 1)
    equal("transaction", web3.eth.get_transaction(written).blockHash, receipt.blockHash)

    # Read, by call and by proof.
    record = contract.functions.get(FLEET, (1).to_bytes(32)).call()
    if int.from_bytes(record) == 0:
        raise SystemExit("the fleet has no record")
    written_slot = contract.events.Set().process_receipt(receipt, errors=DISCARD)[0].args
    proof = web3.eth.get_proof(contract.address, [int.from_bytes(written_slot.slot)], "latest")
    equal("a proven slot", int.from_bytes(proof.storageProof[0].value), int.from_bytes(written_slot.value))

    # Logs, by query and by filter.
    equal("fleets in logs", [log.args.fleet for log in created.get_logs(from_block=0)], [1])
    equal("logs in the filter", [log.transactionHash for log in log_filter.get_new_entries()], [written])
    equal("nothing new in the filter", log_filter.get_new_entries(), [])
    equal("all the filter's logs", len(log_filter.get_all_entries()), 1)
    equal("blocks in the filter", block_filter.get_new_entries()[-1], receipt.blockHash)
    equal("the filter is removed", web3.eth.uninstall_filter(log_filter.filter_id), True)

    # Subscription.
    await asyncio.wait_for(watching, SECONDS)
    equal("the head", heads[0]["hash"], receipt.blockHash)
    equal("the log", logs[0]["transactionHash"], written)

    # A refusal reads as one: the selector of the contract's own error.
    try:
        contract.functions.bumpPolicyEpoch(7).call(send)
        raise SystemExit("a stranger's fleet was not refused")
    except ContractCustomError as refusal:
        equal("the refusal", refusal.data[:10], Web3.keccak(text="NotOperator()")[:4].to_0x_hex())

    # A plain transfer, with the fees that the chain suggests.
    before = web3.eth.get_balance(OTHER)
    transfer = web3.eth.send_transaction({**send, "to": OTHER, "value": 10**18})
    equal("transfer", web3.eth.wait_for_transaction_receipt(transfer, poll_latency=0.02).gasUsed, 21000)
    equal("balance", web3.eth.get_balance(OTHER) - before, 10**18)
    print("web3.py: done")


asyncio.run(main(*sys.argv[1:]))
