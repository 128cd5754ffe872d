import { Secret } from '../server/src/lib/secret.ts'
import type { Db, Vault } from '../server/src/seams.ts'
import { configuredKeys } from '../server/src/vault/provider.ts'
import { openRing } from '../server/src/vault/ring.ts'
import { createKeyStore } from '../server/src/vault/store.ts'
import { createVault } from '../server/src/vault/vault.ts'

/** The vault of a server's database, for rows that a bench seals by itself. */
export async function vaultOf(db: Db, encryptionKey: string): Promise<Vault> {
  const keys = configuredKeys([new Secret(encryptionKey)], () => {
    throw new Error('no key of this bench is in AWS KMS')
  })
  return createVault(await openRing(createKeyStore(db), keys))
}
