/**
 * Providers as data. This room owns the definitions' schema, the catalogue built from `providers/` with the operator's
 * FAIRLEAD_PROVIDERS laid over it, and the template language. URLs: GET /providers, GET /providers/:provider.
 * Everybody above asks it what a provider is like; nobody compares a provider's name.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { JSONValue } from 'hono/utils/types'
import { constructFromEvents, EVENT_ID, type Event, getScalarValue, parseEvents, YAMLException } from 'js-yaml'
import type { EgressRules } from '../net/allow.ts'
import { checkUrl } from '../net/policy.ts'
import { missingPages } from './guide.ts'
import type { Hooks } from './hooks.ts'
import { type Provider, type ProviderDefinition, providerDefinition, supportedModes } from './schema.ts'
import { parseTemplate, TemplateError, UnknownFunction } from './template.ts'

export interface Catalogue {
  get(name: string): Provider | undefined
  list(): Provider[]
  /** What stands beside a definition in code; most have none. */
  hooks(provider: Pick<Provider, 'name'>): Hooks
}

const none: Hooks = {}

export class CatalogueError extends Error {
  readonly faults: string[]

  constructor(faults: string[]) {
    super(`The provider definitions have faults:\n${faults.map(fault => `  - ${fault}`).join('\n')}`)
    this.name = 'CatalogueError'
    this.faults = faults
  }
}

/** Where a definition was written. */
interface Source {
  file: string
  text: string
  /** What the parser came upon in the file, in its order, each with its place in the text. */
  events: Event[]
  /** The first event of the definition, and its line. */
  at: number
  line: number
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
  const hooks = new Map<string, Hooks>()
  for (const name of [...drafts.keys()].sort()) {
    const draft = withBase(name, drafts, faults)
    if (!draft) continue
    const place = (path: readonly PropertyKey[]) => locate(name, draft, path)
    const { definition, unsupported } = readDefinition(draft.values, place, faults)
    if (!definition) continue
    for (const fault of lint(definition, options.egressAllow))
      if (fault.unknown) unsupported.push(`${place(fault.path)}: ${fault.path.join('.')}: ${fault.message}`)
      else faults.push(`${place(fault.path)}: ${fault.path.join('.')}: ${fault.message}`)
    if (!supportedModes.has(definition.auth_mode)) unsupported.push(`auth_mode ${definition.auth_mode}`)
    if (definition.body_format === 'xml') unsupported.push('body_format xml')
    if (definition.require_client_certificate) unsupported.push('require_client_certificate')
    providers.set(name, { name, ...definition, ...(unsupported.length > 0 && { unsupported }) })
    const beside = hooksOf(name, drafts)
    if (beside) hooks.set(name, beside)
  }
  if (faults.length > 0) throw new CatalogueError(faults)
  return {
    get: name => providers.get(name),
    list: () => [...providers.values()],
    hooks: ({ name }) => hooks.get(name) ?? none,
  }
}

const require = createRequire(import.meta.url)
/** A published package holds JavaScript. */
const extension = extname(import.meta.filename)
const builtInModules = new Set(readdirSync(builtIn).filter(name => name.endsWith(extension)))

/** Ours alone: what an operator lays over the catalogue is data and never code. An alias has the hooks of its base unless it has its own. */
function hooksOf(name: string, drafts: Map<string, Draft>): Hooks | undefined {
  if (builtInModules.has(`${name}${extension}`))
    return (require(join(builtIn, `${name}${extension}`)) as { hooks: Hooks }).hooks
  const base = drafts.get(name)?.values.alias
  return typeof base === 'string' ? hooksOf(base, drafts) : undefined
}

function definitionFiles(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .filter(name => /\.ya?ml$/.test(name))
    .sort()
    .map(name => join(path, name))
}

/** What is left of a definition without the parts nobody here knows; they are named, and connections of it are not made. */
function readDefinition(
  values: Record<string, unknown>,
  place: (path: readonly PropertyKey[]) => string,
  faults: string[],
): { definition: ProviderDefinition | undefined; unsupported: string[] } {
  const unsupported: string[] = []
  let known = values
  for (;;) {
    const parsed = providerDefinition.safeParse(known)
    if (parsed.success) return { definition: parsed.data, unsupported }
    const { issues } = parsed.error
    for (const issue of issues) {
      // An unknown key is reported by zod on the map that holds it; its reader looks for the line of the key.
      const isUnknown = issue.code === 'unrecognized_keys'
      const paths = isUnknown ? issue.keys.map(key => [...issue.path, key]) : [issue.path]
      for (const path of paths) {
        const message = `${place(path)}: ${path.join('.')}: ${isUnknown ? 'is not known to this version' : issue.message}`
        if (isUnknown || foreign.has(String(path[0])) || path[1] === 'verification') unsupported.push(message)
        else faults.push(message)
        known = withoutPath(known, isUnknown ? path : path.slice(0, path[1] === 'verification' ? 2 : 1))
      }
    }
    if (faults.length > 0 || issues.length === 0) return { definition: undefined, unsupported }
  }
}

/** Parts of other people's definitions that may say more than we read in them. */
const foreign = new Set([
  'assertion',
  'token',
  'signature',
  'token_response',
  'additional_steps',
  'token_params',
  'auth_mode',
])

function withoutPath(values: Record<string, unknown>, path: readonly PropertyKey[]): Record<string, unknown> {
  const [first, ...rest] = path
  const name = String(first)
  if (rest.length === 0) return Object.fromEntries(Object.entries(values).filter(([key]) => key !== name))
  const inner = values[name]
  if (Array.isArray(inner)) return withoutPath(values, [name])
  return { ...values, [name]: isMap(inner) ? withoutPath(inner, rest) : inner }
}

/** Key by key: a file that names one key of a provider changes that key and nothing else. */
function layOver(drafts: Map<string, Draft>, file: string, faults: string[]): void {
  for (const { source, name, values } of entriesOf(file, faults)) {
    if (!/^[a-zA-Z0-9_-]+$/.test(name) || !isMap(values)) {
      faults.push(`${lineOf(source, [])}: a provider is a name of letters, digits, _ and - with a map of keys`)
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

interface Entry {
  source: Source
  name: string
  values: unknown
}

function entriesOf(file: string, faults: string[]): Entry[] {
  const text = readFileSync(file, 'utf8')
  try {
    const events = parseEvents(text, {})
    const [content = null, ...more] = constructFromEvents(events, { source: text })
    if (content === null) return []
    if (!isMap(content) || more.length > 0) {
      faults.push(`${file}:1: expected provider names, each with its definition`)
      return []
    }
    const sources = sourcesOf(file, text, events)
    // A name that YAML reads as a number may be written in another way.
    const whole = { file, text, events, at: 1, line: 1 }
    return Object.entries(content).map(([name, values]) => ({ source: sources.get(name) ?? whole, name, values }))
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error
    // To YAML, *.acme.com is an alias; what is missing is said of it alone.
    const hint = /alias/.test(error.reason) ? '. Quote a value that begins with "*"' : ''
    faults.push(`${file}:${(error.mark?.line ?? 0) + 1}: ${error.reason}${hint}`)
    return []
  }
}

/** By name. The first event opens the document, the second the map of all. */
function sourcesOf(file: string, text: string, events: Event[]): Map<string, Source> {
  const sources = new Map<string, Source>()
  let line = 1
  let counted = 0
  for (let key = 2; events[key]!.type !== EVENT_ID.POP; ) {
    const at = afterNode(events, key)
    const begins = beginningOf(events, at)
    line += linesIn(text.slice(counted, begins))
    counted = begins
    sources.set(nameOf(text, events[key]!), { file, text, events, at, line })
    key = afterNode(events, at)
  }
  return sources
}

/** `alias: other` copies the other definition; own keys override. */
function withBase(name: string, drafts: Map<string, Draft>, faults: string[], seen: string[] = []): Draft | undefined {
  const { values, sources } = drafts.get(name)!
  const { alias, ...own } = values
  if (alias === undefined) return { values, sources }
  const at = sources.alias ? lineOf(sources.alias, ['alias']) : name
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
  return source ? lineOf(source, path) : name
}

/** The line of the deepest value on the path that the definition has. */
function lineOf({ file, text, events, at, line }: Source, path: readonly PropertyKey[]): string {
  let found = at
  for (const key of path) {
    const member = memberOf(text, events, found, String(key))
    if (member === undefined) break
    found = member
  }
  return `${file}:${line + linesIn(text.slice(beginningOf(events, at), beginningOf(events, found)))}`
}

/** Where the events of a member begin: of the value behind a key, or of an item by its number. */
function memberOf(text: string, events: Event[], at: number, name: string): number | undefined {
  const { type } = events[at]!
  if (type !== EVENT_ID.MAPPING && type !== EVENT_ID.SEQUENCE) return undefined
  for (let i = at + 1, n = 0; events[i]!.type !== EVENT_ID.POP; n++) {
    const value = type === EVENT_ID.MAPPING ? afterNode(events, i) : i
    if (name === (type === EVENT_ID.MAPPING ? nameOf(text, events[i]!) : String(n))) return value
    i = afterNode(events, value)
  }
  return undefined
}

/** Behind a scalar, or behind the end of what opens here. */
function afterNode(events: Event[], at: number): number {
  let depth = 0
  for (let i = at; ; i++) {
    const { type } = events[i]!
    if (type === EVENT_ID.MAPPING || type === EVENT_ID.SEQUENCE) depth++
    else if (type === EVENT_ID.POP) depth--
    if (depth === 0) return i + 1
  }
}

const nameOf = (text: string, event: Event): string =>
  event.type === EVENT_ID.SCALAR ? getScalarValue(text, event) : ''

function beginningOf(events: Event[], at: number): number {
  const event = events[at]!
  if (event.type === EVENT_ID.MAPPING || event.type === EVENT_ID.SEQUENCE) return event.start
  if (event.type === EVENT_ID.ALIAS) return event.anchorStart
  if (event.type !== EVENT_ID.SCALAR) return 0
  // What is left out stands nowhere; its key is the event before.
  return event.valueStart < 0 ? beginningOf(events, at - 1) : event.valueStart
}

const linesIn = (text: string): number => text.split('\n').length - 1

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

interface Fault {
  path: string[]
  message: string
  /** Not wrong, only more than this version can. */
  unknown?: boolean
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
    ...textsIn(definition.token_params, ['token_params']),
    ...textsIn(definition.token_headers, ['token_headers']),
    ...textsIn(definition.assertion, ['assertion']),
    ...textsIn(definition.token, ['token']),
    ...textsIn(definition.additional_steps, ['additional_steps']),
    ...textsIn(definition.proxy?.verification, ['proxy', 'verification']),
  ]
  for (const [path, source] of templates) {
    try {
      parseTemplate(source)
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error
      faults.push({ path, message: error.message, unknown: error instanceof UnknownFunction })
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
  if (definition.auth_mode === 'OAUTH1')
    for (const key of ['request_url', 'authorization_url', 'token_url'] as const)
      if (!definition[key]) faults.push({ path: [key], message: 'is needed for OAUTH1' })
  for (const name of missingPages(definition))
    faults.push({ path: ['guide', 'pages'], message: `there is no page "${name}" in providers/guides/` })
  return faults
}

/** Every text at any depth, with its path. */
function textsIn(value: unknown, path: string[]): [string[], string][] {
  if (typeof value === 'string') return [[path, value]]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, one]) => textsIn(one, [...path, name]))
}

function endpointTemplates(definition: ProviderDefinition): [string[], string][] {
  const { authorization_url, request_url, token_url, refresh_url, introspection_url, revocation_url, proxy } =
    definition
  const tokenUrls: [string[], string | undefined][] =
    typeof token_url === 'object'
      ? Object.entries(token_url).map(([mode, url]) => [['token_url', mode], url])
      : [[['token_url'], token_url]]
  const all: [string[], string | undefined][] = [
    [['authorization_url'], authorization_url],
    [['request_url'], request_url],
    ...tokenUrls,
    ...(definition.additional_steps ?? []).map((step, i): [string[], string | undefined] => [
      ['additional_steps', String(i), 'token_url'],
      step.token_url,
    ]),
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
  const entries = [...(provider.allowed_hosts ?? []), ...suffixesIn(provider)]
  return literal.includes(host) || entries.some(entry => matchesHost(entry, host))
}

/** `https://${connectionConfig.subdomain}.acme.com` names `*.acme.com`: a value is percent-encoded, so it cannot leave it. */
const suffixesIn = (provider: ProviderDefinition): string[] =>
  endpointTemplates(provider)
    .flatMap(([, source]) => source.split(' || '))
    .flatMap(alternative => {
      const suffix = /^https?:\/\/[^/?#]*\}((?:\.[a-z0-9-]+){2,})(?::\d+)?(?=[/?#]|$)/.exec(alternative)?.[1]
      return suffix ? [`*${suffix}`] : []
    })

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
