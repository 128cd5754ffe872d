/**
 * The key ring: the data keys of this database, unwrapped, in memory. One current key per environment seals, and one of the installation
 * (environment 0); retired ones open. Another process's new key arrives by NOTIFY, by the sweep, and at the latest when a value sealed
 * with it is met: a value is committed after its key, so reading the table then always finds it (`Vault.withKeys`).
 */
import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import type { KeyProvider } from './provider.ts'
import type { KeyStore, WrappedKey } from './store.ts'

export const keyIdLength = 8

export interface DataKey {
  id: Buffer
  environment: number
  key: KeyObject
}

export interface Ring {
  find(id: Buffer): DataKey | undefined
  /** The one that seals. */
  current(environment: number): DataKey | undefined
  /** Ids of those that only open. */
  retired(): Buffer[]
  /** Reads the table; keys that are known stay as they are. Begins after the call, so it sees what was committed before. */
  load(): Promise<void>
  /** Gives an environment its first key, unless another process was faster. */
  supply(environment: number): Promise<void>
  /** The environment's current key retires; what is sealed from now on is sealed with a new one. */
  replace(environment: number): Promise<void>
  /** Every data key under the provider's first key. Touches nothing but the wrapping; a key-encryption key is then free to go. */
  rewrap(): Promise<void>
  kekId: string
}

const contextOf = ({ id, environment }: Pick<WrappedKey, 'id' | 'environment'>) => ({
  data_key: id.toString('hex'),
  environment: String(environment),
})

/** Refuses a database with a key that cannot be unwrapped, before anything is written to it. */
export async function openRing(store: KeyStore, provider: KeyProvider): Promise<Ring> {
  let keys = new Map<string, DataKey>()
  let currents = new Map<number, DataKey>()
  let retired: Buffer[] = []

  async function unwrap(row: WrappedKey): Promise<Buffer | undefined> {
    try {
      return await provider.unwrap(row.wrapped, row.kekId, contextOf(row))
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      throw new Error(`The data key ${row.id.toString('hex')} of this database cannot be unwrapped: ${why}.`, { cause })
    }
  }

  async function read(strict: boolean): Promise<void> {
    const found = new Map<string, DataKey>()
    const sealing = new Map<number, DataKey>()
    const opening: Buffer[] = []
    for (const row of await store.list()) {
      const name = row.id.toString('latin1')
      let key = keys.get(name)
      if (!key) {
        const bytes = await unwrap(row)
        if (!bytes && strict) throw new Error(wrongKey)
        // Wrapped by a server with a newer key-encryption key than ours: what it sealed cannot be opened here, all else can.
        if (!bytes) continue
        key = { id: row.id, environment: row.environment, key: createSecretKey(bytes) }
        bytes.fill(0)
      }
      found.set(name, key)
      if (row.retiredAt) opening.push(row.id)
      else sealing.set(row.environment, key)
    }
    keys = found
    currents = sealing
    retired = opening
  }

  /** One after the other. Whoever comes while one runs shares the next: the running one may have read too early. */
  let running: Promise<void> = Promise.resolve()
  let next: Promise<void> | undefined
  const load = () => {
    next ??= running
      .catch(() => {})
      .then(() => {
        next = undefined
        running = read(false)
        return running
      })
    return next
  }

  async function make(environment: number) {
    const id = randomBytes(keyIdLength)
    const bytes = randomBytes(32)
    const wrapped = await provider.wrap(bytes, contextOf({ id, environment }))
    bytes.fill(0)
    return { id, environment, wrapped, kekId: provider.id }
  }

  await read(true)
  const ring: Ring = {
    kekId: provider.id,
    find: id => keys.get(id.toString('latin1')),
    current: environment => currents.get(environment),
    retired: () => retired,
    load,
    async supply(environment) {
      await load()
      if (currents.has(environment)) return
      await store.add(await make(environment))
      await load()
    },
    async replace(environment) {
      await store.replace(await make(environment))
      await load()
    },
    async rewrap() {
      for (const row of await store.list()) {
        if (row.kekId === provider.id) continue
        const bytes = await unwrap(row)
        if (!bytes) continue
        const wrapped = await provider.wrap(bytes, contextOf(row))
        bytes.fill(0)
        await store.rewrap(row, wrapped, provider.id)
      }
    },
  }
  await ring.rewrap()
  return ring
}

const wrongKey =
  'This database was sealed with another encryption key. Start with that key (FAIRLEAD_ENCRYPTION_KEY, or encryption.key in the data folder); without it nothing stored here can be opened.'
