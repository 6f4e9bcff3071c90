// js-libp2p and our relay and devices, over TCP and Noise with secp256k1 keys:
//
//   node clients/libp2p.mjs RELAY DEVICE
//
// RELAY is a relay's multiaddr, DEVICE a circuit to a device of ours that echoes. One host reserves at the relay, another
// dials it through the relay, and dials the device. Prints `reserved MULTIADDR`, echoes whoever comes there until its
// standard input ends, and says `done`.

// Node 22 has it.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((yes, no) => { resolve = yes; reject = no })
  return { promise, resolve, reject }
}

const { createLibp2p } = await import('libp2p')
const { tcp } = await import('@libp2p/tcp')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@libp2p/yamux')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { circuitRelayTransport } = await import('@libp2p/circuit-relay-v2')
const { generateKeyPair } = await import('@libp2p/crypto/keys')
const { multiaddr } = await import('@multiformats/multiaddr')

const ECHO = '/test/echo/1'
const [relay, device] = process.argv.slice(2).map(address => multiaddr(address))

async function host (listen) {
  return createLibp2p({
    privateKey: await generateKeyPair('secp256k1'),
    addresses: { listen },
    transports: [tcp(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() },
    connectionGater: { denyDialMultiaddr: () => false }
  })
}

function check (holds, what) {
  if (!holds) throw new Error(what)
}

async function echo (stream) {
  for await (const chunk of stream) {
    if (!stream.send(chunk)) await stream.onDrain()
  }
  await stream.close()
}

// Sends 300,000 bytes, closes its half, and reads until the other half is closed.
async function echoed (from, address) {
  const stream = await from.dialProtocol(address, ECHO)
  const sent = new Uint8Array(300_000).map((_, at) => at * 7)
  let got = 0
  const reading = (async () => {
    for await (const chunk of stream) {
      for (const byte of chunk.subarray()) check(byte === sent[got++], 'another byte came back')
    }
  })()
  for (let at = 0; at < sent.length; at += 10_000) {
    if (!stream.send(sent.subarray(at, at + 10_000))) await stream.onDrain()
  }
  await stream.close()
  await reading
  check(got === sent.length, `${got} bytes came back`)
}

const reserving = await host([`${relay}/p2p-circuit`])
await reserving.handle(ECHO, echo)
const circuit = reserving.getMultiaddrs().find(address => address.toString().includes('/p2p-circuit'))
check(circuit != null, 'no reservation')

const dialling = await host([])
await echoed(dialling, circuit)
const limits = dialling.getConnections(reserving.peerId).map(connection => connection.limits)
check(limits.every(limit => limit == null), 'the circuit is limited')
await echoed(dialling, device)

console.log(`reserved ${circuit}`)
process.stdin.resume()
await new Promise(resolve => process.stdin.once('end', resolve))
await dialling.stop()
await reserving.stop()
console.log('done')
process.exit(0)
