/** Every answer says which request it answers, whoever made it; the log and the record of a call say the same. */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { until } from '../db/until.ts'
import { naming, send, startWorld } from '../proxy/world.ts'
import { lastFirst } from '../support/last-first.ts'

const header = 'fairlead-request-id'

test('an id on every answer, each another one, in the log and in the record of the call', async t => {
  const world = await startWorld(lastFirst(t))
  const id = await world.connect()
  const { fairlead, upstream } = world
  const given: string[] = []
  const keep = (value: unknown): string => {
    assert.match(String(value), /^[0-9a-f]{10}-[0-9a-z]+$/)
    given.push(String(value))
    return String(value)
  }
  const ask = async (path: string, headers = {}) => {
    const answer = await fetch(`${fairlead.url}${path}`, { headers, redirect: 'manual' })
    await answer.text()
    return keep(answer.headers.get(header))
  }

  await ask('/health')
  await ask('/metrics')
  await ask('/connections', { authorization: `Bearer ${fairlead.key}` })
  await ask('/docs/')
  await ask('/nothing-here')
  const unknown = await ask('/connections', { authorization: 'Bearer nobody-knows-this-one' })
  const page = await ask('/oauth/callback?code=x&state=y')

  // A provider that names an id of its own keeps that to itself.
  upstream.answer = (_req, res) => void res.setHeader('Fairlead-Request-Id', 'theirs').end('ok')
  const through = await send(fairlead.url, { path: '/proxy/x', headers: naming(world, id) })
  const called = keep(through.headers[header])
  assert.ok(!upstream.arrived.at(-1)!.rawHeaders.join().toLowerCase().includes(header))
  upstream.answer = (_req, res) => void res.destroy()
  const cut = await send(fairlead.url, { method: 'POST', path: '/proxy/y', headers: naming(world, id), body: 'x' })
  assert.equal(cut.status, 502)
  const failed = keep(cut.headers[header])

  // A page of any origin may read it.
  const health = await fetch(`${fairlead.url}/health`, { headers: { origin: 'https://app.example.com' } })
  assert.match(health.headers.get('access-control-expose-headers')!, /Fairlead-Request-Id/)

  // A balancer in front answers such a thing itself.
  if (process.env.FAIRLEAD_TEST_REPLICAS === undefined) {
    const socket = connect(Number(new URL(fairlead.url).port), '127.0.0.1')
    socket.end('no HTTP at all\r\n\r\n')
    keep(/^Fairlead-Request-Id: (\S+)\r$/m.exec(await text(socket))?.[1])
  }
  assert.equal(new Set(given).size, given.length)

  const lines = fairlead
    .log()
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as { msg: string; request_id?: string; code?: string })
  const lineOf = (requestId: string) => lines.find(line => line.request_id === requestId)
  assert.equal(lineOf(unknown)?.msg, 'request refused')
  assert.equal(lineOf(page)?.code, 'state_unknown')
  assert.equal(lineOf(failed)?.msg, 'request failed')

  for (const [requestId, status] of [
    [called, 200],
    [failed, 502],
  ] as const)
    await until(async () => {
      const { json } = await fairlead.call('GET', `/activity?request_id=${requestId}`)
      return (
        json.activity.length === 1 && json.activity[0].request_id === requestId && json.activity[0].status === status
      )
    })
})
