/** The page on webhooks: its example is run, its table is whole, its samples have the shapes that are sent. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { authWebhook, forwardWebhook, ownWebhook, webhookEvents, webhookSwitches } from '@fairlead/contract'
import { replaceSigningKey } from '../../src/account/settings/store.ts'
import { startFairlead } from '../support/fairlead.ts'
import { openOutbox } from './support/outbox.ts'

const source = await readFile(join(import.meta.dirname, '../../../docs/webhooks.md'), 'utf8')
const blocks = (language: string) =>
  [...source.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, code]) => code!)

test('the example verifies what is sent, through a rotation, and nothing else', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-example-'))
  t.after(() => rm(folder, { recursive: true }))
  const [example, ...more] = blocks('js')
  assert.ok(example && more.length === 0)
  await writeFile(join(folder, 'verify.mjs'), example)
  const { isFromFairlead } = (await import(pathToFileURL(join(folder, 'verify.mjs')).href)) as {
    isFromFairlead(headers: object, body: string, key: string): boolean
  }

  const outbox = await openOutbox(t)
  const at = await outbox.environment()
  const { key } = await replaceSigningKey(outbox.deps, at.id, 1)
  await outbox.put(at)
  await outbox.deliveries.sweep()
  const { headers, body } = at.receiver.taken[0]!
  assert.equal(isFromFairlead(headers, body, at.key), true)
  assert.equal(isFromFairlead(headers, body, key.reveal()), true)
  const old = String(Math.floor(Date.now() / 1000) - 301)
  for (const [what, changed, text, used] of [
    ['another body', headers, `${body} `, at.key],
    ['another key', headers, body, `whsec_${Buffer.alloc(32).toString('base64')}`],
    ['another id', { ...headers, 'webhook-id': 'x' }, body, at.key],
    ['an old timestamp', { ...headers, 'webhook-timestamp': old }, body, at.key],
    ['no timestamp', { ...headers, 'webhook-timestamp': undefined }, body, at.key],
    ['no signature', { ...headers, 'webhook-signature': undefined }, body, at.key],
    ['an empty signature', { ...headers, 'webhook-signature': 'v1,' }, body, at.key],
  ] as const)
    assert.equal(isFromFairlead(changed, text, used), false, what)
})

test('its samples have the shapes that are sent, and its table has every event and switch', async t => {
  const [auth, own, forward, ...more] = blocks('json').map(text => JSON.parse(text) as unknown)
  authWebhook.parse(auth)
  ownWebhook.parse(own)
  forwardWebhook.parse(forward)
  assert.deepEqual(more, [])
  const page = await (await startFairlead(t)).call('GET', '/docs/webhooks')
  assert.equal(page.status, 200)
  for (const name of [...Object.keys(webhookEvents), ...Object.keys(webhookSwitches)])
    assert.ok(page.text.includes(`<code>${name}</code>`), name)
})
