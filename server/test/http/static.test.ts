import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from 'node:zlib'
import { pino } from 'pino'
import { api, onError, onNotFound } from '../../src/http/api.ts'
import { builtPage } from '../../src/http/static.ts'

const script = `document.title = ${JSON.stringify('a'.repeat(2_000))}`

const built = async (t: { after(work: () => Promise<void>): void }) => {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-page-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const write = async () => {
    await mkdir(join(folder, 'assets'))
    await writeFile(join(folder, 'index.html'), '<!doctype html><title>Page</title>')
    await writeFile(join(folder, '.sources'), 'not for the public')
    await writeFile(join(folder, 'assets/index-abc.js'), script)
    await writeFile(join(folder, 'assets/index-abc.js.br'), brotliCompressSync(script))
    await writeFile(join(folder, 'assets/index-abc.js.gz'), gzipSync(script))
    await writeFile(join(folder, 'assets/mark.png'), Buffer.from([0x89, 0x50]))
  }
  const page = builtPage(folder)
  const app = api()
  app.onError(onError(pino({ level: 'silent' })))
  app.notFound(onNotFound)
  app.get('/page/', c => page.html(c))
  app.get('/framed/', c => page.html(c, ['https://app.example.com']))
  app.get('/page/assets/:name', c => page.asset(c, c.req.param('name')))
  // The listener, which is not here, names each request.
  const listener = { outgoing: { getHeader: () => 'a-request' } }
  return { app: { request: (path: string, init?: RequestInit) => app.request(path, init, listener) }, write }
}

test('the page is never stored, runs nothing that is not ours, and is framed by nobody it was not told of', async t => {
  const { app, write } = await built(t)
  await write()
  const answer = await app.request('/page/')
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.get('cache-control'), 'no-store')
  assert.equal(answer.headers.get('x-content-type-options'), 'nosniff')
  assert.equal(answer.headers.get('referrer-policy'), 'no-referrer')
  const policy = answer.headers.get('content-security-policy') ?? ''
  for (const part of ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "trusted-types 'none'"])
    assert.ok(policy.includes(part), `${part} in ${policy}`)
  assert.doesNotMatch(policy, /unsafe|https?:|\*|frame-src/)
  assert.equal(answer.headers.get('strict-transport-security'), null)
  const secure = await app.request('/page/', { headers: { 'x-forwarded-proto': 'https' } })
  assert.equal(secure.headers.get('strict-transport-security'), 'max-age=31536000')
  const framed = await app.request('/framed/')
  assert.match(framed.headers.get('content-security-policy') ?? '', /frame-ancestors https:\/\/app\.example\.com$/)
})

test('files come in the coding the caller takes, and stay for good', async t => {
  const { app, write } = await built(t)
  await write()
  const cases: [accepted: string | undefined, coding: string | null, decode: (bytes: Buffer) => Buffer][] = [
    ['gzip, deflate, br, zstd', 'br', bytes => brotliDecompressSync(bytes)],
    ['gzip;q=1.0', 'gzip', bytes => gunzipSync(bytes)],
    ['br;q=0, gzip', 'gzip', bytes => gunzipSync(bytes)],
    ['identity', null, bytes => bytes],
    [undefined, null, bytes => bytes],
  ]
  for (const [accepted, coding, decode] of cases) {
    const answer = await app.request('/page/assets/index-abc.js', {
      headers: accepted === undefined ? {} : { 'accept-encoding': accepted },
    })
    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('content-encoding'), coding, accepted ?? 'nothing said')
    assert.equal(answer.headers.get('content-type'), 'text/javascript; charset=utf-8')
    assert.equal(answer.headers.get('cache-control'), 'public, max-age=31536000, immutable')
    assert.equal(answer.headers.get('vary'), 'Accept-Encoding')
    assert.equal(decode(Buffer.from(await answer.arrayBuffer())).toString(), script)
    const again = await app.request('/page/assets/index-abc.js', {
      headers: {
        'if-none-match': answer.headers.get('etag') ?? '',
        ...(accepted === undefined ? {} : { 'accept-encoding': accepted }),
      },
    })
    assert.equal(again.status, 304)
    assert.equal(await again.text(), '')
  }
  const picture = await app.request('/page/assets/mark.png', { headers: { 'accept-encoding': 'br' } })
  assert.equal(picture.headers.get('content-encoding'), null)
})

test('nothing else is a file', async t => {
  const { app, write } = await built(t)
  await write()
  const paths = ['.sources', 'index.html', '..%2findex.html', '..%2f.sources', 'index-abc.js.br', 'none.js', '%00']
  for (const path of paths) {
    const answer = await app.request(`/page/assets/${path}`)
    assert.equal(answer.status, 404, path)
  }
})

test('a page that is not built says so, and is there as soon as it is', async t => {
  const { app, write } = await built(t)
  const missing = await app.request('/page/')
  assert.equal(missing.status, 503)
  assert.equal(missing.headers.get('fairlead-error'), 'page_not_built')
  assert.match(await missing.text(), /npm run build/)
  await write()
  assert.equal((await app.request('/page/')).status, 200)
})
