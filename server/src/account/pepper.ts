import { createHmac } from 'node:crypto'
import { randomToken } from '../lib/id.ts'
import type { Db, Vault } from '../seams.ts'
import { addSetting, readSetting, settingPlace } from './store.ts'

/** HMAC-SHA-256 with the installation's pepper: what API keys, session tokens and refresh tokens are looked up by. */
export type KeyedHash = (text: string) => Buffer

const name = 'lookup_pepper'

/** The pepper is a random value sealed in the database, not derived from the encryption key, so rotating that key breaks no API key. */
export async function openKeyedHash(db: Db, vault: Vault): Promise<KeyedHash> {
  const place = settingPlace(name)
  if (!(await readSetting(db, name)))
    await addSetting(db, name, await vault.withKeys(() => vault.seal(randomToken(256), place)))
  const sealed = await readSetting(db, name)
  const pepper = Buffer.from(await vault.withKeys(() => vault.open(sealed!, place)), 'base64url')
  return text => createHmac('sha256', pepper).update(text).digest()
}
