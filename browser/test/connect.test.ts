/** The page's SDK in Chromium: two origins, hostile neighbours, every way a sign-in can end. The promise settles in each of them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Outcome } from '@fairlead/browser'
import type { Browser, Page } from 'playwright-core'
import { build } from 'vite'
import { installed } from '../../release/test/packed.ts'
import { launch, skipWithoutBrowser } from '../../server/test/browser/chromium.ts'
import { lastFirst } from '../../server/test/support/last-first.ts'

const token = `nango_connect_session_${'a'.repeat(64)}`
const connected: Outcome = {
  status: 'connected',
  provider_config_key: 'sf',
  connection_id: 'ada',
  is_pending: false,
}

interface Served {
  url: string
  /** What the next requests for a path are answered with. */
  answers: Map<string, (res: ServerResponse, url: URL) => void>
  asked: URL[]
}

async function serve(ends: { after(work: () => unknown): void }, files: Map<string, string>): Promise<Served> {
  const served: Served = { url: '', answers: new Map(), asked: [] }
  const server = createServer((req, res) => {
    const url = new URL(req.url ?? '', served.url)
    res.setHeader('Access-Control-Allow-Origin', '*')
    res.setHeader('Access-Control-Allow-Headers', 'Authorization')
    if (req.method === 'OPTIONS') return void res.writeHead(204).end()
    served.asked.push(url)
    const answer = served.answers.get(url.pathname)
    if (answer) return answer(res, url)
    const script = files.get(url.pathname)
    if (script !== undefined) return void res.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
    html(res, '<!doctype html><title>product</title><button>Connect</button>')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  served.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  ends.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return served
}

const html = (res: ServerResponse, text: string) => void res.writeHead(200, { 'content-type': 'text/html' }).end(text)
const json = (res: ServerResponse, body: unknown, status = 200) =>
  void res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
const ended = (attempt: string | null, error: object | null = null) => ({
  attempt,
  at: new Date().toISOString(),
  provider_config_key: 'sf',
  connection_id: error ? null : 'ada',
  success: error === null,
  is_pending: false,
  error,
})

describe('in Chromium', { skip: skipWithoutBrowser() }, () => {
  const ends = lastFirst({ after })
  let browser: Browser
  /** The product's page, and another origin that plays Fairlead. */
  let product: Served
  let fairlead: Served
  let scripts: Map<string, string>
  let dist: string

  before(async () => {
    const folder = await installed(ends as { after(work: () => Promise<void>): void }, 'browser')
    dist = join(folder, 'node_modules/@fairlead/browser/dist')
    const names = (await readdir(dist)).filter(name => name.endsWith('.js'))
    scripts = new Map(
      await Promise.all(
        names.map(async name => [`/sdk/${name}`, await readFile(join(dist, name), 'utf8')] as [string, string]),
      ),
    )
    product = await serve(ends, scripts)
    fairlead = await serve(ends, new Map())
    browser = await launch()
    ends.after(() => browser.close())
  })

  /** The product's page with the SDK in it; `call` begins inside a click and its outcome is waited for. */
  async function open(t: TestContext) {
    for (const served of [product, fairlead]) served.asked.length = 0
    fairlead.answers.clear()
    let results: unknown[] = []
    fairlead.answers.set('/connect/session/results', res => json(res, { data: results }))
    const context = await browser.newContext()
    t.after(() => context.close())
    const page = await context.newPage()
    await page.goto(product.url)
    await page.evaluate(`window.events = []; import('/sdk/index.js').then(sdk => { window.sdk = sdk })`)
    await page.waitForFunction('window.sdk')
    const begin = async (call: string): Promise<void> => {
      await page.evaluate(`
        window.options = { sessionToken: '${token}', baseUrl: '${fairlead.url}/', onEvent: event => events.push(event.type) };
        document.querySelector('button').onclick = () => { window.ending = ${call}; ending.then(o => { window.outcome = o }) }`)
      await page.getByRole('button', { name: 'Connect' }).click()
    }
    const outcome = () => page.evaluate('ending') as Promise<Outcome>
    const tell = (...news: unknown[]) => {
      results = news
    }
    const isOpen = async () => !(await page.evaluate('"outcome" in window'))
    return { context, page, begin, outcome, isOpen, tell }
  }

  /** Connect as the wire contract has it: says that it is there, takes the token, says what happens. */
  const connectPage = (then: string): string => `<!doctype html><title>Connect</title><script>
    const peer = window.opener ?? window.parent
    const say = message => peer.postMessage(message, '*')
    addEventListener('message', ({ data, origin }) => {
      if (data.type !== 'session_token') return
      document.title = data.sessionToken + ' ' + origin
      ${then}
    })
    say({ type: 'ready' })
  </script>`
  const popupPage = (then: string): string => `<!doctype html><title>Connect</title><script>
    const say = message => window.opener.postMessage(message, '*')
    ${then}
  </script>`
  const success = `say({ type: 'connect', payload: { providerConfigKey: 'sf', connectionId: 'ada' } });`
  const failure = `say({ type: 'error', payload: { errorType: 'access_denied', errorMessage: 'No.' } });`
  const close = `say({ type: 'close' });`
  const serveConnect = (text: string) => fairlead.answers.set('/connect/', res => html(res, text))
  const frames = (page: Page) => page.locator('iframe').count()

  it('frame: connected; it stays for its last word, and goes when Connect says so', async t => {
    const { page, begin, outcome } = await open(t)
    serveConnect(connectPage(`${success} window.finish = () => { ${close} }`))
    await begin(`sdk.openConnect({ ...options, theme: 'dark', lang: 'de' })`)
    assert.deepEqual(await outcome(), connected)
    assert.equal(await frames(page), 1)
    const frame = page.frames().find(one => one.url().startsWith(fairlead.url))!
    assert.equal(await frame.title(), `${token} ${product.url}`)
    assert.equal(new URL(frame.url()).search, '?theme=dark&lang=de', 'no token in an address')
    await frame.evaluate('finish()')
    await page.waitForFunction(`document.querySelectorAll('iframe').length === 0`)
    assert.equal(await page.evaluate('document.body.style.overflow'), '')
    assert.deepEqual(await page.evaluate('events'), ['ready', 'connect', 'close'])
    for (const url of [...fairlead.asked, ...product.asked]) assert.ok(!url.href.includes(token), url.href)
  })

  it('frame: closed; closed after a failure; a failure that is made good', async t => {
    for (const [then, expected] of [
      [close, { status: 'closed' }],
      [failure + close, { status: 'failed', code: 'access_denied', message: 'No.' }],
      [failure + success, connected],
    ] as const) {
      const { page, begin, outcome } = await open(t)
      serveConnect(connectPage(then))
      await begin('sdk.openConnect(options)')
      assert.deepEqual(await outcome(), expected)
      if (expected.status !== 'connected') assert.equal(await frames(page), 0)
    }
  })

  it('frame: the message is lost, and the server knows', async t => {
    const { begin, outcome, tell, isOpen } = await open(t)
    serveConnect(connectPage(''))
    tell(ended('an earlier one'))
    await begin('sdk.openConnect(options)')
    while (fairlead.asked.filter(url => url.pathname.endsWith('/results')).length < 2) await new Promise(setImmediate)
    assert.equal(await isOpen(), true, 'what was there before is no news')
    tell(ended('new'), ended('an earlier one'))
    assert.deepEqual(await outcome(), connected)
  })

  it('the session is over', async t => {
    const { page, begin, outcome } = await open(t)
    serveConnect(connectPage(''))
    fairlead.answers.set('/connect/session/results', res => json(res, {}, 401))
    await begin('sdk.openConnect(options)')
    assert.deepEqual(await outcome(), { status: 'expired' })
    assert.equal(await frames(page), 0)
  })

  it('frame: other windows and other origins say things, and nobody listens', async t => {
    const { page, begin, isOpen, outcome } = await open(t)
    serveConnect(connectPage(`window.finish = () => { ${success} }`))
    await begin('sdk.openConnect(options)')
    await page.waitForFunction(`events.includes('ready')`)
    const forged = `{ type: 'connect', payload: { providerConfigKey: 'sf', connectionId: 'mallory' } }`
    // The page itself, a frame of the product's origin, and a second frame of Fairlead's origin.
    await page.evaluate(`postMessage(${forged}, '*')`)
    fairlead.answers.set('/evil', res => html(res, `<script>parent.postMessage(${forged}, '*')</script>`))
    product.answers.set('/evil', res => html(res, `<script>parent.postMessage(${forged}, '*')</script>`))
    for (const url of [`${fairlead.url}/evil`, `${product.url}/evil`])
      await page.evaluate(
        url =>
          new Promise(resolve => {
            const frame = Object.assign(document.createElement('iframe'), { src: url, onload: resolve })
            document.body.append(frame)
          }),
        url,
      )
    // Right window, right origin, wrong shape.
    const frame = page.frames().find(one => one.url().startsWith(`${fairlead.url}/connect/`))!
    for (const odd of [
      `null`,
      `'connect'`,
      `{ type: 'connect' }`,
      `{ type: 'connect', payload: { connectionId: 1 } }`,
      `{ type: '__proto__' }`,
    ])
      await frame.evaluate(`parent.postMessage(${odd}, '*')`)
    assert.equal(await isOpen(), true)
    assert.deepEqual(await page.evaluate('events'), ['ready'])
    await frame.evaluate('finish()')
    assert.deepEqual(await outcome(), connected)
  })

  it('popup: connected by its message, closed by the person, blocked by the browser', async t => {
    const one = await open(t)
    serveConnect(popupPage(success))
    await one.begin(`sdk.openConnect({ ...options, mode: 'popup' })`)
    assert.deepEqual(await one.outcome(), connected)

    const two = await open(t)
    serveConnect(popupPage(''))
    const opened = two.context.waitForEvent('page')
    await two.begin(`sdk.openConnect({ ...options, mode: 'popup' })`)
    await (await opened).close()
    assert.deepEqual(await two.outcome(), { status: 'closed' })

    const three = await open(t)
    await three.page.evaluate('window.open = () => null')
    await three.begin(`sdk.openConnect({ ...options, mode: 'popup' })`)
    const outcome = await three.outcome()
    assert.equal(outcome.status === 'failed' && outcome.code, 'popup_blocked')
  })

  it('auth: the end of its own attempt, and of no other', async t => {
    for (const [error, expected] of [
      [null, connected],
      [
        { code: 'access_denied', description: 'No.' },
        { status: 'failed', code: 'access_denied', message: 'No.' },
      ],
    ] as const) {
      const { begin, outcome, tell, isOpen } = await open(t)
      await begin(`sdk.auth('s f', { ...options, params: { hostname: 'a b' } })`)
      const start = () => fairlead.asked.find(url => url.pathname === '/oauth/connect/s%20f')
      while (!start()) await new Promise(setImmediate)
      const attempt = start()!.searchParams.get('ws_client_id')
      assert.match(attempt!, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      assert.equal(start()!.searchParams.get('params[hostname]'), 'a b')
      tell(ended('another'))
      const polls = () => fairlead.asked.filter(url => url.pathname.endsWith('/results')).length
      const from = polls()
      while (polls() < from + 2) await new Promise(setImmediate)
      assert.equal(await isOpen(), true)
      tell(ended(attempt, error))
      assert.deepEqual(await outcome(), expected)
    }
  })

  it('auth: the provider cuts its window off, and the sign-in goes on', async t => {
    const { page, begin, outcome, tell, isOpen } = await open(t)
    fairlead.answers.set('/oauth/connect/sf', res =>
      res
        .writeHead(200, { 'content-type': 'text/html', 'cross-origin-opener-policy': 'same-origin' })
        .end('<title>signing in</title>'),
    )
    // Playwright makes every page believe that it has the focus.
    await page.evaluate('document.hasFocus = () => false')
    await page.evaluate(
      '{ const opens = window.open; window.open = (...given) => { window.popup = opens(...given); return window.popup } }',
    )
    await begin(`sdk.auth('sf', options)`)
    // Chromium severs only pages of a trustworthy origin, which 127.0.0.1 is.
    await page.waitForFunction('popup.closed')
    const polls = () => fairlead.asked.filter(url => url.pathname.endsWith('/results')).length
    const from = polls()
    while (polls() < from + 4) await new Promise(setImmediate)
    assert.equal(await isOpen(), true)
    tell(ended(fairlead.asked.find(url => url.pathname === '/oauth/connect/sf')!.searchParams.get('ws_client_id')))
    assert.deepEqual(await outcome(), connected)
  })

  it('a caller that gives up', async t => {
    const { page, begin, outcome } = await open(t)
    serveConnect(connectPage(''))
    await begin(`sdk.openConnect({ ...options, signal: (window.control = new AbortController()).signal })`)
    await page.evaluate('control.abort()')
    assert.deepEqual(await outcome(), { status: 'closed' })
    assert.equal(await frames(page), 0)
  })

  it('redirect: leaves with where to come back to, and tells the end there', async t => {
    const { page, begin, tell } = await open(t)
    serveConnect('<title>Connect</title>')
    await begin(`sdk.openConnect({ ...options, mode: 'redirect', returnUrl: '${product.url}/done' })`)
    await page.waitForURL(`${fairlead.url}/connect/**`)
    const { searchParams } = new URL(page.url())
    assert.deepEqual(
      [searchParams.get('session_token'), searchParams.get('return_url')],
      [token, `${product.url}/done`],
    )
    tell(ended('x'))
    await page.goto(`${product.url}/done`)
    const returned = `import('/sdk/index.js').then(sdk => sdk.connectReturned())`
    assert.deepEqual(await page.evaluate(returned), connected)
    assert.equal(await page.evaluate(returned), undefined, 'told once')
  })

  it('weighs at most 4 KB, as a bundler ships it', async t => {
    const entry = join(dist, 'index.js')
    const lib = { entry, formats: ['es' as const] }
    const built = await build({ configFile: false, logLevel: 'silent', build: { lib, write: false, minify: true } })
    const [{ output }] = built as [{ output: [{ code: string }] }]
    const size = gzipSync(output[0].code).length
    t.diagnostic(`${size} bytes, minified and compressed`)
    assert.ok(size <= 4096, `${size} bytes`)
  })
})
