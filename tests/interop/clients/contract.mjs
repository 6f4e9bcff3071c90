// What the JavaScript rounds deploy: Registry from the committed artifact, named as the contract that may write kinds 5
// to 8, and the first development account that sends.
import { readFileSync } from 'node:fs'

const artifact = new URL('../../../contracts/artifacts/Registry.json', import.meta.url)
export const { abi, bytecode } = JSON.parse(readFileSync(artifact, 'utf8'))

/** Everybody's key: the first of the development accounts. */
export const key = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'

export const zero = '0x0000000000000000000000000000000000000000'

/** Fails with what was seen when it isn't what was wanted. */
export function equal(what, seen, wanted) {
  const text = (value) => JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? `${part}n` : part))
  if (text(seen) !== text(wanted)) throw new Error(`${what}: ${text(seen)}, not ${text(wanted)}`)
}

/** The promise's value, or a failure that says what didn't happen in time. */
export async function within(what, promise, milliseconds = 20_000) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
