/**
 * Providers as data. This room owns the definitions' schema, the catalogue built from `providers/` with the operator's
 * FAIRLEAD_PROVIDERS laid over it, and the template language. URLs: GET /providers, GET /providers/:provider.
 * Everybody above asks it what a provider is like; nobody compares a provider's name.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { JSONValue } from 'hono/utils/types'
import { type Document, LineCounter, parseDocument } from 'yaml'
import type { EgressRules } from '../net/allow.ts'
import { checkUrl } from '../net/policy.ts'
import { type Provider, type ProviderDefinition, providerDefinition } from './schema.ts'
import { parseTemplate, TemplateError } from './template.ts'

export interface Catalogue {
  get(name: string): Provider | undefined
  list(): Provider[]
}

export class CatalogueError extends Error {
  readonly faults: string[]

  constructor(faults: string[]) {
    super(`The provider definitions have faults:\n${faults.map(fault => `  - ${fault}`).join('\n')}`)
    this.name = 'CatalogueError'
    this.faults = faults
  }
}

interface Source {
  file: string
  document: Document
  lines: LineCounter
}

/** A definition under construction: its values by key, and where each key was written. */
interface Draft {
  values: Record<string, unknown>
  sources: Record<string, Source>
}

const builtIn = fileURLToPath(new URL('../../../providers/', import.meta.url))

/** Throws CatalogueError with every fault, each with file and line. */
export function loadCatalogue(options: { overlayPath: string | undefined; egressAllow: EgressRules }): Catalogue {
  const faults: string[] = []
  const drafts = new Map<string, Draft>()
  for (const file of definitionFiles(builtIn)) layOver(drafts, file, faults)
  if (options.overlayPath) for (const file of definitionFiles(options.overlayPath)) layOver(drafts, file, faults)

  const providers = new Map<string, Provider>()
  for (const name of [...drafts.keys()].sort()) {
    const draft = withBase(name, drafts, faults)
    if (!draft) continue
    const place = (path: readonly PropertyKey[]) => locate(name, draft, path)
    const parsed = providerDefinition.safeParse(draft.values)
    if (!parsed.success) {
      for (const issue of parsed.error.issues) {
        // An unknown key is reported by zod on the map that holds it; its reader looks for the line of the key.
        const paths = issue.code === 'unrecognized_keys' ? issue.keys.map(key => [...issue.path, key]) : [issue.path]
        const message = issue.code === 'unrecognized_keys' ? 'is not a key of a provider definition' : issue.message
        for (const path of paths) faults.push(`${place(path)}: ${path.join('.')}: ${message}`)
      }
      continue
    }
    for (const fault of lint(parsed.data, options.egressAllow))
      faults.push(`${place(fault.path)}: ${fault.path.join('.')}: ${fault.message}`)
    providers.set(name, { name, ...parsed.data })
  }
  if (faults.length > 0) throw new CatalogueError(faults)
  return { get: name => providers.get(name), list: () => [...providers.values()] }
}

function definitionFiles(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .filter(name => /\.ya?ml$/.test(name))
    .sort()
    .map(name => join(path, name))
}

/** Key by key: a file that names one key of a provider changes that key and nothing else. */
function layOver(drafts: Map<string, Draft>, file: string, faults: string[]): void {
  const lines = new LineCounter()
  const document = parseDocument(readFileSync(file, 'utf8'), { lineCounter: lines, prettyErrors: false })
  for (const error of document.errors) faults.push(`${file}:${lines.linePos(error.pos[0]).line}: ${error.message}`)
  if (document.errors.length > 0) return
  let content: unknown
  try {
    content = document.toJS()
  } catch (error) {
    // Aliases are resolved only now. The usual cause is a host pattern without quotes: to YAML, *.acme.com is an alias.
    faults.push(`${file}: ${(error as Error).message} Quote a value that begins with "*".`)
    return
  }
  if (content === null) return
  if (!isMap(content)) {
    faults.push(`${file}:1: expected provider names, each with its definition`)
    return
  }
  const source = { file, document, lines }
  for (const [name, values] of Object.entries(content)) {
    if (!/^[a-zA-Z0-9_-]+$/.test(name) || !isMap(values)) {
      faults.push(`${lineOf(source, [name])}: a provider is a name of letters, digits, _ and - with a map of keys`)
      continue
    }
    const draft = drafts.get(name) ?? { values: {}, sources: {} }
    drafts.set(name, draft)
    for (const [key, value] of Object.entries(values)) {
      draft.values[key] = value
      draft.sources[key] = source
    }
  }
}

/** `alias: other` copies the other definition; own keys override. */
function withBase(name: string, drafts: Map<string, Draft>, faults: string[], seen: string[] = []): Draft | undefined {
  const { values, sources } = drafts.get(name)!
  const { alias, ...own } = values
  if (alias === undefined) return { values, sources }
  const at = sources.alias ? lineOf(sources.alias, [name, 'alias']) : name
  if (typeof alias !== 'string' || !drafts.has(alias) || seen.includes(alias)) {
    faults.push(
      `${at}: alias: ${seen.includes(String(alias)) ? 'goes in a circle' : `there is no provider "${String(alias)}"`}`,
    )
    return undefined
  }
  const base = withBase(alias, drafts, faults, [...seen, name])
  return base && { values: { ...base.values, ...own }, sources: { ...base.sources, ...sources } }
}

function locate(name: string, draft: Draft, path: readonly PropertyKey[]): string {
  const source = draft.sources[String(path[0])] ?? Object.values(draft.sources)[0]
  return source ? lineOf(source, [name, ...path]) : name
}

/** The line of the deepest node on the path that the file has. */
function lineOf(source: Source, path: readonly PropertyKey[]): string {
  for (let length = path.length; length > 0; length--) {
    const node = source.document.getIn(path.slice(0, length), true) as { range?: [number, number, number] } | undefined
    if (node?.range) return `${source.file}:${source.lines.linePos(node.range[0]).line}`
  }
  return `${source.file}:1`
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

interface Fault {
  path: string[]
  message: string
}

/** What a schema cannot say: templates parse, patterns compile, endpoints are https unless the operator opened that host. */
function lint(definition: ProviderDefinition, egressAllow: EgressRules): Fault[] {
  const faults: Fault[] = []
  const templates: [string[], string][] = [
    ...endpointTemplates(definition),
    ...Object.entries(definition.proxy?.headers ?? {}).map(([name, value]): [string[], string] => [
      ['proxy', 'headers', name],
      value,
    ]),
    ...Object.entries(definition.proxy?.query ?? {}).map(([name, value]): [string[], string] => [
      ['proxy', 'query', name],
      value,
    ]),
    ...textsIn(definition.proxy?.body, ['proxy', 'body']),
    ...Object.entries(definition.token_params ?? {}).map(([name, value]): [string[], string] => [
      ['token_params', name],
      value,
    ]),
  ]
  for (const [path, source] of templates) {
    try {
      parseTemplate(source)
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error
      faults.push({ path, message: error.message })
    }
  }
  for (const [path, source] of endpointTemplates(definition))
    for (const url of literalUrls(source)) {
      const refusal = checkUrl(egressAllow, url)
      if (refusal) faults.push({ path, message: `${refusal} An operator opens a host with FAIRLEAD_EGRESS_ALLOW.` })
    }
  const patterns: [string[], string][] = [
    ...Object.entries(definition.connection_config ?? {}).flatMap(([name, field]): [string[], string][] =>
      field.pattern ? [[['connection_config', name, 'pattern'], field.pattern]] : [],
    ),
    ...Object.entries(definition.token_response_captures ?? {}).map(([member, pattern]): [string[], string] => [
      ['token_response_captures', member],
      pattern,
    ]),
  ]
  for (const [path, pattern] of patterns) {
    try {
      new RegExp(pattern)
    } catch {
      faults.push({ path, message: 'is not a regular expression' })
    }
  }
  if (definition.auth_mode === 'OAUTH2')
    for (const key of ['authorization_url', 'token_url'] as const)
      if (!definition[key] && definition.installation !== 'outbound')
        faults.push({ path: [key], message: 'is needed for OAUTH2' })
  return faults
}

/** Every text at any depth, with its path. */
function textsIn(value: unknown, path: string[]): [string[], string][] {
  if (typeof value === 'string') return [[path, value]]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, one]) => textsIn(one, [...path, name]))
}

function endpointTemplates(definition: ProviderDefinition): [string[], string][] {
  const { authorization_url, token_url, refresh_url, introspection_url, revocation_url, proxy } = definition
  const tokenUrls: [string[], string | undefined][] =
    typeof token_url === 'object'
      ? Object.entries(token_url).map(([mode, url]) => [['token_url', mode], url])
      : [[['token_url'], token_url]]
  const all: [string[], string | undefined][] = [
    [['authorization_url'], authorization_url],
    ...tokenUrls,
    [['refresh_url'], refresh_url],
    [['introspection_url'], introspection_url],
    [['revocation_url'], revocation_url],
    [['proxy', 'base_url'], proxy?.base_url],
  ]
  return all.flatMap(([path, url]): [string[], string][] => (url === undefined ? [] : [[path, url]]))
}

/** The alternatives of a URL template whose scheme and host are written out. */
function literalUrls(source: string): URL[] {
  return source.split(' || ').flatMap(alternative => {
    const host = /^https?:\/\/([^/?#$]+)(?=[/?#]|$)/.exec(alternative)
    const url = host && URL.parse(host[0])
    return url ? [url] : []
  })
}

/** Whether a URL of this provider begins with this fact of an account, which then decides where credentials go. */
export const beginsUrl = (provider: ProviderDefinition, fact: string): boolean =>
  endpointTemplates(provider)
    .flatMap(([, source]) => source.split(' || '))
    .some(alternative => alternative.startsWith(`\${connectionConfig.${fact}}`))

/** Hosts a credential of this provider may be sent to: those its own URLs spell out, and its list. */
export function hostAllowed(provider: ProviderDefinition, host: string): boolean {
  const literal = endpointTemplates(provider).flatMap(([, source]) => literalUrls(source).map(url => url.hostname))
  return literal.includes(host) || (provider.allowed_hosts ?? []).some(entry => matchesHost(entry, host))
}

const matchesHost = (entry: string, host: string): boolean =>
  entry.startsWith('*.') ? host.endsWith(entry.slice(1)) && host.length > entry.length - 1 : host === entry

interface ProviderView {
  [member: string]: JSONValue
  name: string
  display_name: string
  auth_mode: string
  logo_url: string
}

/** The public form of a definition: all of it, with its name and where its logo is. It was YAML, so it is JSON. */
export const providerView = (provider: Provider, baseUrl: string): ProviderView =>
  ({ ...provider, logo_url: `${baseUrl}/images/template-logos/${provider.name}.svg` }) as ProviderView
