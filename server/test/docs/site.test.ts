/** The documentation as a whole: every page is reached, every link and anchor leads somewhere, search finds, nothing comes from elsewhere. */
import assert from 'node:assert/strict'
import { existsSync, statSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import MiniSearch from 'minisearch'
import { exportDocs } from '../../../release/docs.ts'
import { type Variable, variables } from '../../src/config.ts'
import { slug } from '../../src/docs/markdown.ts'
import { startFairlead } from '../support/fairlead.ts'
import { repository, written } from './blocks.ts'

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

test('the export is the site, and its links lead from file to file, wherever it is put', async t => {
  const fairlead = await startFairlead(t)
  const into = await mkdtemp(join(tmpdir(), 'fairlead-docs-'))
  t.after(() => rm(into, { recursive: true }))
  const saved = await exportDocs(fairlead.url, into)
  const files = (await readdir(into, { recursive: true })).filter(name => name.endsWith('.html'))
  assert.ok(files.length > 60, `${files.length} pages`)
  const texts = new Map<string, string>()
  for (const name of files) texts.set(join(into, name), await readFile(join(into, name), 'utf8'))
  for (const [file, text] of texts)
    for (const [, to = '', anchor] of text.matchAll(/(?:href|src)="(?!https:)([^"#]*)(?:#([^"]*))?"/g)) {
      const what = `${file} → ${to}#${anchor}`
      assert.doesNotMatch(to, /^\/|^[a-z]+:/, what)
      const target = to === '' ? file : join(dirname(file), to)
      assert.ok(existsSync(target) && statSync(target).isFile(), what)
      if (anchor) assert.ok(texts.get(target)?.includes(`id="${anchor}"`), what)
    }
  // Nothing is served that was not saved, and machines are led to the same pages.
  for (const { path } of (await fairlead.call('GET', '/docs/assets/search.json')).json.sections.map(
    (one: { id: string }) => ({ path: one.id.split('#')[0] }),
  ))
    assert.ok(saved.includes(path), path)
  const led = [...(await readFile(join(into, 'llms.txt'), 'utf8')).matchAll(/\]\(http:\/\/[^/]+(\/docs[^)]+)\)/g)]
  assert.ok(led.length > 15)
  for (const [, path = ''] of led) assert.ok(saved.includes(path), path)
})

test('the page about the configuration has every variable, and pages name tests that are there', async t => {
  const fairlead = await startFairlead(t)
  const page = await (await fetch(`${fairlead.url}/docs/configuration.md`)).text()
  for (const [name, { secret }] of Object.entries<Variable>(variables))
    assert.ok(page.includes(`| \`${name}\`${secret ? ' ◆' : ''} |`), name)
  const settings = Object.keys((await fairlead.call('GET', '/environment/settings')).json)
  for (const name of settings.filter(name => !['signing_keys', 'connect_ui'].includes(name)))
    assert.ok(page.includes(`\`${name}\``), `the setting ${name}`)
  for (const name of await readdir(join(repository, 'docs'))) {
    if (!name.endsWith('.md')) continue
    const text = await readFile(join(repository, 'docs', name), 'utf8')
    for (const [path] of text.matchAll(/(?:server|release|cli|node|browser|simulator)\/test(?:\/[\w.-]+)*/g))
      assert.ok(existsSync(join(repository, path)), `${name}: ${path}`)
  }
})

test('the README counts what there is', async () => {
  const readme = await readFile(join(repository, 'README.md'), 'utf8')
  const folder = join(repository, 'providers')
  const files = (await readdir(folder)).filter(name => name.endsWith('.yaml'))
  const texts = await Promise.all(files.map(name => readFile(join(folder, name), 'utf8')))
  const definitions = texts.flatMap(text => text.match(/^[a-z0-9-]+:$/gm) ?? [])
  assert.ok(readme.includes(`| ${definitions.length} providers,`), `${definitions.length} providers`)
})

test('links between files of the repository hold, for whoever reads it there', async () => {
  for (const page of [...written, 'ARCHITECTURE.md', 'DECISIONS.md', 'SECURITY.md', 'CHANGELOG.md']) {
    const text = (await readFile(join(repository, page), 'utf8')).replace(/^```[\s\S]*?^```$/gm, '')
    const links = [...text.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map(([, to, source]) => to ?? source!)
    // Below a server there are pages that are no files.
    for (const to of links.filter(to => !/^(?:https?:|\/docs\/|\/openapi\.json|#|mailto:)/.test(to))) {
      const [file = '', anchor] = to.split('#')
      const target = join(repository, dirname(page), file)
      assert.ok(existsSync(target), `${page} → ${to}`)
      if (!anchor) continue
      const headings = [...(await readFile(target, 'utf8')).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
        slug(heading!),
      )
      assert.ok(headings.includes(anchor), `${page} → ${to}`)
    }
  }
})
