// A js-libp2p relay for our devices: prints `relay MULTIADDR` and serves until its standard input ends.

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
const { circuitRelayServer } = await import('@libp2p/circuit-relay-v2')
const { generateKeyPair } = await import('@libp2p/crypto/keys')

const relay = await createLibp2p({
  privateKey: await generateKeyPair('secp256k1'),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), relay: circuitRelayServer() },
  connectionGater: { denyDialMultiaddr: () => false }
})
console.log(`relay ${relay.getMultiaddrs()[0]}`)
process.stdin.resume()
await new Promise(resolve => process.stdin.once('end', resolve))
await relay.stop()
process.exit(0)
