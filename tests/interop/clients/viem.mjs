// A full round with viem: deploy, write, read, logs, filter, subscription. Usage: node viem.mjs HTTP_URL WS_URL
import { createPublicClient, createWalletClient, http, parseEther, parseEventLogs, webSocket } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { foundry } from 'viem/chains'
import { abi, bytecode, equal, key, within, zero } from './contract.mjs'

const [httpUrl, wsUrl] = process.argv.slice(2)
const account = privateKeyToAccount(key)
const chain = { ...foundry, rpcUrls: { default: { http: [httpUrl], webSocket: [wsUrl] } } }
const reader = createPublicClient({ chain, transport: http(httpUrl), pollingInterval: 20 })
const wallet = createWalletClient({ account, chain, transport: http(httpUrl) })
const socket = createPublicClient({ chain, transport: webSocket(wsUrl, { reconnect: false }) })

equal('chain id', await reader.getChainId(), 31337)

// Deploy.
const deployment = await wallet.deployContract({ abi, bytecode, args: [account.address, zero, zero] })
const deployed = await reader.waitForTransactionReceipt({ hash: deployment })
equal('deployment', deployed.status, 'success')
const address = deployed.contractAddress
const code = await reader.getCode({ address })
if (!code || code.length < 1000) throw new Error(`no code at ${address}`)

// A filter and a subscription, both from before the write.
const filter = await reader.createContractEventFilter({ abi, address, eventName: 'FleetCreated' })
const blockFilter = await reader.createBlockFilter()
const pendingFilter = await reader.createPendingTransactionFilter()
const heads = []
const events = []
let unwatchHeads
let unwatchEvents
const sawHead = new Promise((resolve, reject) => {
  unwatchHeads = socket.watchBlocks({ onBlock: (block) => { heads.push(block); resolve() }, onError: reject })
})
const sawEvent = new Promise((resolve, reject) => {
  unwatchEvents = socket.watchContractEvent({
    abi, address, eventName: 'FleetCreated', onLogs: (logs) => { events.push(...logs); resolve() }, onError: reject,
  })
})
// Subscribing is asynchronous and has no answer here: this one is sent after them on the same connection.
await socket.getBlockNumber()
await socket.getBlockNumber()

// Write.
const { request, result } = await reader.simulateContract({ account, abi, address, functionName: 'createFleet', args: [0] })
equal('the simulated fleet', Number(result), 1)
const hash = await wallet.writeContract(request)
const receipt = await reader.waitForTransactionReceipt({ hash })
equal('status', receipt.status, 'success')
equal('transaction', (await reader.getTransaction({ hash })).blockHash, receipt.blockHash)

// Read.
const key1 = `0x${'1'.padStart(64, '0')}`
const record = await reader.readContract({ abi, address, functionName: 'get', args: [2, key1] })
if (BigInt(record) === 0n) throw new Error('the fleet has no record')
const [set] = parseEventLogs({ abi, logs: receipt.logs, eventName: 'Set' })
const proof = await reader.getProof({ address, storageKeys: [set.args.slot] })
equal('a proven slot', proof.storageProof[0].value, BigInt(set.args.value))

// Logs, by query and by filter.
const created = await reader.getContractEvents({ abi, address, eventName: 'FleetCreated', fromBlock: 0n })
equal('fleets in logs', created.map((log) => Number(log.args.fleet)), [1])
equal('log', created[0].transactionHash, hash)
const filtered = await reader.getFilterChanges({ filter })
equal('fleets in the filter', filtered.map((log) => Number(log.args.fleet)), [1])
equal('nothing new in the filter', await reader.getFilterChanges({ filter }), [])
equal('the filter\'s logs', (await reader.getFilterLogs({ filter })).length, 1)
equal('blocks in the filter', (await reader.getFilterChanges({ filter: blockFilter })).at(-1), receipt.blockHash)
equal('pending in the filter', (await reader.getFilterChanges({ filter: pendingFilter })).includes(hash), true)
equal('the filter is removed', await reader.uninstallFilter({ filter }), true)
let gone = false
try { await reader.getFilterChanges({ filter }) } catch { gone = true }
equal('a removed filter is refused', gone, true)

// Subscription.
await within('a head by subscription', sawHead)
await within('a log by subscription', sawEvent)
equal('the head', heads.at(-1).hash, receipt.blockHash)
equal('the event', events[0].transactionHash, hash)
unwatchHeads()
unwatchEvents()

// A refusal reads as one: the contract's own error, by name.
const refusal = await reader
  .simulateContract({ account, abi, address, functionName: 'bumpPolicyEpoch', args: [7] })
  .then(() => 'none', (error) => error.walk((cause) => cause.name === 'ContractFunctionRevertedError')?.data?.errorName)
equal('the refusal', refusal, 'NotOperator')

// Fees and a plain transfer, on a suggestion of the chain's.
const fees = await reader.estimateFeesPerGas()
if (!(fees.maxFeePerGas > 0n)) throw new Error('no fee suggested')
const other = '0x00000000000000000000000000000000000000aa'
const before = await reader.getBalance({ address: other })
const transfer = await wallet.sendTransaction({ to: other, value: parseEther('1') })
equal('transfer', (await reader.waitForTransactionReceipt({ hash: transfer })).gasUsed, 21000n)
equal('balance', (await reader.getBalance({ address: other })) - before, parseEther('1'))
console.log('viem: done')
process.exit(0)
