/** GitHub's Octokit, unmodified: it pages by absolute URLs of the `Link` header and calls its token `token`, not `Bearer`. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Octokit } from '@octokit/rest'
import { lastFirst } from '../../server/test/support/last-first.ts'
import { allBytes, type Reply, startVendor, type Vendor } from './vendor.ts'

const issues = Array.from({ length: 7 }, (_, i) => ({ number: i + 1, title: `Issue ${i + 1}` }))
const repository = '/repos/acme/harbour'

/** As GitHub does, pages are named by the repository's number, not by the path that was asked for. */
function listing(query: URLSearchParams, own: string): Reply {
  const page = Number(query.get('page') ?? 1)
  const size = Number(query.get('per_page'))
  const last = Math.ceil(issues.length / size)
  const at = (number: number, rel: string) =>
    `<${own}/repositories/1/issues?per_page=${size}&page=${number}>; rel="${rel}"`
  const links = [
    ...(page < last ? [at(page + 1, 'next'), at(last, 'last')] : []),
    ...(page > 1 ? [at(1, 'first')] : []),
  ]
  return {
    headers: { Link: links.join(', '), 'X-RateLimit-Limit': '5000', 'X-RateLimit-Remaining': String(4000 - page) },
    body: issues.slice((page - 1) * size, page * size),
  }
}

describe('Octokit through Fairlead', () => {
  let vendor: Vendor
  let octokit: Octokit
  const ends = lastFirst({ after })

  before(async () => {
    vendor = await startVendor(ends, 'github', {
      prefix: '/api/v3',
      ended: { status: 401, body: { message: 'Bad credentials' } },
      api: ({ method, path, query, body }, { own }) => {
        if (path === `${repository}/issues` && method === 'POST')
          return {
            status: 201,
            headers: { Location: `${own}${repository}/issues/8` },
            body: { number: 8, title: JSON.parse(body.toString()).title },
          }
        if (path === `${repository}/issues` || path === '/repositories/1/issues') return listing(query, own)
        if (path === `${repository}/releases/1/assets` && method === 'POST')
          return { status: 201, body: { id: 5, name: query.get('name'), size: body.length } }
        // A file is elsewhere; one of the two ways is below the base URL.
        if (path === `${repository}/releases/assets/5`)
          return { status: 302, headers: { Location: `${own}/storage/5?signature=a%2Fb` } }
        if (path === '/storage/5') return { headers: { 'Content-Type': 'application/octet-stream' }, body: allBytes }
        if (path === `${repository}/tarball/main`)
          return { status: 302, headers: { Location: `${new URL(own).origin}/codeload/main` } }
        if (path === '/codeload/main') return { headers: { 'Content-Type': 'application/x-gzip' }, body: allBytes }
        return { status: 404, body: { message: 'Not Found', documentation_url: 'https://docs.github.com/rest' } }
      },
    })
    octokit = new Octokit({
      auth: vendor.fairlead.key,
      baseUrl: vendor.via,
      log: { debug() {}, info() {}, warn() {}, error() {} },
    })
  })

  const harbour = { owner: 'acme', repo: 'harbour' }

  it('pages by the Link header, and every page comes through Fairlead', async () => {
    const before = vendor.arrived.length
    const all = await octokit.paginate(octokit.rest.issues.listForRepo, { ...harbour, per_page: 2 })
    assert.deepEqual(
      all.map(issue => issue.number),
      [1, 2, 3, 4, 5, 6, 7],
    )
    assert.deepEqual(
      vendor.arrived.slice(before).map(({ path, query }) => `${path}?${query}`),
      [
        `${repository}/issues?per_page=2`,
        '/repositories/1/issues?per_page=2&page=2',
        '/repositories/1/issues?per_page=2&page=3',
        '/repositories/1/issues?per_page=2&page=4',
      ],
    )
  })

  it('creates with JSON and is told where', async () => {
    const { data, status, headers } = await octokit.rest.issues.create({ ...harbour, title: 'Fähre „Ümlaut“ 🛳' })
    assert.deepEqual([status, data.number, data.title], [201, 8, 'Fähre „Ümlaut“ 🛳'])
    assert.equal(headers.location, `${vendor.via}${repository}/issues/8`)
  })

  it("throws its own error for GitHub's", async () => {
    await assert.rejects(octokit.rest.issues.get({ ...harbour, issue_number: 99 }), (error: Error) => {
      const { name, status, message } = error as Error & { status: number }
      assert.deepEqual([name, status], ['HttpError', 404])
      assert.match(message, /^Not Found - https:\/\/docs/)
      return true
    })
  })

  it('uploads and downloads every byte, across a redirect below the base URL', async () => {
    const sent = await octokit.rest.repos.uploadReleaseAsset({
      ...harbour,
      baseUrl: vendor.via,
      release_id: 1,
      name: 'ship.bin',
      data: allBytes as unknown as string,
      headers: { 'content-type': 'application/octet-stream' },
    })
    assert.deepEqual([sent.status, sent.data.size], [201, allBytes.length])
    assert.deepEqual(vendor.arrived.at(-1)!.body, allBytes)
    assert.equal(vendor.arrived.at(-1)!.headers['content-type'], 'application/octet-stream')

    const got = await octokit.rest.repos.getReleaseAsset({
      ...harbour,
      asset_id: 5,
      headers: { accept: 'application/octet-stream' },
    })
    assert.deepEqual(Buffer.from(got.data as unknown as ArrayBuffer), allBytes)
    assert.equal(vendor.arrived.at(-1)!.query.get('signature'), 'a/b')
  })

  it('follows a redirect that leads elsewhere by itself, and takes nobody’s token along', async () => {
    const got = await octokit.rest.repos.downloadTarballArchive({ ...harbour, ref: 'main' })
    assert.deepEqual(Buffer.from(got.data as unknown as ArrayBuffer), allBytes)
    assert.deepEqual(
      vendor.elsewhere.map(({ path, headers }) => [path, headers.authorization]),
      [['/codeload/main', undefined]],
    )
  })

  it('sees the rate limit', async () => {
    const { headers } = await octokit.rest.issues.listForRepo({ ...harbour, per_page: 2 })
    assert.deepEqual([headers['x-ratelimit-limit'], headers['x-ratelimit-remaining']], ['5000', '3999'])
  })

  it('never notices that the token ended between two pages', async () => {
    const before = vendor.refreshes
    const numbers: number[] = []
    const pages = octokit.paginate.iterator(octokit.rest.issues.listForRepo, { ...harbour, per_page: 3 })
    for await (const { data } of pages) {
      numbers.push(...data.map(issue => issue.number))
      vendor.endToken()
    }
    assert.deepEqual(numbers, [1, 2, 3, 4, 5, 6, 7])
    assert.equal(vendor.refreshes, before + 2)
    assert.equal((await octokit.rest.issues.create({ ...harbour, title: 'after the end' })).status, 201)
    assert.equal(vendor.refreshes, before + 3)
    assert.equal(vendor.refused, 3)
  })

  it('gave nothing of ours away', () => vendor.assertUnknownKey())
})
