/**
 * The server, the command line and the simulator as a stranger gets them: tarballs, an empty folder, an empty home, the machine's own Node,
 * no install scripts. What is started here is what is published.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { before, test } from 'node:test'
import { promisify } from 'node:util'
import { stage } from '../stage.ts'
import { everyNode, installedByStranger, startProgram, strangersEnv } from './packed.ts'

const run = promisify(execFile)
const names = ['@fairlead/server', 'fairlead', '@fairlead/salesforce-simulator', '@fairlead/node', '@fairlead/browser']

let staged: string
let tarballs: Record<string, string>
let folder: string
let env: Record<string, string>

before(async t => {
  const suite = t as unknown as { after(work: () => Promise<void>): void }
  staged = await mkdtemp(join(tmpdir(), 'fairlead-packed-'))
  suite.after(() => rm(staged, { recursive: true, force: true }))
  tarballs = await stage(staged)
  env = await strangersEnv(suite)
  folder = await installedByStranger(suite, Object.values(tarballs), env)
})

const sizeOf = async (path: string): Promise<number> => {
  const entries = await readdir(path, { recursive: true, withFileTypes: true })
  const files = entries.filter(entry => entry.isFile())
  const sizes = await Promise.all(files.map(async entry => (await stat(join(entry.parentPath, entry.name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`

test('no package carries tests, sources, scripts or what only development needs; each carries its licence', async t => {
  assert.deepEqual(Object.keys(tarballs).sort(), [...names].sort())
  for (const [name, tarball] of Object.entries(tarballs)) {
    const at = join(folder, 'node_modules', name)
    const files = (await readdir(at, { recursive: true, withFileTypes: true }))
      .filter(entry => entry.isFile() && !entry.parentPath.slice(at.length).includes('node_modules'))
      .map(entry => join(entry.parentPath, entry.name).slice(at.length + 1))
    const odd = files.filter(file =>
      /(^|\/)tests?\/|\.test\.|(?<!\.d)\.tsx?$|\.map$|\.tgz$|(^|\/)\.|tsconfig/.test(file),
    )
    assert.deepEqual(odd, [], name)
    for (const file of ['LICENSE', 'README.md', 'package.json']) assert.ok(files.includes(file), `${name} ${file}`)
    const manifest = JSON.parse(await readFile(join(at, 'package.json'), 'utf8'))
    assert.equal(manifest.scripts ?? manifest.devDependencies, undefined, name)
    const versions = Object.values({ ...manifest.dependencies, ...manifest.optionalDependencies })
    for (const version of versions) assert.match(String(version), /^\d+\.\d+\.\d+(-[\w.]+)?$/, name)
    // Every relative import is there: nothing reaches out of the package.
    for (const file of files.filter(one => one.endsWith('.js') && !one.includes('/assets/'))) {
      const text = await readFile(join(at, file), 'utf8')
      for (const [, to] of text.matchAll(/^(?:import|export)[^'"`]*from ['"](\.[^'"]*)['"]/gm))
        assert.ok(files.includes(join(file, '..', to!)), `${name}/${file} imports ${to}`)
      assert.doesNotMatch(text, /@fairlead\/contract['"]/, `${name}/${file}`)
    }
    const packed = megabytes((await stat(tarball)).size)
    t.diagnostic(`${name}: ${packed} packed, ${megabytes(await sizeOf(at))} unpacked, ${files.length} files`)
  }
  t.diagnostic(`all of them with their dependencies: ${megabytes(await sizeOf(join(folder, 'node_modules')))}`)
})

test('every package has a bill of materials that names what it brings, by exact version and licence', async () => {
  for (const part of ['server', 'cli', 'simulator', 'node', 'browser']) {
    const bill = JSON.parse(await readFile(join(staged, `${part}.cdx.json`), 'utf8'))
    assert.equal(bill.bomFormat, 'CycloneDX')
    const { name, version } = bill.metadata.component
    const manifest = JSON.parse(await readFile(join(folder, 'node_modules', name, 'package.json'), 'utf8'))
    assert.equal(version, manifest.version)
    const named = new Map(bill.components.map((one: { purl: string }) => [decodeURIComponent(one.purl), one]))
    const brought = Object.entries({ ...manifest.dependencies, ...manifest.optionalDependencies })
    for (const [dependency, exact] of brought.filter(([one]) => !/^node-/.test(one)))
      assert.ok(named.has(`pkg:npm/${dependency}@${exact}`), `${name}: ${dependency}@${exact}`)
    if (brought.length === 0) assert.equal(named.size, 0, name)
    for (const one of bill.components) assert.ok(one.licenses?.length > 0, one.purl)
  }
})

test('the packed server becomes ready and serves its API, its pages and its documentation; the packed CLI talks to it', async t => {
  const data = join(folder, 'data')
  const from = performance.now()
  const port = await startProgram(
    t,
    ['npx', '--no-install', 'fairlead', 'start'],
    { cwd: folder, env: { ...env, PORT: '0', FAIRLEAD_DATA_DIR: data } },
    line => {
      const said = line.startsWith('{') ? (JSON.parse(line) as { msg: string; port?: number }) : undefined
      return said?.msg === 'ready' ? said.port : undefined
    },
  )
  t.diagnostic(`ready after ${Math.round(performance.now() - from)} ms, with npx, a new database and its migrations`)
  // By the name the server knows itself by: pages asked for by another one lead there.
  const url = `http://localhost:${port}`
  const text = async (path: string, headers: Record<string, string> = {}) => {
    const answer = await fetch(`${url}${path}`, { headers })
    const body = await answer.text()
    assert.equal(answer.status, 200, `${path}: ${body.slice(0, 300)}`)
    return body
  }
  await text('/ready')
  for (const page of ['/connect/', '/app/']) {
    const html = await text(page)
    const assets = [...html.matchAll(/(?:src|href)="(\/[^"]*assets\/[^"]+)"/g)].map(([, path]) => path!)
    assert.ok(assets.length >= 2, html)
    for (const asset of assets) await text(asset)
  }
  for (const page of ['/docs/', '/docs/security', '/docs/api', '/docs/assets/docs.css', '/docs/assets/minisearch.js'])
    await text(page)
  assert.match(await text('/docs/assets/search.json'), /Self-hosting/)
  assert.match(await text('/llms.txt'), /docs/)
  assert.match(await text('/openapi.json'), /"3\.1/)

  const [, key = ''] = /"dev": (\S+)/.exec(await readFile(join(data, 'api-keys.txt'), 'utf8')) ?? []
  const authorized = { Authorization: `Bearer ${key}` }
  // Definitions and their hooks: the second is code of providers/.
  assert.equal(JSON.parse(await text('/providers', authorized)).data.length > 40, true)
  const project = '/providers/salesforce-sandbox/app-project?name=Acme&contact=ops%40acme.com'
  assert.ok((await text(project, authorized)).length > 1000)

  const cli = (node: string, ...args: string[]) =>
    run(node, [join(folder, 'node_modules/fairlead/dist/main.js'), ...args], {
      cwd: folder,
      env: { ...env, FAIRLEAD_URL: url, FAIRLEAD_SECRET_KEY: key },
    })
  for (const node of everyNode()) {
    assert.match((await cli(node, 'help')).stdout, /fairlead: what runs on a Fairlead server/)
    assert.equal(JSON.parse((await cli(node, 'status', '--json')).stdout).ready, true)
    const org = cli(node, 'salesforce', 'redeploy', 'x', '--instance-url', 'https://login.salesforce.com')
    await assert.rejects(org, ({ stderr }) => !/TypeError|SyntaxError|stack/.test(stderr), node)
  }
  await run('npx', ['--no-install', 'fairlead', 'backup', 'all.backup'], {
    cwd: folder,
    env: { ...env, FAIRLEAD_DATA_DIR: data },
  })
  assert.ok((await stat(join(folder, 'all.backup'))).size > 1000)
  const { stdout } = await run('npx', ['--no-install', 'fairlead', '--version'], { cwd: folder, env })
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/)
})

test('a Node that is too old is told so in a sentence', async t => {
  const old = everyNode()[1]
  if (!old || Number.parseInt((await run(old, ['--version'])).stdout.slice(1), 10) >= 24)
    return t.skip('the machine has no older Node')
  const main = join(folder, 'node_modules/@fairlead/server/dist/server/src/main.js')
  await assert.rejects(run(old, [main], { cwd: folder, env }), ({ stderr, code }) => {
    assert.equal(code, 1)
    assert.match(stderr, /^Fairlead needs Node 24 or later/)
    return true
  })
})

test('the packed simulator starts and lets somebody sign in', async t => {
  const started = await startProgram(
    t,
    ['npx', '--no-install', '@fairlead/salesforce-simulator', '--port', '0', '--json'],
    { cwd: folder, env },
    line => (line.startsWith('{') ? (JSON.parse(line) as Record<string, unknown>) : undefined),
  )
  assert.match(JSON.stringify(started), /http:\/\//, basename(folder))
})
