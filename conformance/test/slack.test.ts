/** Slack's own client, unmodified: everything is a POST, forms with JSON inside, cursors, errors with status 200. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { LogLevel, WebClient } from '@slack/web-api'
import { lastFirst } from '../../server/test/support/last-first.ts'
import { allBytes, filePart, startVendor, type Vendor } from './vendor.ts'

const channels = Array.from({ length: 7 }, (_, i) => ({ id: `C${i}`, name: `channel-${i}` }))

/** What Slack's client throws, by its `code`. */
interface SlackFailure {
  code?: string
  data?: { error: string }
  retryAfter?: number
}

describe("Slack's client through Fairlead", () => {
  let vendor: Vendor
  let slack: WebClient
  const ends = lastFirst({ after })
  const quiet = { retryConfig: { retries: 0 }, rejectRateLimitedCalls: true, logLevel: LogLevel.ERROR }

  before(async () => {
    vendor = await startVendor(ends, 'slack', {
      prefix: '/api',
      ended: { status: 401, body: { ok: false, error: 'token_expired' } },
      api: ({ path, headers, body }, { own }) => {
        const form = new URLSearchParams(body.toString('latin1'))
        if (path.startsWith('/upload/')) return { body: `OK - ${body.length}` }
        if (path === '/conversations.list') {
          assert.equal(headers['content-type'], 'application/x-www-form-urlencoded')
          const from = Number(form.get('cursor') ?? 0)
          const to = from + Number(form.get('limit'))
          return {
            headers: { 'X-OAuth-Scopes': 'channels:read, chat:write' },
            body: {
              ok: true,
              channels: channels.slice(from, to),
              response_metadata: { next_cursor: to < channels.length ? String(to) : '' },
            },
          }
        }
        if (path === '/chat.postMessage') {
          const { channel, text, blocks } = Object.fromEntries(new URLSearchParams(body.toString()))
          if (channel !== 'C1') return { body: { ok: false, error: 'channel_not_found' } }
          return { body: { ok: true, ts: '1.2', message: { text, blocks: JSON.parse(blocks!) } } }
        }
        if (path === '/users.setPhoto') return { body: { ok: true } }
        if (path === '/files.getUploadURLExternal')
          return { body: { ok: true, upload_url: `${new URL(own).origin}/upload/v1/F1`, file_id: 'F1' } }
        if (path === '/files.completeUploadExternal') return { body: { ok: true, files: [{ id: 'F1' }] } }
        if (path === '/team.info')
          return { status: 429, headers: { 'Retry-After': '30' }, body: { ok: false, error: 'ratelimited' } }
        return { status: 404, body: { ok: false, error: 'unknown_method' } }
      },
    })
    slack = new WebClient(vendor.fairlead.key, { slackApiUrl: vendor.via, ...quiet })
  })

  it('pages by cursor, in forms', async () => {
    const ids: (string | undefined)[] = []
    for await (const page of slack.paginate('conversations.list', { limit: 2 })) {
      const { channels: found, response_metadata: metadata } = page as Awaited<
        ReturnType<typeof slack.conversations.list>
      >
      ids.push(...found!.map(channel => channel.id))
      assert.deepEqual(metadata?.scopes, ['channels:read', 'chat:write'])
    }
    assert.deepEqual(
      ids,
      channels.map(channel => channel.id),
    )
  })

  it('posts a form with JSON inside', async () => {
    const text = 'Fähre & „Ümlaut“ = 🛳 + 100%'
    const blocks = [{ type: 'section', text: { type: 'mrkdwn', text } }]
    const posted = await slack.chat.postMessage({ channel: 'C1', text, blocks })
    assert.deepEqual([posted.ok, posted.message?.text, posted.message?.blocks], [true, text, blocks])
  })

  it("throws its own error for Slack's, which has status 200", async () => {
    await assert.rejects(slack.chat.postMessage({ channel: 'C9', text: 'x', blocks: [] }), (error: SlackFailure) => {
      assert.deepEqual([error.code, error.data?.error], ['slack_webapi_platform_error', 'channel_not_found'])
      return true
    })
  })

  it('uploads every byte as multipart/form-data', async () => {
    assert.equal((await slack.users.setPhoto({ image: allBytes })).ok, true)
    assert.deepEqual(filePart(vendor.arrived.at(-1)!, 'image'), allBytes)
  })

  it('goes to an upload URL in an answer by itself; a `fetch` of the developer’s keeps our key at home', async () => {
    const home = new URL(vendor.via).origin
    const kept = new WebClient(vendor.fairlead.key, {
      slackApiUrl: vendor.via,
      ...quiet,
      fetch: (url, init) => {
        const headers = new Headers(init?.headers)
        if (new URL(String(url)).origin !== home) headers.delete('Authorization')
        return fetch(url, { ...init, headers })
      },
    })
    const done = await kept.filesUploadV2({ channel_id: 'C1', file: allBytes, filename: 'ship.bin' })
    assert.equal(done.ok, true)
    const upload = vendor.elsewhere.at(-1)!
    assert.deepEqual([upload.path, upload.headers.authorization], ['/upload/v1/F1', undefined])
    assert.deepEqual(filePart(upload, 'body'), allBytes)
  })

  it('throws its own error for a rate limit, and the next call does not bother Slack', async () => {
    for (let i = 0; i < 2; i++)
      await assert.rejects(slack.team.info(), (error: SlackFailure) => {
        assert.equal(error.code, 'slack_webapi_rate_limited_error')
        assert.ok(error.retryAfter! > 25 && error.retryAfter! <= 30, String(error.retryAfter))
        return true
      })
    assert.equal(vendor.arrived.filter(({ path }) => path === '/team.info').length, 1)
    assert.equal((await slack.chat.postMessage({ channel: 'C1', text: 'x', blocks: [] })).ok, true)
  })

  it('never notices that the token ended between two pages', async () => {
    let count = 0
    for await (const page of slack.paginate('conversations.list', { limit: 3 })) {
      count += (page as unknown as { channels: unknown[] }).channels.length
      vendor.endToken()
    }
    assert.deepEqual([count, vendor.refreshes, vendor.refused], [7, 2, 2])
    assert.equal((await slack.chat.postMessage({ channel: 'C1', text: 'after the end', blocks: [] })).ok, true)
    assert.deepEqual([vendor.refreshes, vendor.refused], [3, 3])
  })

  it('gave nothing of ours away', () => vendor.assertUnknownKey())
})
