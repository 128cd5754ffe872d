/** Notion's own client, unmodified: JSON both ways, cursors in POST bodies, a version header, errors with a code. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { APIResponseError, Client, collectPaginatedAPI } from '@notionhq/client'
import { lastFirst } from '../../server/test/support/last-first.ts'
import { allBytes, filePart, type Reply, startVendor, type Vendor } from './vendor.ts'

const pages = Array.from({ length: 7 }, (_, i) => ({ object: 'page', id: `page-${i}`, properties: {} }))
const failure = (status: number, code: string, headers = {}): Reply => ({
  status,
  headers,
  body: { object: 'error', status, code, message: `It is ${code}.`, request_id: 'r-1' },
})

describe("Notion's client through Fairlead", () => {
  let vendor: Vendor
  let notion: Client
  const ends = lastFirst({ after })

  before(async () => {
    vendor = await startVendor(ends, 'notion', {
      ended: failure(401, 'unauthorized'),
      api: ({ method, path, headers, body }) => {
        assert.equal(headers['notion-version'], '2025-09-03')
        const json = () => JSON.parse(body.toString())
        if (path === '/v1/search') {
          const { start_cursor: cursor = '0', page_size: size } = json()
          const next = Number(cursor) + size
          const more = next < pages.length
          return {
            body: {
              object: 'list',
              results: pages.slice(Number(cursor), next),
              next_cursor: more ? String(next) : null,
              has_more: more,
            },
          }
        }
        if (path === '/v1/pages' && method === 'POST') return { body: { object: 'page', id: 'new', sent: json() } }
        if (path === '/v1/file_uploads') return { body: { object: 'file_upload', id: 'up-1', status: 'pending' } }
        if (path === '/v1/file_uploads/up-1/send')
          return { body: { object: 'file_upload', id: 'up-1', status: 'uploaded' } }
        if (path === '/v1/users/me') return failure(429, 'rate_limited', { 'Retry-After': '20', 'X-Quota': 'used up' })
        return failure(404, 'object_not_found')
      },
    })
    notion = new Client({ auth: vendor.fairlead.key, baseUrl: vendor.via, retry: false, logger: () => {} })
  })

  it('pages by cursor, in bodies', async () => {
    const all = await collectPaginatedAPI(notion.search, { page_size: 2 })
    assert.deepEqual(
      all.map(page => page.id),
      pages.map(page => page.id),
    )
  })

  it('creates with JSON', async () => {
    const title = { title: [{ text: { content: 'Fähre „Ümlaut“ 🛳' } }] }
    const asked = { parent: { page_id: 'page-1' }, properties: { title } }
    const created = await notion.pages.create(asked)
    assert.deepEqual([created.id, (created as unknown as { sent: unknown }).sent], ['new', asked])
  })

  it("throws its own error for Notion's", async () => {
    await assert.rejects(notion.pages.retrieve({ page_id: 'nobody' }), (error: unknown) => {
      assert.ok(APIResponseError.isAPIResponseError(error))
      assert.deepEqual([error.code, error.status, error.message], ['object_not_found', 404, 'It is object_not_found.'])
      return true
    })
  })

  it('uploads every byte as multipart/form-data', async () => {
    const { id } = await notion.fileUploads.create({ mode: 'single_part', filename: 'ship.bin' })
    const data = new Blob([allBytes])
    const sent = await notion.fileUploads.send({ file_upload_id: id, file: { filename: 'ship.bin', data } })
    assert.equal(sent.status, 'uploaded')
    assert.deepEqual(filePart(vendor.arrived.at(-1)!, 'file'), allBytes)
  })

  it('sees the headers of a rate limit, and throws its own error', async () => {
    await assert.rejects(notion.users.me({}), (error: unknown) => {
      assert.ok(APIResponseError.isAPIResponseError(error))
      const headers = error.headers as Headers
      assert.deepEqual(
        [error.code, headers.get('retry-after'), headers.get('x-quota')],
        ['rate_limited', '20', 'used up'],
      )
      return true
    })
  })

  it('never notices that the token ended between two pages', async () => {
    let cursor: string | undefined
    let count = 0
    do {
      const { results, next_cursor: next } = await notion.search({
        page_size: 3,
        ...(cursor && { start_cursor: cursor }),
      })
      count += results.length
      cursor = next ?? undefined
      vendor.endToken()
    } while (cursor)
    assert.deepEqual([count, vendor.refreshes, vendor.refused], [7, 2, 2])
    await notion.pages.create({ parent: { page_id: 'page-1' }, properties: {} })
    assert.deepEqual([vendor.refreshes, vendor.refused], [3, 3])
  })

  it('gave nothing of ours away', () => vendor.assertUnknownKey())
})
