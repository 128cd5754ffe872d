import { createHmac } from 'node:crypto'
import { Failure } from '../errors.ts'
import { randomToken } from '../lib/id.ts'
import type { Db, SealedPlace, Vault } from '../seams.ts'
import { addSetting, readSetting } from './store.ts'

/** HMAC-SHA-256 with the installation's pepper: what API keys, session tokens and refresh tokens are looked up by. */
export type KeyedHash = (text: string) => Buffer

const place: SealedPlace = { table: 'setting', column: 'sealed', environment: 0, row: 'lookup_pepper' }

/**
 * The pepper is a random value sealed in the database, not derived from the encryption key, so rotating that key breaks no API key.
 * Opening it is also the proof that this server holds the key this database was sealed with.
 */
export async function openKeyedHash(db: Db, vault: Vault): Promise<KeyedHash> {
  if (!(await readSetting(db, place.row))) await addSetting(db, place.row, vault.seal(randomToken(256), place))
  const sealed = await readSetting(db, place.row)
  try {
    const pepper = Buffer.from(vault.open(sealed!, place), 'base64url')
    return text => createHmac('sha256', pepper).update(text).digest()
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    throw new Error(
      'This database was sealed with another encryption key. Start with that key (FAIRLEAD_ENCRYPTION_KEY, or encryption.key in the data folder); without it nothing stored here can be opened.',
      { cause: error },
    )
  }
}
