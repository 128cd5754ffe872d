/** The documentation as a whole: every page is reached, every link and anchor leads somewhere, search finds, nothing comes from elsewhere. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import MiniSearch from 'minisearch'
import { startFairlead } from '../support/fairlead.ts'

test('every page is there, every link leads somewhere, and nothing is left to fill in', async t => {
  const fairlead = await startFairlead(t)
  const open = async (path: string) => {
    const answer = await fetch(`${fairlead.url}${path}`, { redirect: 'manual' })
    return { status: answer.status, headers: answer.headers, text: await answer.text() }
  }
  const first = await open('/docs/')
  const csp = first.headers.get('content-security-policy') ?? ''
  assert.match(csp, /default-src 'none'/)
  assert.doesNotMatch(csp, /unsafe|\*|https?:/)

  const seen = new Map<string, string>()
  const missing: string[] = []
  const waiting = ['/docs/']
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const [bare = ''] = path.split('#')
    if (seen.has(bare)) continue
    const { status, text } = await open(bare)
    seen.set(bare, text)
    if (status !== 200) missing.push(`${bare}: ${status}`)
    if (!bare.startsWith('/docs') || bare.includes('/assets/')) continue
    for (const [, to] of text.matchAll(/(?:href|src)="([^"]+)"/g)) {
      if (/^https:\/\//.test(to!)) continue
      assert.doesNotMatch(to!, /^\/\/|^http:|^javascript:/, `${bare} → ${to}`)
      const { pathname, hash } = new URL(to!, `${fairlead.url}${bare}`)
      waiting.push(`${pathname}${hash}`)
    }
  }
  assert.deepEqual(missing, [])
  assert.ok(seen.size > 20, `${seen.size} pages`)
  // Anchors exist where links name them.
  for (const [path, text] of seen) {
    if (!text.startsWith('<!doctype')) continue
    assert.doesNotMatch(text.replace(/<(pre|code)[\s\S]*?<\/\1>/g, ''), /\{\{/, `${path}: something is not filled in`)
    for (const [, target = '', anchor = ''] of text.matchAll(/href="((?!https:)[^"#]*)#([^"]+)"/g)) {
      const there = seen.get(new URL(target || path, `${fairlead.url}${path}`).pathname) ?? ''
      assert.ok(there.includes(`id="${anchor}"`), `${path} → ${target}#${anchor}`)
    }
    // One heading of the first rank, and the page one is on is marked.
    if (path.startsWith('/docs')) assert.equal(text.match(/<h1/g)?.length, 1, path)
  }
  assert.equal((await open('/docs/no-such-page')).status, 404)
  assert.equal((await open('/docs/..%2fpackage.json')).status, 404)
  assert.equal((await open('/docs/assets/..%2f..%2fpackage.json')).status, 404)
  assert.equal((await open('/docs')).status, 308)
})

test('search finds what is meant, and machines read the same pages', async t => {
  const fairlead = await startFairlead(t)
  const get = async (path: string) => (await fetch(`${fairlead.url}${path}`)).text()
  const raw = await get('/docs/assets/search.json')
  assert.ok(raw.length < 1_000_000, `${raw.length} bytes`)
  const { options, sections } = JSON.parse(raw)
  const index = new MiniSearch(options)
  index.addAll(sections)
  for (const [words, path] of [
    ['callback url sandbox', '/docs/providers/salesforce-sandbox'],
    ['webhook signature', '/docs/webhooks'],
    ['encryption key', '/docs/configuration'],
    ['redirect_uri_mismatch', '/docs/salesforce-errors'],
    ['idempotnt replay', '/docs/'],
  ] as const) {
    const found = index.search(words).map(({ id }) => String(id))
    assert.ok(
      found.slice(0, 12).some(id => id.startsWith(path)),
      `${words}: ${found.slice(0, 5)}`,
    )
  }
  const llms = await get('/llms.txt')
  const links = [...llms.matchAll(/\]\((http[^)]+)\)/g)].map(([, url]) => url!)
  assert.ok(links.length > 15)
  for (const link of links) {
    const answer = await fetch(link)
    assert.equal(answer.status, 200, link)
    if (link.endsWith('.md')) assert.match(answer.headers.get('content-type') ?? '', /^text\/markdown/)
  }
})
