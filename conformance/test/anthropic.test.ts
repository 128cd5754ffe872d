/** Anthropic's own client, unmodified: our key as `x-api-key`, server-sent events, pages by the last id. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import Anthropic, { toFile } from '@anthropic-ai/sdk'
import { lastFirst } from '../../server/test/support/last-first.ts'
import { allBytes, filePart, type Reply, startVendor, type Vendor } from './vendor.ts'

const models = Array.from({ length: 7 }, (_, i) => ({ id: `model-${i}`, type: 'model', display_name: `Model ${i}` }))
const failure = (status: number, type: string, headers = {}): Reply => ({
  status,
  headers,
  body: { type: 'error', error: { type, message: `It is ${type}.` } },
})
const event = (data: { type: string } & object) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
const message = (text: string) => ({
  id: 'msg_1',
  type: 'message',
  role: 'assistant',
  model: 'model-1',
  content: text ? [{ type: 'text', text }] : [],
  stop_reason: text ? 'end_turn' : null,
  stop_sequence: null,
  usage: { input_tokens: 3, output_tokens: 5 },
})
const words = ['Fähre ', '„Ümlaut“ ', '🛳']

function streamed(): string {
  const deltas = words.map(text => ({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } }))
  return [
    { type: 'message_start', message: message('') },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    ...deltas,
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 5 } },
    { type: 'message_stop' },
  ]
    .map(event)
    .join('')
}

describe("Anthropic's client through Fairlead", () => {
  let vendor: Vendor
  let anthropic: Anthropic
  const ends = lastFirst({ after })

  before(async () => {
    vendor = await startVendor(ends, 'anthropic', {
      prefix: '/gateway',
      ended: failure(401, 'authentication_error'),
      api: ({ method, path, query, headers, body }) => {
        assert.match(String(headers['anthropic-version']), /^\d{4}-\d\d-\d\d$/)
        if (path === '/v1/models') {
          const from = models.findIndex(({ id }) => id === query.get('after_id')) + 1
          const data = models.slice(from, from + Number(query.get('limit')))
          const hasMore = from + data.length < models.length
          return {
            headers: { 'anthropic-ratelimit-requests-remaining': '999', 'request-id': 'req_1' },
            body: { data, has_more: hasMore, first_id: data[0]?.id, last_id: data.at(-1)?.id },
          }
        }
        if (path === '/v1/messages') {
          const asked = JSON.parse(body.toString())
          if (asked.model === 'crowded')
            return failure(429, 'rate_limit_error', {
              'Retry-After': '20',
              'anthropic-ratelimit-requests-remaining': '0',
            })
          if (asked.stream) return { headers: { 'Content-Type': 'text/event-stream' }, body: streamed() }
          return { body: message(asked.messages[0].content) }
        }
        if (path === '/v1/files' && method === 'POST') {
          const bytes = filePart({ headers, body }, 'file')
          return { body: { id: 'file_1', type: 'file', filename: 'ship.bin', size_bytes: bytes.length } }
        }
        if (path === '/v1/files/file_1/content')
          return { headers: { 'Content-Type': 'application/octet-stream' }, body: allBytes }
        return failure(404, 'not_found_error')
      },
    })
    anthropic = new Anthropic({ apiKey: vendor.fairlead.key, baseURL: vendor.via, maxRetries: 0, logLevel: 'off' })
  })

  const ask = (content: string, model = 'model-1') => ({
    model,
    max_tokens: 64,
    messages: [{ role: 'user' as const, content }],
  })

  it('pages by the last id', async () => {
    const ids: string[] = []
    for await (const model of anthropic.models.list({ limit: 2 })) ids.push(model.id)
    assert.deepEqual(
      ids,
      models.map(({ id }) => id),
    )
  })

  it('creates with JSON', async () => {
    const { content } = await anthropic.messages.create(ask(words.join('')))
    assert.deepEqual(content, [{ type: 'text', text: words.join('') }])
  })

  it('reads server-sent events', async () => {
    const heard: string[] = []
    const stream = anthropic.messages.stream(ask('x')).on('text', text => heard.push(text))
    assert.equal(await stream.finalText(), words.join(''))
    assert.deepEqual(heard, words)
  })

  it("throws its own error for Anthropic's", async () => {
    await assert.rejects(anthropic.models.retrieve('nobody'), (error: unknown) => {
      assert.ok(error instanceof Anthropic.NotFoundError)
      assert.match(error.message, /not_found_error/)
      return true
    })
  })

  it('uploads and downloads every byte', async () => {
    const made = await anthropic.files.upload({ file: await toFile(allBytes, 'ship.bin') })
    assert.equal(made.size_bytes, allBytes.length)
    assert.deepEqual(filePart(vendor.arrived.at(-1)!, 'file'), allBytes)
    const content = await anthropic.files.download('file_1')
    assert.deepEqual(Buffer.from(await content.arrayBuffer()), allBytes)
  })

  it('never notices that the token ended between two pages', async () => {
    const ids: string[] = []
    for await (const page of (await anthropic.models.list({ limit: 3 })).iterPages()) {
      ids.push(...page.data.map(({ id }) => id))
      vendor.endToken()
    }
    assert.deepEqual([ids.length, vendor.refreshes, vendor.refused], [7, 2, 2])
    const stream = anthropic.messages.stream(ask('x'))
    assert.equal(await stream.finalText(), words.join(''))
    assert.deepEqual([vendor.refreshes, vendor.refused], [3, 3])
  })

  it('sees the rate limit, before and after', async () => {
    const { response, request_id: id } = await anthropic.models.list({ limit: 1 }).withResponse()
    assert.deepEqual([response.headers.get('anthropic-ratelimit-requests-remaining'), id], ['999', 'req_1'])
    await assert.rejects(anthropic.messages.create(ask('x', 'crowded')), (error: unknown) => {
      assert.ok(error instanceof Anthropic.RateLimitError)
      assert.equal(error.headers.get('retry-after'), '20')
      return true
    })
  })

  it('gave nothing of ours away', () => {
    assert.deepEqual(vendor.elsewhere, [])
    vendor.assertUnknownKey()
  })
})
