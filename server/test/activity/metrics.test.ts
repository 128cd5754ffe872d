/** GET /metrics: what is counted, in a form a scraper reads, and nothing that names a customer. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { openDb } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { createMetrics } from '../../src/lib/metrics.ts'
import { until } from '../db/until.ts'
import { naming, send, startWorld } from '../proxy/world.ts'

import { lastFirst } from '../support/last-first.ts'

/** Strictly as the exposition format has it: every sample belongs to the family whose HELP and TYPE stand before it. */
function parse(text: string): Map<string, number> {
  const samples = new Map<string, number>()
  let family = ''
  assert.ok(text.endsWith('\n'))
  for (const line of text.slice(0, -1).split('\n')) {
    const head = /^# (?:HELP|TYPE) ([a-z_]+) \S/.exec(line)
    if (head) {
      family = head[1]!
      continue
    }
    const sample = /^([a-z_]+)((?:\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\})?) (\S+)$/.exec(line)
    assert.ok(sample, line)
    assert.ok([family, `${family}_bucket`, `${family}_sum`, `${family}_count`].includes(sample[1]!), line)
    assert.ok(!samples.has(sample[1]! + sample[2]!), `twice: ${line}`)
    assert.ok(!Number.isNaN(Number(sample[3])), line)
    samples.set(sample[1]! + sample[2]!, Number(sample[3]))
  }
  return samples
}

test('calls, renewals and what waits are counted; connections, paths and secrets are not there', async t => {
  // A scraper asks each process by an address of its own.
  const world = await startWorld(lastFirst(t), '', {}, { replicas: 1 })
  const id = await world.connect()
  const { url } = world.fairlead
  const scrape = async () => {
    const answer = await fetch(`${url}/metrics`)
    assert.equal(answer.status, 200)
    assert.match(answer.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/)
    return answer.text()
  }
  world.upstream.answer = (_req, res) => void res.writeHead(201).end('four')
  for (let n = 0; n < 3; n++) await send(url, { path: '/proxy/secret-path', headers: naming(world, id) })
  await send(url, { path: '/proxy/x', headers: { ...naming(world, id), 'provider-config-key': 'made-up-by-a-caller' } })
  await send(url, { path: '/proxy/x', headers: { authorization: 'Bearer nobody' } })
  await world.fairlead.call('POST', `/connections/${id}/refresh?provider_config_key=own`)
  const answered = 'fairlead_proxy_calls_total{integration="own",outcome="answered",status="201"}'
  await until(async () => parse(await scrape()).get(answered) === 3)

  const text = await scrape()
  const samples = parse(text)
  assert.equal(samples.get('fairlead_proxy_bytes_total{integration="own",direction="down"}'), 12)
  assert.equal(samples.get('fairlead_proxy_upstream_seconds_count{integration="own"}'), 3)
  assert.equal(samples.get('fairlead_proxy_overhead_seconds_bucket{integration="own",le="+Inf"}'), 3)
  assert.equal(
    samples.get('fairlead_proxy_calls_total{integration="",outcome="refused",status="unknown_provider_config"}'),
    1,
  )
  assert.equal(samples.get('fairlead_refreshes_total{outcome="renewed"}'), 1)
  assert.equal(samples.get('fairlead_refreshes_in_doubt'), 0)
  assert.equal(samples.get('fairlead_webhooks_pending'), 0)
  assert.ok(samples.get('process_resident_memory_bytes')! > 1e7)
  for (const hidden of [id, 'secret-path', 'made-up-by-a-caller', world.fairlead.key]) assert.ok(!text.includes(hidden))

  const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name)
  const documented = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name)
  assert.deepEqual(documented.toSorted(), families.toSorted())

  const { db, close } = await openDb({ url: world.fairlead.databaseUrl })
  t.after(close)
  await db.query(sql`update credential set paused = true`)
  assert.equal(parse(await scrape()).get('fairlead_grants_unwell{state="paused"}'), 1)
})

test('a number that cannot be read just now takes none of the others along, and values keep their quotes', async () => {
  const metrics = createMetrics()
  metrics.gauge('broken', 'Away.', [], () => Promise.reject(new Error('no database')))
  const seen = metrics.histogram('waits', 'Seconds.', ['of'], [1, 2])
  for (const wait of [0.5, 1, 1.5, 9]) seen(['a "b"\\c\nd'], wait)
  const samples = parse(await metrics.text())
  assert.deepEqual([...samples.values()], [2, 3, 4, 12, 4])
  assert.ok([...samples.keys()].every(key => key.includes('of="a \\"b\\"\\\\c\\nd"')))
})
