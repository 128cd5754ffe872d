/**
 * What the documentation shows is true: every code block of docs/ and of the READMEs is run, type-checked, loaded or parsed, by its
 * language. One that is only parsed says in its info string why (`not run: …`). Programs of the SDKs' READMEs are run by their own tests.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { loadCatalogue } from '../../src/provider/catalogue.ts'
import { until } from '../db/until.ts'
import { Browser, type Fairlead, startFairlead } from '../support/fairlead.ts'
import { startReceiver } from '../webhook/support/receiver.ts'
import { type Block, blocksOf, repository, written } from './blocks.ts'

const run = promisify(execFile)
type Test = { after(work: () => Promise<void>): void }

const all = written.flatMap(page => blocksOf(page))
const named = ({ page, number }: Block) => `${page}, block ${number}`

async function folder(t: Test): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'fairlead-docs-'))
  t.after(() => rm(made, { recursive: true }))
  return made
}

/** `npx fairlead` and `npx --no-install fairlead` are this repository's program, as they are in it; curl fails where the server refuses. */
async function shell(t: Test, env: Record<string, string>) {
  const bin = await folder(t)
  const cli = join(repository, 'cli/src/main.ts')
  const npx = `#!/bin/sh\n[ "$1" = --no-install ] && shift\n[ "$1" = fairlead ] && shift || exit 127\nexec '${process.execPath}' '${cli}' "$@"\n`
  await writeFile(join(bin, 'npx'), npx, { mode: 0o755 })
  await writeFile(join(bin, '.curlrc'), 'silent\nshow-error\nfail-with-body\nwrite-out "\\n"\n')
  return (code: string, more: Record<string, string> = {}) =>
    run('bash', ['-e', '-c', code], {
      cwd: bin,
      env: { ...env, ...more, CURL_HOME: bin, PATH: `${bin}:${process.env.PATH}` },
    })
}

async function world(t: Test) {
  const simulator = await startSimulator({ autoApprove: true, contacts: 1 })
  t.after(() => simulator.close())
  simulator.control.set({ maxApprovals: 1000 })
  const fairlead = await startFairlead(t, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
  const { clientId, clientSecret } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.url}/oauth/callback`] })
  return { fairlead, app: { CLIENT_ID: clientId, CLIENT_SECRET: clientSecret } }
}

async function signIn({ url }: Fairlead, token: string): Promise<void> {
  const start = `${url}/oauth/connect/salesforce-sandbox?connect_session_token=${token}`
  assert.match((await new Browser().follow(start)).text, /is connected/)
}

for (const page of ['docs/quick-start.md', 'README.md'])
  test(`${page}, typed in as it stands, ends with rows`, async t => {
    const { fairlead, app } = await world(t)
    const env: Record<string, string> = { KEY: fairlead.key, ...app }
    const type = await shell(t, {})
    const commands = blocksOf(page, fairlead.url).filter(({ language, notRun }) => language === 'sh' && !notRun)
    assert.ok(commands.length >= 3, `${commands.length} commands`)
    const answers: string[] = []
    for (const { code } of commands) {
      const { stdout } = await type(code, env)
      answers.push(stdout)
      // What a person does in between.
      const token = /"token":"(nango_connect_session_\w+)"/.exec(stdout)?.[1]
      if (!token) continue
      await signIn(fairlead, token)
      env.CONNECTION = (await fairlead.call('GET', '/connections')).json.connections[0].connection_id
    }
    assert.match(answers.join('\n'), /Edge Communications/)
  })

test('every command of the documentation does what it says, on a server with everything in it', async t => {
  const { fairlead, app } = await world(t)
  const { call, url, key } = fairlead
  const credentials = { type: 'OAUTH2', client_id: app.CLIENT_ID, client_secret: app.CLIENT_SECRET }
  const integration = { provider: 'salesforce-sandbox', unique_key: 'salesforce-sandbox', credentials }
  assert.equal((await call('POST', '/integrations', { ...integration, capture_bodies: true })).status, 200)
  await call('PATCH', '/integrations/salesforce-sandbox', { capture_bodies: true })
  const receiver = await startReceiver(t)
  const type = await shell(t, { KEY: key, FAIRLEAD_URL: url, FAIRLEAD_SECRET_KEY: key })

  const connect = async () => {
    const { token } = (await call('POST', '/connect/sessions', { end_user: { id: 'ada' } })).json.data
    await signIn(fairlead, token)
    return (await call('GET', '/connections')).json.connections[0].connection_id as string
  }
  /** What a page may name, made anew for each block that does: the one before may have ended it. */
  const variables: Record<string, () => Promise<string>> = {
    CONNECTION: connect,
    async CALL() {
      const at = { 'Provider-Config-Key': 'salesforce-sandbox', 'Connection-Id': await connect() }
      assert.equal((await call('GET', '/proxy/services/data/v66.0/limits', undefined, at)).status, 200)
      const find = async () =>
        (await call('GET', '/activity')).json.activity.find((one: { has_bodies: boolean }) => one.has_bodies)
      await until(async () => (await find()) !== undefined)
      return (await find()).id
    },
    async DELIVERY() {
      await call('PATCH', '/environment/settings', { webhook_url: receiver.url })
      const sent = await call('POST', '/webhooks/test')
      assert.equal(sent.status, 202, sent.text)
      return sent.json.deliveries[0].id
    },
    async KEY_ID() {
      const made = await call('POST', '/environment/api-keys', { display_name: 'of a page' })
      return String(made.json.data.id)
    },
  }

  const typed: string[] = []
  for (const page of written.filter(page => !['docs/quick-start.md', 'README.md'].includes(page)))
    for (const block of blocksOf(page, url)) {
      if (block.language !== 'sh' || block.notRun) continue
      const names = Object.keys(variables).filter(name => block.code.includes(`$${name}`))
      // A page before may have named its own pages.
      await call('PATCH', '/environment/settings', { allowed_origins: [] })
      const values = await Promise.all(names.map(async name => [name, await variables[name]!()] as const))
      await type(block.code, Object.fromEntries(values)).catch(({ message, stdout, stderr }) =>
        assert.fail(`${named(block)}: ${message}\n${stdout}\n${stderr}`),
      )
      typed.push(named(block))
    }
  assert.ok(typed.length >= 15, typed.join('\n'))
})

test('every program parses, and TypeScript holds its types against the packages', async t => {
  const made = await folder(t)
  for (const [i, { language, code }] of all.entries())
    if (['sh', 'js', 'html'].includes(language)) {
      const file = join(made, `${i}.${language === 'sh' ? 'sh' : 'mjs'}`)
      await writeFile(file, language === 'html' ? /<script[^>]*>([\s\S]*)<\/script>/.exec(code)![1]! : code)
      await (language === 'sh' ? run('bash', ['-n', file]) : run(process.execPath, ['--check', file]))
    }
  // The blocks of a page are one program, as its reader sees it.
  const typed = [...new Set(all.filter(({ language }) => language === 'ts').map(({ page }) => page))]
  assert.ok(typed.length >= 2, typed.join())
  for (const page of typed) {
    const code = all.filter(block => block.page === page && block.language === 'ts').map(block => block.code)
    await writeFile(join(made, `${page.replaceAll('/', '-')}.mts`), code.join('\n'))
  }
  await symlink(join(repository, 'node_modules'), join(made, 'node_modules'))
  const options = { lib: ['es2024', 'dom', 'dom.iterable'], rootDir: '/', preserveSymlinks: false }
  const config = { extends: join(repository, 'tsconfig.json'), compilerOptions: options, include: ['*.mts'] }
  await writeFile(join(made, 'tsconfig.json'), JSON.stringify(config))
  await run(join(repository, 'node_modules/.bin/tsc'), ['-p', made]).catch(({ stdout }) => assert.fail(stdout))
})

test('what is not a program holds, too: JSON, definitions of providers, requests', async t => {
  const made = await folder(t)
  const { call } = await startFairlead(t)
  const { paths } = (await call('GET', '/openapi.json')).json as { paths: Record<string, object> }
  for (const block of all) {
    const { language, code } = block
    // `[ … ]` is what a sample leaves out.
    if (language === 'json')
      assert.doesNotThrow(() => JSON.parse(code.replaceAll(/\s…\s/g, '')), `${named(block)}: ${code}`)
    if (language === 'yaml') {
      const overlayPath = join(made, `${block.page.replaceAll('/', '-')}-${block.number}.yaml`)
      await writeFile(overlayPath, code)
      loadCatalogue({ overlayPath, egressAllow: parseEgressAllow('127.0.0.1').rules })
    }
    if (language === 'http')
      for (const line of code.trim().split('\n')) {
        const [, method = '', path = '', body] =
          /^([A-Z]+) https?:\/\/[^/]+(\/[^? ]+)\S*(?: +(\{.*\}))?$/.exec(line) ?? []
        const template = path.replace(/<\w+>/g, '{providerConfigKey}')
        assert.ok(method.toLowerCase() in (paths[template] ?? {}), `${named(block)}: ${line}`)
        if (body) JSON.parse(body)
      }
  }
})

test('every block is of a kind that something holds, and few are only looked at', () => {
  const held = ['sh', 'ts', 'js', 'html', 'json', 'yaml', 'http']
  const shown = ['text', 'mermaid']
  for (const block of all) assert.ok([...held, ...shown].includes(block.language), `${named(block)}: ${block.language}`)
  for (const block of all.filter(({ language }) => language === 'text'))
    assert.doesNotMatch(block.code, /^(curl|npx|npm|export|import)\b/m, named(block))
  const unheld = all.filter(({ language, notRun }) => notRun || shown.includes(language))
  assert.ok(unheld.length <= all.length / 3, unheld.map(block => `${named(block)}: ${block.notRun}`).join('\n'))
})
