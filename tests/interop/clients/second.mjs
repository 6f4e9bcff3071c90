// A second implementation of our wire formats, written from docs/protocol.md alone; it shares no code with Windlass.
//
//   node clients/second.mjs SPEC PUBLISHER NODE LABEL PORT < SECRET
//
// SPEC is a file, NODE a multiaddr, SECRET an enrolled device's key in hexadecimal, on a line. Verifies the spec, resolves
// what it takes to open LABEL's service tcp/PORT, walks to the committee that vouches for it, verifies it, refuses it
// spoiled in every seventh byte, watches it, opens the service through a relay and fetches `/`. Prints a line of JSON for
// each, then one for every proven change of what it watches, until its standard input ends.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { AbiCoder, SigningKey, TypedDataEncoder, computeAddress, concat, decodeRlp, encodeRlp, getBytes, hexlify, keccak256, toBeHex, toUtf8Bytes } from 'ethers'
Promise.withResolvers ??= () => { let ends; const promise = new Promise((resolve, reject) => { ends = { resolve, reject } }); return { promise, ...ends } } // Node 22 has it.
const modules = ['libp2p', '@libp2p/tcp', '@chainsafe/libp2p-noise', '@libp2p/yamux', '@libp2p/identify', '@libp2p/circuit-relay-v2', '@libp2p/crypto/keys', '@multiformats/multiaddr']
const { createLibp2p, tcp, noise, yamux, identify, circuitRelayTransport, privateKeyFromRaw, publicKeyFromRaw, multiaddr } =
  Object.assign({}, ...await Promise.all(modules.map(name => import(name))))
const check = (holds, what) => { if (!holds) throw new Error(what) }
const say = line => console.log(JSON.stringify(line))
const now = () => Math.floor(Date.now() / 1000)
const number = hex => (hex === '0x' ? 0 : Number(hex))
const integer = value => (BigInt(value) === 0n ? '0x' : toBeHex(value))
const word = value => toBeHex(value, 32)
const bits = (value, from, count) => (value >> BigInt(from)) & ((1n << BigInt(count)) - 1n)

const decode = bytes => {
  const item = decodeRlp(bytes)
  check(encodeRlp(item) === hexlify(bytes), 'not the one encoding of its content')
  return item
}
function publicKey (digest, signature) {
  const [r, s, v] = [0, 32, 64].map(at => getBytes(signature).slice(at, at + 32))
  check(v.length === 1 && v[0] < 2, 'not a signature')
  return SigningKey.recoverPublicKey(digest, { r: hexlify(r), s: hexlify(s), v: 27 + v[0] }) // Refuses a high s.
}
const signer = (digest, signature) => computeAddress(publicKey(digest, signature)).toLowerCase()
const typed = (name, domain, fields, value) => TypedDataEncoder.hash({ version: '1', ...domain }, { [name]: fields.map(([type, name]) => ({ type, name })) }, value)

function readSpec (bytes, publisher) {
  const [text, signature] = decode(bytes)
  const digest = typed('ChainSpec', { name: 'Windlass ChainSpec' }, [['bytes32', 'rlpHash']], { rlpHash: keccak256(text) })
  check(signer(digest, signature) === publisher.toLowerCase(), 'another publisher')
  const [, chainId, genesis, [[registry, code]], , committee, interval, , lag, trusting, epoch, , , [upper, lower], dev, date] = decode(text)
  const numbers = Object.entries({ interval, lag, trusting, epoch, upper, lower, date, dev }).map(([name, value]) => [name, number(value)])
  return { chainId, genesis, registry, code, committee, ...Object.fromEntries(numbers) }
}

// The value at a trie key under `root`; undefined where there is none. Takes what it needs out of `unused`.
function prove (root, key, nodes, unused) {
  let [path, next] = [key.slice(2), root]
  while (next !== '0x') {
    check(typeof next !== 'string' || nodes.has(next), 'a node is missing')
    const node = typeof next === 'string' ? decode(nodes.get(next)) : next // One shorter than a hash stands in its parent.
    unused.delete(next)
    const flags = parseInt(node[0][2], 16)
    const own = node.length === 17 ? path[0] : node[0].slice(flags & 1 ? 3 : 4)
    if (node.length === 2 && !path.startsWith(own)) return undefined
    if (node.length === 2 && flags & 2) return node[1]
    next = node.length === 17 ? node[parseInt(path[0], 16)] : node[1]
    path = path.slice(own.length)
  }
}

// What `wanted` makes of the slots that it reads, which must need every node of the bundle.
function verify (spec, committee, [header, attestations, account, storage], wanted) {
  const [fields, hash] = [decode(header), keccak256(header)]
  const [height, time] = [number(fields[8]), number(fields[11])]
  const [epoch, members] = [Math.floor(time / spec.epoch), committee.members]
  check(epoch <= committee.last, 'a head of a later epoch')
  const said = [['uint64', 'number'], ['bytes32', 'hash'], ['uint64', 'attestedAt'], ['bytes32', 'nonce']]
  const signers = attestations.map(([at, nonce, signature]) => {
    check(number(at) <= now() + 60 && time + spec.lag >= number(at), 'an attestation of another time')
    const head = { number: height, hash, attestedAt: number(at), nonce: nonce === '0x' ? word(0) : nonce }
    return signer(typed('Head', { name: 'Windlass Head', chainId: spec.chainId, salt: spec.genesis }, said, head), signature)
  })
  check(new Set(signers).size === signers.length && signers.every(one => members.includes(one)), 'a signer who may not')
  check(signers.length >= Math.floor(members.length * spec.upper / spec.lower) + 1 && height % spec.interval === 0, 'too few vouch for this head')
  check(spec.dev || time <= now() + 60, 'a header from the future')
  const [accounts, nodes] = [account, storage].map(list => new Map(list.map(node => [keccak256(node), node])))
  const unused = new Set([...accounts.keys(), ...nodes.keys()])
  const [, , root, code] = decode(prove(fields[3], keccak256(spec.registry), accounts, unused))
  check(code === spec.code, 'another contract')
  const made = wanted(([kind, key]) => {
    const leaf = prove(root, keccak256(keccak256(concat([key, word(kind)]))), nodes, unused)
    return leaf === undefined ? 0n : BigInt(decode(leaf))
  }, time)
  check(unused.size === 0 && account.length + storage.length === accounts.size + nodes.size, 'a node that nothing needs')
  return { made, height, time, epoch }
}

// All that is needed to connect, derived from records in the order of the page.
const expand = (label, caller, service) => (read, time) => {
  const hash = (types, values) => keccak256(AbiCoder.defaultAbiCoder().encode(types, values))
  const name = read([5, keccak256(toUtf8Bytes(label))])
  check(bits(name, 160, 40) > time && bits(name, 200, 8) === 1n, 'not the name of a device')
  const target = toBeHex(bits(name, 0, 160), 20)
  const [device, own] = [read([0, word(target)]), read([0, word(caller)])]
  check([device, own].every(one => bits(one, 248, 8) === 1n && bits(one, 208, 40) > time), 'a device that is not active')
  const [fleet, theirs] = [bits(device, 160, 48), bits(own, 160, 48)]
  const policy = bits(read([2, word(fleet)]), 160, 40)
  const targets = [[1, target], [2, fleet]].flatMap(one => [[1, caller], [2, theirs], [3, 0]].flatMap(who => [service, 0xffffffff].map(port => [...one, ...who, port])))
  for (const [place, party] of targets.entries()) {
    const grant = hash(['uint48', 'bytes32'], [fleet, hash(['uint8', 'uint256', 'uint8', 'uint256', 'uint32'], party)])
    const record = read([4, grant])
    if (bits(record, 0, 40) > time && bits(record, 40, 40) === policy && bits(record, 80, 48) === fleet && bits(record, 128, 1)) {
      return { target, key: toBeHex(bits(device, 0, 160), 20), place, rests: [[0, word(target)], [0, word(caller)], [4, grant]] }
    }
  }
  throw new Error('no grant')
}

class Wire {
  constructor (stream) { Object.assign(this, { stream, got: Buffer.alloc(0), pieces: stream[Symbol.asyncIterator]() }) }
  send (...parts) { this.stream.send(getBytes(concat(parts.map(part => Uint8Array.from(part))))) }
  async take (count) {
    while (this.got.length < count) {
      const { value, done } = await this.pieces.next()
      check(!done, 'the stream was cut')
      this.got = Buffer.concat([this.got, value.subarray()])
    }
    const taken = this.got
    this.got = taken.subarray(count)
    return taken.subarray(0, count)
  }
  frame (item) {
    const [bytes, prefix] = [getBytes(encodeRlp(item)), []]
    for (let rest = bytes.length; rest > 0; rest >>= 7) prefix.push(rest > 127 ? (rest & 127) | 128 : rest)
    this.send(prefix, bytes)
  }
  async next () {
    let [size, byte] = [0, 128]
    for (let shift = 0; byte & 128; shift += 7) size |= ((byte = (await this.take(1))[0]) & 127) << shift
    return decode(await this.take(size))
  }
}

const [file, publisher, node, label, port] = process.argv.slice(2)
const lines = createInterface({ input: process.stdin })
const secret = await new Promise(resolve => lines.once('line', resolve))
lines.once('close', () => process.exit(0))
const [caller, service, spec] = [computeAddress(secret), 65536 + Number(port), readSpec(readFileSync(file), publisher)]
const host = await createLibp2p({
  privateKey: privateKeyFromRaw(getBytes(secret)), transports: [tcp(), circuitRelayTransport()], connectionEncrypters: [noise()], streamMuxers: [yamux()], services: { identify: identify() }, connectionGater: { denyDialMultiaddr: () => false }
})
const open = async (at, protocol) => new Wire(await host.dialProtocol(multiaddr(at), protocol))
async function ask (...questions) {
  const wire = await open(node, '/windlass/resolve/1')
  wire.frame([questions])
  const answer = await wire.next()
  check(answer[0] !== '0x01', `the node declines: ${answer[1]}`)
  return answer
}

const [, bundle, routes] = await ask([integer(7), ['0x', hexlify(toUtf8Bytes(label))], caller, integer(service)])
const committee = { last: Math.floor(spec.date / spec.epoch), members: spec.committee }
while (committee.last < Math.floor(number(decode(bundle[0])[11]) / spec.epoch)) { // This head is of a later epoch.
  const [, bundle, to, members] = await ask([integer(6), integer(committee.last + 1)])
  check(now() <= (committee.last + 1) * spec.epoch + spec.trusting, 'slept too long')
  const [from, last] = [committee.last + 1, number(to)]
  const { made, time, epoch } = verify(spec, { ...committee, last: Infinity }, bundle, read => Array.from({ length: last - from + 1 }, (_, at) => read([11, word(from + at)])))
  check(epoch >= committee.last && last >= from && last - from < 24 && (last <= epoch || (last === epoch + 1 && time % spec.epoch >= spec.epoch / 2)), 'a step too far')
  const list = made.pop()
  check(made.every(one => one === 0n) && (list === 0n) === (members.length === 0), 'a committee was left out')
  check(list === 0n || (last === epoch + 1 && BigInt(keccak256(concat(members.map(word)))) === list), 'another committee')
  Object.assign(committee, { last, members: list === 0n ? committee.members : members })
}
const found = verify(spec, committee, bundle, expand(label, caller, service))
const takes = bytes => { try { return verify(spec, committee, decode(bytes), expand(label, caller, service)) } catch { return undefined } }
const bytes = getBytes(encodeRlp(bundle))
const spoiled = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, at) => Uint8Array.from(bytes, (byte, place) => byte ^ (place === 7 * at)))
check(takes(bytes) && !spoiled.some(takes), 'a spoiled bundle was taken')
const { target, key, place, rests } = found.made
say({ resolved: target, block: found.height, epoch: found.epoch, bytes: bytes.length, refused: spoiled.length })
const [text, signature] = routes[0]
const owner = publicKey(keccak256(concat([toUtf8Bytes('\x19Windlass Route\n'), text])), signature)
const [version, chain, genesis, device, , issued, life, relays] = decode(text)
check(computeAddress(owner).toLowerCase() === key && device === target && chain === spec.chainId && genesis === spec.genesis && version === '0x01', 'not its route')
check(number(issued) <= now() + 60 && number(issued) + number(life) > now() && number(life) <= 3600, 'a route of another time')
const watch = await open(node, '/windlass/watch/1')
async function pushed () {
  for (;;) {
    const [kind, slots, proof] = await watch.next()
    if (kind !== '0x') continue // A tail notice: nothing proves it.
    const seen = verify(spec, committee, proof, read => slots.map(([kind, slot]) => [number(kind), slot, toBeHex(read([number(kind), slot]))]))
    if (seen.made.length > 0) return seen
  }
}
watch.frame(['0x', rests.map(([kind, slot]) => [integer(kind), slot]), []])
say({ watching: (await pushed()).made.map(([kind]) => kind) })
const [, staple] = await ask(...rests.slice(1).map(([kind, slot]) => ['0x08', integer(kind), slot]))
verify(spec, committee, staple, read => rests.slice(1).map(read))
const peer = publicKeyFromRaw(getBytes(SigningKey.computePublicKey(owner, true)))
const stream = await open(`${multiaddr(getBytes(relays[0]))}/p2p-circuit/p2p/${peer}`, '/windlass/stream/1')
stream.frame([integer(service), integer(2 + place), caller, '0x', '0x', staple])
check((await stream.next())[0] === '0x', 'refused')
const request = toUtf8Bytes('GET / HTTP/1.0\r\n\r\n')
stream.send([0, request.length], request)
let page = ''
for (let size = 1; size > 0; page += await stream.take(size)) size = (await stream.take(2)).readUInt16BE()
stream.send([0, 0])
say({ page: page.split('\r\n\r\n')[1] })
for (;;) say({ changed: (await pushed()).made })
