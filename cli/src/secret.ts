/** From a file, from standard input (`-`), or asked for: an argument would stand in the shell's history and in `ps`. */
import { readFileSync } from 'node:fs'
import type { Context } from './command.ts'
import { UsageFault } from './faults.ts'

export async function secretFrom(
  { values, ask }: Pick<Context, 'values' | 'ask'>,
  option: 'client-secret-file' | 'admin-token-file' | 'passphrase-file' | 'key-file',
  what: string,
): Promise<string> {
  const file = values[option]
  if (file === undefined) return ask.secret(what, option)
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8').trim()
  } catch (error) {
    throw new UsageFault(`--${option} names a file that cannot be read (${(error as NodeJS.ErrnoException).code}).`)
  }
}
