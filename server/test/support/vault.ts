/** Vaults for tests: one that keeps its data keys in memory, and one more on a database a server uses. */
import { randomBytes } from 'node:crypto'
import { Secret } from '../../src/lib/secret.ts'
import type { Db, Vault } from '../../src/seams.ts'
import { configuredKeys } from '../../src/vault/provider.ts'
import { openRing } from '../../src/vault/ring.ts'
import { createKeyStore, type KeyStore, type NewKey, type WrappedKey } from '../../src/vault/store.ts'
import { createVault } from '../../src/vault/vault.ts'

export const newEncryptionKey = (): string => randomBytes(32).toString('base64')

/** Where no key is in AWS KMS. */
export const noKms = (): never => {
  throw new Error('no key of this test is in AWS KMS')
}

export const ringOn = async (store: KeyStore, ...keys: string[]) =>
  openRing(
    store,
    configuredKeys(
      keys.map(key => new Secret(key)),
      noKms,
    ),
  )

export const vaultOn = async (db: Db, ...keys: string[]): Promise<Vault> =>
  createVault(await ringOn(createKeyStore(db), ...keys))

/** `rows` are what the table would hold. */
export function keysInMemory(): KeyStore & { rows: WrappedKey[] } {
  const rows: WrappedKey[] = []
  const current = (environment: number) => rows.find(row => row.environment === environment && !row.retiredAt)
  const add = async (key: NewKey) => {
    if (!current(key.environment)) rows.push({ ...key, createdAt: new Date(), retiredAt: null })
  }
  return {
    rows,
    list: async () => rows.map(row => ({ ...row })),
    add,
    async replace(key) {
      const retiring = current(key.environment)
      if (retiring) retiring.retiredAt = new Date()
      await add(key)
    },
    async rewrap(from, wrapped, kekId) {
      const row = rows.find(one => one.id.equals(from.id) && one.wrapped.equals(from.wrapped))
      if (row) Object.assign(row, { wrapped, kekId })
    },
  }
}

/** Seals for these environments and the installation at once. */
export async function vaultInMemory(environments = [1, 2], key = newEncryptionKey()): Promise<Vault> {
  const ring = await ringOn(keysInMemory(), key)
  for (const environment of [0, ...environments]) await ring.supply(environment)
  return createVault(ring)
}
