/** What the documentation shows runs: the quick start against a live server, every program parses, and the site exports as it is served. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { exportDocs } from '../../../release/docs.ts'
import { Browser, startFairlead } from '../support/fairlead.ts'

const run = promisify(execFile)
const docs = join(import.meta.dirname, '../../../docs')

const blocksOf = (source: string) =>
  [...source.matchAll(/^( *)```(\w+)[^\n]*\n([\s\S]*?)^\1```$/gm)].map(([, , language, code]) => ({
    language: language!,
    code: code!,
  }))

async function folder(t: { after(work: () => Promise<void>): void }): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'fairlead-docs-'))
  t.after(() => rm(made, { recursive: true }))
  return made
}

test('the quick start, typed in as it stands, ends with rows', async t => {
  const simulator = await startSimulator({ autoApprove: true, contacts: 1 })
  t.after(() => simulator.close())
  const fairlead = await startFairlead(t, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
  const { clientId, clientSecret } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.url}/oauth/callback`] })
  const env: Record<string, string> = {
    PATH: process.env.PATH ?? '',
    KEY: fairlead.key,
    CLIENT_ID: clientId,
    CLIENT_SECRET: clientSecret,
  }
  // As the server shows it, with its own address in it.
  const page = await (await fetch(`${fairlead.url}/docs/quick-start.md`)).text()
  const commands = blocksOf(page).filter(({ language }) => language === 'bash')
  assert.equal(commands.length, 5)
  const answers: string[] = []
  for (const { code } of commands) {
    const { stdout } = await run('bash', ['-e', '-c', code], { env })
    answers.push(stdout)
    const answer = JSON.parse(stdout)
    assert.equal(answer.error, undefined, stdout)
    // What a person does in between.
    if (answer.data?.token) {
      const start = `${fairlead.url}/oauth/connect/salesforce-sandbox?connect_session_token=${answer.data.token}`
      assert.match((await new Browser().follow(start)).text, /is connected/)
    }
    if (answer.connections) env.CONNECTION = answer.connections[0].connection_id
  }
  assert.match(answers[3]!, /Edge Communications/)
  assert.match(answers[4]!, /"access_token":/)
})

test('every program in the documentation parses', async t => {
  const made = await folder(t)
  const checked: string[] = []
  for (const name of (await readdir(docs)).filter(file => file.endsWith('.md'))) {
    for (const [i, { language, code }] of blocksOf(await readFile(join(docs, name), 'utf8')).entries()) {
      const extension = { js: 'mjs', ts: 'mts', sh: 'sh', bash: 'sh', json: 'json' }[language]
      if (!extension) continue
      const file = join(made, `${name}-${i}.${extension}`)
      await writeFile(file, code)
      // `[ … ]` is what a sample leaves out.
      if (extension === 'json') assert.doesNotThrow(() => JSON.parse(code.replaceAll(/\s…\s/g, '')), `${name}: ${code}`)
      else if (extension === 'sh') await run('bash', ['-n', file])
      else await run(process.execPath, ['--check', file])
      checked.push(file)
    }
  }
  assert.ok(checked.length > 10, `${checked.length} programs`)
})

test('the export is the site: every page, and the Markdown that machines are led to', async t => {
  const fairlead = await startFairlead(t)
  const into = await folder(t)
  const saved = await exportDocs(fairlead.url, into)
  for (const path of [
    '/docs/',
    '/docs/providers/salesforce-sandbox',
    '/docs/api',
    '/docs/assets/search.json',
    '/llms.txt',
  ])
    assert.ok(saved.includes(path), path)
  const home = await readFile(join(into, 'docs/index.html'), 'utf8')
  assert.equal(home, await (await fetch(`${fairlead.url}/docs/`)).text())
  const led = [...(await readFile(join(into, 'llms.txt'), 'utf8')).matchAll(/\]\(http:\/\/[^/]+(\/docs[^)]+)\)/g)]
  assert.ok(led.length > 15)
  for (const [, path = ''] of led) assert.ok(saved.includes(path), path)
})
