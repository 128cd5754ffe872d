/**
 * How a credential goes to its provider: the `Authorization` of its kind, and what provider data puts into headers and query with the
 * credential's values. Whatever holds something of the credential is told apart from the rest, because nobody's header replaces it.
 */
import { configValues } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import { expand, type Values } from '../provider/template.ts'
import type { Held, KindName, Signed } from './kinds/kind.ts'
import { kindNamed } from './kinds/kinds.ts'
import type { Holder } from './refresh-deps.ts'

/** A stored credential, or one that is being tried before it is stored. */
export type Presentable = Held & { kind: KindName }

export interface Presented {
  /** Pairs of provider data that hold nothing secret. */
  plain: readonly string[]
  /** Pairs of provider data with something of the credential, or of this very call, in them. */
  named: readonly string[]
  /** Undefined where `named` has it, or nothing is presented. */
  authorization: string | undefined
}

/** A credential never changes (a renewal makes a new one), so what is made of it alone is made once. */
const kept = new WeakMap<Presentable, Presented>()
const keptValues = new WeakMap<Presentable, Values>()
const keptQueries = new WeakMap<Presentable, string>()

export function presented(holder: Holder, credential: Presentable, call: () => Signed): Presented {
  const known = kept.get(credential)
  if (known) return known
  const kind = kindNamed(credential.kind)
  const { provider } = holder
  const headers = Object.entries(provider.proxy?.headers ?? {})
  const ofCall = headers.some(([, source]) => changing.test(source))
  const values = ofCall ? withCall(credentialValues(credential), call()) : credentialValues(credential)
  const plain: string[] = []
  const named: string[] = []
  for (const [name, source] of headers) {
    const value = expand(source, values)
    if (value !== undefined) (isSecret(source) ? named : plain).push(name, value)
  }
  const isNamed = named.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'authorization')
  const nothing = { method: '', origin: '', path: '', form: undefined }
  const authorization = isNamed
    ? undefined
    : kind.authorization?.(credential, kind.signs ? call() : nothing, { provider, client: holder.client })
  const made = { plain, named, authorization }
  if (!ofCall && !kind.signs) kept.set(credential, made)
  return made
}

/** What provider data adds to the query of every call, without a "?"; empty where that is nothing. */
export function presentedQuery({ proxy }: Provider, credential: Presentable): string {
  if (!proxy?.query) return ''
  const known = keptQueries.get(credential)
  if (known !== undefined) return known
  const sources = Object.entries(proxy.query)
  const query = sources
    .flatMap(([name, source]) => {
      const value = expand(source, credentialValues(credential))
      return value === undefined ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`]
    })
    .join('&')
  if (!sources.some(([, source]) => changing.test(source))) keptQueries.set(credential, query)
  return query
}

/** What templates of provider data read where its own API is spoken to: facts of the account, and the credential. */
export function credentialValues(credential: Presentable): Values {
  const known = keptValues.get(credential)
  if (known) return known
  const own = { ...credential.given, ...kindNamed(credential.kind).values(credential) }
  const values = new Map(configValues(credential.config))
  for (const [name, value] of Object.entries(own)) {
    values.set(name, value)
    values.set(name.startsWith('credentials.') ? name : `credentials.${name}`, value)
  }
  keptValues.set(credential, values)
  return values
}

/** Made anew for each call. */
const changing =
  /\$\{\s*(?:now|random|method|path|host|params|endpoint)\b|\(.*\$\{\s*(?:now|random|method|path|host|params|endpoint)\b/

const isSecret = (source: string): boolean => /\$\{/.test(source.replace(/\$\{\s*connectionConfig\.[\w-]+\s*\}/g, ''))

function withCall(values: Values, { method, origin, path }: Signed): Values {
  const [endpoint = '', params = ''] = path.split('?', 2)
  return new Map([
    ...values,
    ['method', method],
    ['host', origin.slice(origin.indexOf('//') + 2)],
    ['path', path],
    ['endpoint', endpoint],
    ['params', params],
  ])
}
