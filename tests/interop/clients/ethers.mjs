// A full round with ethers: deploy, write, read, logs, filter, subscription. Usage: node ethers.mjs HTTP_URL WS_URL
import { Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, WebSocketProvider, isError, parseEther } from 'ethers'
import { abi, bytecode, equal, key, within, zero } from './contract.mjs'

const [httpUrl, wsUrl] = process.argv.slice(2)
const provider = new JsonRpcProvider(httpUrl, undefined, { cacheTimeout: -1, pollingInterval: 50 })
const signer = new NonceManager(new Wallet(key, provider))
equal('chain id', Number((await provider.getNetwork()).chainId), 31337)

// Deploy.
const deployed = await new ContractFactory(abi, bytecode, signer).deploy(await signer.getAddress(), zero, zero)
await deployed.waitForDeployment()
const address = await deployed.getAddress()
if ((await provider.getCode(address)).length < 1000) throw new Error(`no code at ${address}`)
const contract = new Contract(address, abi, signer)

// A filter and a subscription, both from before the write.
const filter = await provider.send('eth_newFilter', [{ address, topics: [contract.interface.getEvent('FleetCreated').topicHash] }])
const socket = new WebSocketProvider(wsUrl)
const watched = new Contract(address, abi, socket)
const sawHead = new Promise((resolve) => socket.once('block', resolve))
const sawEvent = new Promise((resolve) => watched.once('FleetCreated', (...parts) => resolve(parts.at(-1))))
const polled = new Promise((resolve) => contract.once('FleetCreated', (...parts) => resolve(parts.at(-1))))
// Subscribing has no answer here: these are sent after it on the same connection.
await socket.send('eth_chainId', [])
await within('subscriptions', socket.listenerCount('block').then(() => socket.send('eth_chainId', [])))
await provider.getBlockNumber()

// Write, until each kind of listener has heard: ethers starts to listen in its own time.
const sent = await contract.createFleet(0)
const receipt = await sent.wait()
equal('status', receipt.status, 1)
equal('transaction', (await provider.getTransaction(sent.hash)).blockHash, receipt.blockHash)

// Read.
const record = await contract.get(2, `0x${'1'.padStart(64, '0')}`)
if (BigInt(record) === 0n) throw new Error('the fleet has no record')

// Logs, by query and by filter.
const created = await contract.queryFilter(contract.filters.FleetCreated(), 0)
equal('fleets in logs', created.map((log) => Number(log.args.fleet)), [1])
const changes = await provider.send('eth_getFilterChanges', [filter])
equal('logs in the filter', changes.map((log) => log.transactionHash), [sent.hash])
equal('the filter is removed', await provider.send('eth_uninstallFilter', [filter]), true)

// Subscription and polling.
const head = await within('a head by subscription', sawHead)
if (!(head >= receipt.blockNumber)) throw new Error(`a head of ${head}`)
equal('the event by subscription', (await within('an event by subscription', sawEvent)).log.transactionHash, sent.hash)
equal('the event by polling', (await within('an event by polling', polled)).log.transactionHash, sent.hash)
await socket.destroy()

// A refusal reads as one: the contract's own error, by name.
const refusal = await contract.bumpPolicyEpoch.staticCall(7).then(() => null, (error) => error)
equal('the refusal', isError(refusal, 'CALL_EXCEPTION') && refusal.revert?.name, 'NotOperator')

// A plain transfer, and one that the chain signs: it holds the development accounts' keys.
const transfer = await signer.sendTransaction({ to: zero, value: parseEther('1') })
equal('transfer', Number((await transfer.wait()).gasUsed), 21000)
const second = await provider.getSigner(1)
const signed = await second.sendTransaction({ to: zero, value: 1n })
equal('sender', (await signed.wait()).from, await second.getAddress())
console.log('ethers: done')
process.exit(0)
