/** The only reader of the environment: which server, and with which API key. A key never comes as an argument, where `ps` would show it. */
import { readFileSync } from 'node:fs'
import { UsageFault } from './faults.ts'

export interface Config {
  /** Without a trailing slash. */
  url: string
  /** Where the address was written, for whoever has to mend it. */
  setting: 'FAIRLEAD_URL' | '--url'
  /** Throws UsageFault when there is none: not every command needs one. */
  key(): string
}

/** An address as everybody may write it, or a sentence about the setting it stands in. */
export function addressIn(text: string, setting: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash)
    throw new UsageFault(
      `${setting} must be an http or https URL without user or query, e.g. https://connect.acme.com.`,
    )
  return url.href.replace(/\/+$/, '')
}

export function readConfig(env: NodeJS.ProcessEnv, environment: string | undefined): Config {
  const url = addressIn(env.FAIRLEAD_URL?.trim() || 'http://localhost:3003', 'FAIRLEAD_URL')
  if (environment !== undefined && !/^[a-z0-9_-]+$/.test(environment))
    throw new UsageFault('--env takes the name of an environment, e.g. dev.')
  // As the server spells it.
  const suffix = environment === undefined ? '' : `_${environment.toUpperCase().replaceAll('-', '_')}`
  return { url, setting: 'FAIRLEAD_URL', key: () => secret(env, `FAIRLEAD_SECRET_KEY${suffix}`, environment) }
}

/** Of the server one comes from, by the name it has there. */
export const keyThere = (env: NodeJS.ProcessEnv): string | undefined => env.NANGO_SECRET_KEY?.trim() || undefined

function secret(env: NodeJS.ProcessEnv, name: string, environment: string | undefined): string {
  const inline = env[name]?.trim()
  // Without an environment it would be the key file of one called "file", as the server reads it.
  const file = environment === undefined ? undefined : env[`${name}_FILE`]?.trim()
  if (inline && file) throw new UsageFault(`${name} and ${name}_FILE are both set; set one of them.`)
  if (inline) return inline
  if (file) {
    try {
      return readFileSync(file, 'utf8').trim()
    } catch (error) {
      throw new UsageFault(`${name}_FILE names a file that cannot be read (${(error as NodeJS.ErrnoException).code}).`)
    }
  }
  throw new UsageFault(
    environment === undefined
      ? 'There is no API key. Set FAIRLEAD_SECRET_KEY, or name an environment: --env dev reads FAIRLEAD_SECRET_KEY_DEV.'
      : `There is no API key for "${environment}". Set ${name}, or ${name}_FILE to a file that holds it.`,
  )
}
