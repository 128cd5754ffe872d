import { randomBytes } from 'node:crypto'
import { open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Secret } from '../lib/secret.ts'

/** Undefined when there is none yet. Throws when what is there cannot be a key: cut short, or not ours. */
export async function readKeyFile(dataDir: string): Promise<Secret | undefined> {
  try {
    const text = (await readFile(join(dataDir, 'encryption.key'), 'utf8')).trim()
    if (!/^[A-Za-z0-9+/]{43}=$/.test(text))
      throw new Error(`encryption.key in ${dataDir} does not hold 32 bytes as base64. Put the right one back.`)
    return new Secret(text)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** On disk before anything is sealed with it: a key lost to a power cut would take every secret with it. */
export async function writeKeyFile(dataDir: string): Promise<Secret> {
  const key = randomBytes(32).toString('base64')
  await writeDurably(join(dataDir, 'encryption.key'), `${key}\n`)
  return new Secret(key)
}

/** Readable by the owner alone, whole or not there, on disk when this resolves. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
  const folder = await open(join(path, '..'), 'r')
  await folder.sync().finally(() => folder.close())
}
