/** jira.js, unmodified: our key as the password of HTTP Basic, a base URL with a path, pages by startAt and maxResults. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type CloudClient, createCloudClient } from 'jira.js'
import { isNotFoundError, isRateLimitError } from 'jira.js/core'
import { lastFirst } from '../../server/test/support/last-first.ts'
import { allBytes, filePart, type Reply, startVendor, type Vendor } from './vendor.ts'

const projects = Array.from({ length: 7 }, (_, i) => ({ id: String(i), key: `P${i}`, name: `Project ${i}` }))
const failure = (status: number, message: string, headers = {}): Reply => ({
  status,
  headers,
  body: { errorMessages: [message], errors: {} },
})

describe('jira.js through Fairlead', () => {
  let vendor: Vendor
  let jira: CloudClient
  const ends = lastFirst({ after })

  before(async () => {
    vendor = await startVendor(ends, 'jira', {
      prefix: '/ex/jira/11223344-a1b2',
      ended: failure(401, 'Client must be authenticated to access this resource.'),
      api: ({ method, path, query, headers, body }, { own }) => {
        if (path === '/rest/api/3/project/search') {
          const from = Number(query.get('startAt') ?? 0)
          const size = Number(query.get('maxResults'))
          const isLast = from + size >= projects.length
          const self = `${own}${path}?startAt=${from}&maxResults=${size}`
          const nextPage = `${own}${path}?startAt=${from + size}&maxResults=${size}`
          return {
            headers: { 'X-RateLimit-Remaining': '42' },
            body: {
              self,
              ...(!isLast && { nextPage }),
              startAt: from,
              maxResults: size,
              total: projects.length,
              isLast,
              values: projects.slice(from, from + size),
            },
          }
        }
        if (path === '/rest/api/3/issue' && method === 'POST') {
          assert.equal(headers['content-type'], 'application/json')
          const { summary } = JSON.parse(body.toString()).fields
          return { status: 201, body: { id: '10000', key: summary, self: `${own}/rest/api/3/issue/10000` } }
        }
        if (path === '/rest/api/3/issue/P1-1/attachments') {
          assert.equal(headers['x-atlassian-token'], 'no-check')
          return { body: [{ id: '1', filename: 'ship.bin', size: filePart({ headers, body }, 'file').length }] }
        }
        if (path === '/rest/api/3/attachment/content/1')
          return { headers: { 'Content-Type': 'application/octet-stream' }, body: allBytes }
        if (path === '/rest/api/3/myself')
          return failure(429, 'Rate limit exceeded.', { 'Retry-After': '20', 'X-RateLimit-Remaining': '0' })
        return failure(404, 'Issue does not exist or you do not have permission to see it.')
      },
    })
    jira = createCloudClient({
      host: vendor.via,
      auth: { type: 'basic', email: 'ada@acme.com', apiToken: vendor.fairlead.key },
    })
  })

  it('pages by startAt', async () => {
    const keys: string[] = []
    for (let startAt = 0, isLast: boolean | undefined = false; !isLast; startAt += 2) {
      const page = await jira.projects.searchProjects({ startAt, maxResults: 2 })
      keys.push(...(page.values ?? []).map(project => project.key ?? ''))
      isLast = page.isLast
      // A body is the provider's word for word, so its addresses are the provider's.
      assert.ok(page.self?.startsWith(vendor.own), String(page.self))
    }
    assert.deepEqual(
      keys,
      projects.map(project => project.key),
    )
  })

  it('creates with JSON', async () => {
    const summary = 'Fähre „Ümlaut“ 🛳'
    const fields = { summary, project: { key: 'P1' }, issuetype: { name: 'Task' } }
    assert.equal((await jira.issues.createIssue({ fields })).key, summary)
  })

  it("throws its own error for Jira's", async () => {
    await assert.rejects(jira.issues.getIssue({ issueIdOrKey: 'P1-99' }), (error: unknown) => {
      assert.ok(isNotFoundError(error))
      assert.match(JSON.stringify(error.body ?? error.message), /Issue does not exist/)
      return true
    })
  })

  it('uploads and downloads every byte', async () => {
    const attachments = [{ filename: 'ship.bin', content: allBytes }]
    const [made] = await jira.issueAttachments.addAttachment({
      issueIdOrKey: 'P1-1',
      attachments: attachments as never,
    })
    assert.equal(made?.size, allBytes.length)
    assert.deepEqual(filePart(vendor.arrived.at(-1)!, 'file'), allBytes)
    const content = await jira.issueAttachments.getAttachmentContent({ id: '1' })
    assert.deepEqual(Buffer.from(content as Uint8Array), allBytes)
  })

  it('sees a rate limit and throws its own error', async () => {
    await assert.rejects(jira.myself.getCurrentUser(), (error: unknown) => {
      assert.ok(isRateLimitError(error))
      assert.equal(error.retryAfterMs, 20_000)
      return true
    })
  })

  it('never notices that the token ended between two pages', async () => {
    let count = 0
    for (let startAt = 0; startAt < projects.length; startAt += 3) {
      count += (await jira.projects.searchProjects({ startAt, maxResults: 3 })).values?.length ?? 0
      vendor.endToken()
    }
    assert.deepEqual([count, vendor.refreshes, vendor.refused], [7, 2, 2])
    const fields = { summary: 'after the end', project: { key: 'P1' }, issuetype: { name: 'Task' } }
    assert.equal((await jira.issues.createIssue({ fields })).key, 'after the end')
    assert.deepEqual([vendor.refreshes, vendor.refused], [3, 3])
  })

  it('gave nothing of ours away', () => {
    assert.deepEqual(vendor.elsewhere, [])
    vendor.assertUnknownKey()
  })
})
