/** What is taken for a webhook of Fairlead's, and what is not. Signed by the server's own hand. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyWebhook, WebhookRefused } from '@fairlead/node'
import { Secret } from '../../server/src/lib/secret.ts'
import { signatures } from '../../server/src/webhook/sign.ts'

const key = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const other = `whsec_${Buffer.alloc(32, 8).toString('base64')}`
const body = JSON.stringify({ from: 'fairlead', type: 'webhook.test', note: 'ü – ✓' })
const now = () => Math.floor(Date.now() / 1000)
const signed = (keys = [key], at = now()) =>
  signatures(
    { id: 'evt_1', body },
    keys.map(text => new Secret(text)),
    at,
  )

test('taken: as text, as bytes, with headers of fetch or of Node, and while a key is being replaced', async () => {
  for (const headers of [signed(), new Headers(signed()), signed([other, key]), signed([key], now() - 240)])
    for (const received of [body, Buffer.from(body)])
      assert.equal((await verifyWebhook(received, headers, key)).type, 'webhook.test')
})

const refused: [what: string, body: string, headers: Record<string, string | string[] | undefined>][] = [
  ['another key', body, signed([other])],
  ['a changed body', `${body} `, signed()],
  ['another id', body, { ...signed(), 'webhook-id': 'evt_2' }],
  ['another timestamp', body, { ...signed(), 'webhook-timestamp': String(now() - 1) }],
  ['a recording', body, signed([key], now() - 360)],
  ['a clock ahead', body, signed([key], now() + 360)],
  ['no timestamp', body, { ...signed(), 'webhook-timestamp': undefined }],
  ['a timestamp that is no number', body, { ...signed(), 'webhook-timestamp': 'NaN' }],
  ['two signatures headers', body, { ...signed(), 'webhook-signature': ['v1,a', 'v1,b'] }],
  ['another scheme', body, { ...signed(), 'webhook-signature': signed()['webhook-signature']!.replace('v1', 'v2') }],
  ['an empty signature', body, { ...signed(), 'webhook-signature': 'v1, ' }],
  ['no base64', body, { ...signed(), 'webhook-signature': 'v1,%%%' }],
]
for (const [what, received, headers] of refused)
  test(`refused: ${what}`, () => assert.rejects(verifyWebhook(received, headers, key), WebhookRefused))

test('a key that is none is the mistake of who calls, not of who sent', () =>
  assert.rejects(verifyWebhook(body, signed(), 'whsec_'), TypeError))
