/**
 * `npm run bench:dashboard` (`-- --rounds N`, 15 unless said): what an operator waits for, in Chromium, with 1,000 connections and 100,000 calls.
 * Everything is taken inside the page, so that the time it takes to steer the browser is in none of it:
 *   paint   from the event (its own timestamp) to the next frame, as Event Timing tells it (what INP is made of; steps of 8 ms, and what is
 *           below 16 is not told and counted as 16)
 *   shown   from the event to the frame in which what was asked for is there
 *   main    the CPU time of the page's main thread for all of it, and for 150 ms more
 * An empty page with one button that changes a word goes the same way: it is what this machine and browser take by themselves.
 * "first" is the first visit after the page was loaded, so nothing is in memory; the others come back to what has been looked at.
 */
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import type { CDPSession, Page } from 'playwright-core'
import { quantile } from '../../../bench/load.ts'
import { password } from '../support/operator.ts'
import { startBusyWorld } from './support/busy.ts'
import { type BrowserWorld, sandbox } from './world.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '15' } }, allowPositionals: true })
const rounds = Number(values.rounds)

interface Measured {
  paint: number
  shown: number
  main: number
}

/** In the page: waits for the next click or key, then for `seen`, then for the frame. What it resolves with is taken by `take`. */
const arm = (event: string, seen: string) => `(() => {
  const seen = () => ${seen}
  const durations = []
  const observer = new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (entry.interactionId || entry.name === '${event}') durations.push(entry)
  })
  observer.observe({ type: 'event', durationThreshold: 16 })
  globalThis.measured = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error('never seen')), 20000)
    addEventListener('${event}', event => {
      const from = event.timeStamp
      let done = false
      const look = () => {
        if (done || !seen()) return
        done = true
        changes.disconnect()
        requestAnimationFrame(() => {
          const { port1, port2 } = new MessageChannel()
          port2.onmessage = () => {
            const shown = performance.now() - from
            // Event Timing tells of an event in the idle time after its frame.
            setTimeout(() => {
              for (const entry of observer.takeRecords()) durations.push(entry)
              observer.disconnect()
              resolve({ shown, paint: Math.max(16, ...durations.filter(one => one.startTime >= from - 200).map(one => one.duration)) })
            }, 150)
          }
          port1.postMessage(0)
        })
      }
      const changes = new MutationObserver(look)
      changes.observe(document, { subtree: true, childList: true, attributes: true, characterData: true })
      setTimeout(look)
    }, { capture: true, once: true })
  })
})()`

const has = (selector: string) => `!!document.querySelector(${JSON.stringify(selector)})`
const says = (selector: string, text: string) =>
  `[...document.querySelectorAll(${JSON.stringify(selector)})].some(one => one.textContent.includes(${JSON.stringify(text)}))`

/** A path, and a selector of what is there when it has come. */
type Place = [path: string, ready: string]

interface Interaction {
  name: string
  event: 'click' | 'keydown'
  /** Where it begins; what is awaited there is not measured. */
  prepare(): Promise<unknown>
  /** What is clicked, or the key. */
  on: string
  seen: string
}

async function once(page: Page, devtools: CDPSession, { event, prepare, on, seen }: Interaction): Promise<Measured> {
  await prepare()
  const at = event === 'click' ? await page.locator(on).first().boundingBox() : null
  if (at) await page.mouse.move(at.x + Math.min(at.width / 2, 40), at.y + at.height / 2)
  // As long as a hand needs from a link to its click.
  await page.waitForTimeout(150)
  await page.evaluate(arm(event, seen))
  const working = async () => {
    const { metrics } = await devtools.send('Performance.getMetrics')
    return (metrics.find(({ name }) => name === 'ThreadTime')?.value ?? 0) * 1000
  }
  const before = await working()
  if (at) {
    await page.mouse.down()
    await page.mouse.up()
  } else await page.keyboard.press(on)
  const { paint, shown } = await page.evaluate<Measured>('globalThis.measured')
  return { paint, shown, main: (await working()) - before }
}

function interactionsOn(page: Page, url: string, connection: string): Interaction[] {
  const rail = (name: string) => `nav[aria-label="Pages"] a:text-is("${name}")`
  /** Within the page: what it has in memory stays. */
  const visit = async ([path, ready]: Place) => {
    await page.evaluate(`history.pushState(null, '', '/app${path}'); dispatchEvent(new PopStateEvent('popstate'))`)
    await page.locator(ready).first().waitFor()
    await page.waitForTimeout(250)
  }
  const load = async ([path, ready]: Place) => {
    await page.goto(`${url}/app${path}`)
    await page.locator(ready).first().waitFor()
    await page.waitForTimeout(250)
  }
  const click = (name: string, prepare: () => Promise<unknown>, on: string, seen: string): Interaction => ({
    ...{ name, event: 'click', prepare, on, seen },
  })
  const press = (name: string, prepare: () => Promise<unknown>, on: string, seen: string): Interaction => ({
    ...{ name, event: 'keydown', prepare, on, seen },
  })
  const noPalette = async () => {
    await page.keyboard.press('Escape')
    await visit(['/settings', 'main input'])
  }
  const list = () => visit(['/connections', '.line .state.active'])
  const calls = () => visit(['/activity', '.line.calls .good'])
  const found = "document.querySelector('.filters .end').textContent"
  const chart = "document.querySelector('.chart').ariaLabel"
  const wholeConnection = `${has('.timeline')} && ${says('h2', 'Recent calls')} && !${has('.skeleton')}`
  const pages: [name: string, seen: string][] = [
    ['Home', `${says('.figure strong', 'of 1,00')} && ${has('.chart canvas')} && !${has('.skeleton')}`],
    ['Integrations', says('main', 'Ledger')],
    ['Connections', has('.line.connections')],
    ['Activity', `${has('.line.calls')} && ${has('.chart canvas')}`],
    ['Webhooks', says('main td', 'connection.')],
    ['Playground', says('main button', 'Send')],
    ['API keys', says('main', 'everything in this environment')],
    ['Audit', says('main', 'Sign in succeeded')],
    ['Settings', has('main input[type=url]')],
  ]
  const beside = (name: string): Place => (name === 'Settings' ? ['/keys', 'main td'] : ['/settings', 'main input'])
  return [
    click(
      'an empty page’s button',
      async () => {
        await page.goto('about:blank')
        await page.setContent('<button>a</button>')
        await page.evaluate("document.querySelector('button').onclick = event => { event.target.textContent = 'b' }")
        await page.waitForTimeout(250)
      },
      'button',
      says('button', 'b'),
    ),
    ...pages.map(([name, seen]) => click(`${name}, first`, () => load(beside(name)), rail(name), seen)),
    ...pages.map(([name, seen]) => click(name, () => visit(beside(name)), rail(name), seen)),
    click(
      'filter by state',
      list,
      '.chip:text-is("Needs sign-in")',
      `${has('.line .state.attention')} && !${has('.line .state.active')}`,
    ),
    press(
      'a letter in the search',
      async () => {
        await list()
        await page.locator('input[type=search]').focus()
        await page.evaluate(`globalThis.all = ${found}`)
      },
      '7',
      `${found} !== all`,
    ),
    click(
      'a connection, first',
      () => load(['/connections', '.line.connections']),
      '.line.connections',
      wholeConnection,
    ),
    click(
      'a connection',
      async () => {
        await visit([connection, '.timeline'])
        await visit(['/connections?search=ada', '.line.connections'])
      },
      '.line.connections',
      wholeConnection,
    ),
    click('back to the list', () => visit([connection, '.timeline']), rail('Connections'), has('.line.connections')),
    click('a call', calls, '.line.calls >> nth=3', says('[role=dialog]', 'Where the time went')),
    press(
      'close it',
      async () => {
        await calls()
        await page.locator('.line.calls').nth(3).click()
        await page.getByText('Where the time went').waitFor()
        await page.waitForTimeout(250)
      },
      'Escape',
      `!${has('[role=dialog]')}`,
    ),
    click(
      'filter by status',
      calls,
      '.chip:text-is("5xx")',
      `${has('.line.calls .bad')} && !${has('.line.calls .good')}`,
    ),
    click(
      'the last hour of the chart',
      async () => {
        await calls()
        await page.locator('.chart canvas').waitFor()
        await page.evaluate(`globalThis.day = ${chart}`)
      },
      '.chip:text-is("Last hour")',
      `${chart} !== day`,
    ),
    press('⌘K', noPalette, 'Control+k', has('[role=dialog] input')),
    press(
      'a letter in ⌘K',
      async () => {
        await noPalette()
        await page.keyboard.press('Control+k')
        await page.getByRole('textbox', { name: 'Go to' }).waitFor()
        await page.keyboard.type('Customer ')
        await page.waitForTimeout(500)
      },
      '7',
      says('[role=dialog] li', 'Customer 7'),
    ),
  ]
}

/** From the end of a call's answer, as its caller sees it, to its row in a page that is open on Activity. */
async function liveTail(world: BrowserWorld, page: Page, connection: string): Promise<number> {
  const first = "document.querySelector('.line.calls')?.textContent"
  await page.goto(`${world.fairlead.app.url}/app/activity`)
  await page.locator('.line.calls').first().waitFor()
  await page.waitForTimeout(1_000 + 450 * Math.random())
  const before = await page.evaluate<string>(first)
  const answer = await world.fairlead.call('GET', '/proxy/services/data/v66.0/limits', undefined, {
    ...{ 'Provider-Config-Key': sandbox, 'Connection-Id': connection },
  })
  if (answer.status !== 200) throw new Error(answer.text)
  const from = performance.now()
  await page.waitForFunction(`${first} !== ${JSON.stringify(before)}`)
  return performance.now() - from
}

const cell = (n: number) => n.toFixed(0).padStart(6)
const both = (figures: number[]) => {
  const sorted = Float64Array.from(figures).sort()
  return `${cell(quantile(sorted, 0.5))}${cell(quantile(sorted, 0.95))} `
}
const load = () =>
  loadavg()
    .map(n => n.toFixed(1))
    .join(' ')
const line = (text: string) => void process.stdout.write(`${text}\n`)

async function main(): Promise<void> {
  const closers: (() => Promise<void>)[] = []
  try {
    const world = await startBusyWorld({ after: close => void closers.push(close) })
    const url = world.fairlead.app.url
    const listed = await world.fairlead.call('GET', '/connections?endUserId=ada&limit=1')
    const connection: string = listed.json.connections[0].connection_id
    const { page } = await world.visit({ viewport: { width: 1440, height: 900 }, bypassCSP: true })
    const devtools = await page.context().newCDPSession(page)
    await devtools.send('Performance.enable', { timeDomain: 'threadTicks' })
    await page.goto(`${url}/app/`)
    await page.getByLabel('E-mail address').fill('owner@acme.com')
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor()

    line(`${rounds} rounds after one that is not counted; milliseconds, p50 and p95. Load average ${load()}`)
    line(`${''.padEnd(28)}   paint        shown        main thread`)
    const tails: number[] = []
    for (const interaction of interactionsOn(page, url, `/connections/${sandbox}/${connection}`)) {
      await page.goto(`${url}/app/settings`)
      await page.locator('main input').first().waitFor()
      await once(page, devtools, interaction).catch(cause => {
        throw new Error(interaction.name, { cause })
      })
      const all: Measured[] = []
      for (let n = 0; n < rounds; n++) all.push(await once(page, devtools, interaction))
      const of = (name: keyof Measured) => both(all.map(one => one[name]))
      line(`${interaction.name.padEnd(28)}${of('paint')}${of('shown')}${of('main')}`)
    }
    for (let n = 0; n < rounds; n++) tails.push(await liveTail(world, page, connection))
    line(`${'a call in the live tail'.padEnd(28)}${''.padEnd(13)}${both(tails)}`)
    line(`Load average ${load()}`)
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

await main()
