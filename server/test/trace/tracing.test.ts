/** Traces, as a collector gets them: which spans, whose they are, and what must never be in one; and calls while the collector is away. */
import assert from 'node:assert/strict'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/time.ts'
import type { Egress } from '../../src/seams.ts'
import { createExporter, type EndedSpan } from '../../src/trace/export.ts'
import { readTracing } from '../../src/trace/settings.ts'
import { until } from '../db/until.ts'
import { listening, naming, send, startWorld } from '../proxy/world.ts'
import { lastFirst } from '../support/last-first.ts'

interface Span {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: Record<string, string | number | boolean>
  status: { code?: number }
}

type Test = { after(work: () => Promise<void>): void }

/** OTLP/HTTP, read by somebody who knows the specification and nothing of ours. */
async function startCollector(t: Test) {
  const collector = {
    port: 0,
    spans: [] as Span[],
    requests: [] as { url: string; headers: IncomingHttpHeaders; body: string }[],
    status: 200,
    resource: {} as Record<string, unknown>,
    named: (name: string) => collector.spans.filter(span => span.name === name),
  }
  const attributesOf = (list: { key: string; value: Record<string, string | boolean> }[]) =>
    Object.fromEntries(
      list.map(({ key, value }) => {
        assert.equal(Object.keys(value).length, 1)
        const [kind, given] = Object.entries(value)[0]!
        assert.match(kind, /^(string|int|bool|double)Value$/)
        return [key, kind === 'intValue' ? Number(given) : given]
      }),
    )
  const server = createServer(async (req, res) => {
    const body = await text(req)
    collector.requests.push({ url: req.url!, headers: req.headers, body })
    res.writeHead(collector.status, { 'Content-Type': 'application/json' }).end('{"partialSuccess":{}}')
    if (collector.status !== 200) return
    for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
      collector.resource = attributesOf(resource.attributes)
      for (const { spans } of scopeSpans)
        for (const span of spans) {
          assert.match(span.traceId, /^[0-9a-f]{32}$/)
          assert.match(span.spanId, /^[0-9a-f]{16}$/)
          assert.ok(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano))
          collector.spans.push({ ...span, attributes: attributesOf(span.attributes) })
        }
    }
  })
  collector.port = await listening(server)
  t.after(async () => {
    server.closeAllConnections()
    server.close()
  })
  return collector
}

const password = 'a-password-of-the-collector'

test('connect, proxied calls and renewals: their spans, their parents, and no secret', async t => {
  const opened = lastFirst(t)
  const collector = await startCollector(opened)
  const world = await startWorld(opened, '', {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}/`,
    OTEL_EXPORTER_OTLP_HEADERS: `x-collector-key=${password}`,
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test%20stage',
  })
  const { fairlead, upstream, issuer } = world
  const id = await world.connect()
  const child = (of: Span, name: string) =>
    collector.spans.find(span => span.parentSpanId === of.spanId && span.traceId === of.traceId && span.name === name)

  // Each server hands over its own.
  const walked = ['POST /connect/sessions', 'GET /oauth/connect/:key', 'GET /oauth/callback']
  await until(async () => walked.every(name => collector.named(name).length === 1))
  const [callback] = collector.named('GET /oauth/callback')
  assert.equal(callback!.kind, 2)
  assert.equal(callback!.attributes['http.response.status_code'], 200)
  const exchange = child(callback!, 'POST')!
  assert.equal(exchange.kind, 3)
  assert.equal(exchange.attributes['server.address'], new URL(issuer.url).host)
  assert.ok(child(callback!, 'transaction'))
  assert.equal(collector.named('POST /connect/sessions').length, 1)
  assert.equal(collector.named('GET /oauth/connect/:key').length, 1)

  // A call that goes on with its caller's trace, and has its token renewed on the way.
  issuer.refuse = undefined
  upstream.answer = (req, res) =>
    req.headers.authorization === 'Bearer token-0' ? void res.writeHead(401).end() : void res.end('ok')
  const callers = { trace: '0af7651916cd43dd8448eb211c80319c', span: 'b7ad6b7169203331' }
  const got = await send(fairlead.url, {
    path: '/proxy/customers/4711?email=ada%40example.com',
    headers: {
      ...naming(world, id),
      traceparent: `00-${callers.trace}-${callers.span}-01`,
      tracestate: 'vendor=1',
      baggage: 'user=ada',
    },
  })
  assert.equal(got.status, 200)
  await until(async () => collector.spans.some(span => span.parentSpanId === callers.span))
  const call = collector.spans.find(span => span.parentSpanId === callers.span)!
  assert.equal(call.traceId, callers.trace)
  assert.equal(call.kind, 2)
  assert.deepEqual(
    {
      ...call.attributes,
    },
    {
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'fairlead.request_id': got.headers['fairlead-request-id'],
      'fairlead.integration': 'own',
      'fairlead.connection': id,
      'fairlead.outcome': 'answered',
      'fairlead.retries': 0,
      'fairlead.refreshed': true,
    },
  )
  const attempts = collector.spans.filter(span => span.parentSpanId === call.spanId && span.kind === 3)
  assert.deepEqual(
    attempts.map(span => span.attributes['http.response.status_code']),
    [401, 200],
  )
  const refresh = child(call, 'refresh')!
  assert.equal(refresh.attributes['fairlead.provider'], 'own')
  assert.equal(refresh.attributes['fairlead.outcome'], 'renewed')
  for (const step of ['refresh.claim', 'POST', 'refresh.install']) assert.ok(child(refresh, step), step)

  assert.ok(child(child(refresh, 'POST')!, 'refresh.intent'), 'written once the connection stands')

  // Providers hear of none of it, and a caller's own tracing stays with us.
  for (const { headers } of upstream.arrived)
    for (const name of ['traceparent', 'tracestate', 'baggage']) assert.ok(!(name in headers), name)

  // Somebody without a key is no reason to write into a trace of theirs.
  await send(fairlead.url, {
    path: '/oauth/callback?state=x&code=y',
    headers: { traceparent: `00-${'e'.repeat(32)}-${'e'.repeat(16)}-01` },
  })
  await until(async () => collector.named('GET /oauth/callback').length === 2)
  assert.ok(!collector.spans.some(span => span.traceId === 'e'.repeat(32)))
  assert.equal(collector.named('GET /oauth/callback')[1]!.attributes['error.type'], 'state_unknown')

  assert.deepEqual(collector.resource, {
    'service.name': 'fairlead',
    'service.version': '0.1.0',
    'deployment.environment.name': 'test stage',
  })
  for (const { url, headers, body } of collector.requests) {
    assert.equal(url, '/v1/traces')
    assert.equal(headers['x-collector-key'], password)
    // Ids, ports and times in nanoseconds spell "ada" and "4711" now and then.
    const said = body
      .replaceAll(/"(?:\w*[Ii]d|\w+UnixNano)":"\w*"/g, '')
      .replaceAll(/"key":"(?:fairlead\.request_id|server\.port)","value":\{[^}]*\}/g, '')
    assert.ok(said.includes('"name"'))
    for (const secret of [
      password,
      fairlead.key,
      'token-',
      'refresh-',
      'Bearer',
      'session_token',
      'email',
      '4711',
      'ada',
      'select ',
    ])
      assert.ok(!said.includes(secret), secret)
  }
  assert.ok(!fairlead.log().includes(password))
  // What asks whether the server lives is no trace.
  assert.ok(!collector.spans.some(span => /health|ready|metrics/.test(span.name)))
})

test('a setting sends providers the trace, with the call as the parent of theirs', async t => {
  const opened = lastFirst(t)
  const collector = await startCollector(opened)
  const world = await startWorld(opened, '', {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `http://127.0.0.1:${collector.port}/own/path`,
    FAIRLEAD_TRACE_PROVIDERS: 'true',
  })
  const id = await world.connect()
  await send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) })
  const [, trace, span] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(
    String(world.upstream.arrived.at(-1)!.headers.traceparent),
  )!
  await until(async () => collector.spans.some(one => one.spanId === span && one.traceId === trace && one.kind === 3))
  assert.equal(collector.requests[0]!.url, '/own/path')
})

test('without a setting a caller may still send its own, by prefix', async t => {
  const world = await startWorld(lastFirst(t))
  const id = await world.connect()
  const theirs = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  await send(world.fairlead.url, { path: '/proxy/x', headers: { ...naming(world, id), traceparent: theirs } })
  assert.equal(world.upstream.arrived.at(-1)!.headers.traceparent, undefined)
  await send(world.fairlead.url, {
    path: '/proxy/x',
    headers: { ...naming(world, id), 'Fairlead-Proxy-traceparent': theirs },
  })
  assert.equal(world.upstream.arrived.at(-1)!.headers.traceparent, theirs)
})

test('a collector that is away: calls go on, what it missed is bounded and counted, and it hears the rest when it is back', async t => {
  const opened = lastFirst(t)
  const collector = await startCollector(opened)
  collector.status = 503
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}` }
  // What is kept for the collector, and the count of what is not, are each process's own.
  const world = await startWorld(opened, '', env, { replicas: 1 })
  const id = await world.connect()
  // Two spans each: more than are kept.
  for (let n = 0; n < 1_300; n += 20)
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const { status } = await send(world.fairlead.url, { path: '/proxy/x', headers: naming(world, id) })
        assert.equal(status, 200)
      }),
    )
  const dropped = async () =>
    Number(/^fairlead_spans_dropped_total (\d+)$/m.exec((await world.fairlead.call('GET', '/metrics')).text)?.[1])
  await until(async () => (await dropped()) > 500)
  assert.match(world.fairlead.log(), /traces could not be handed over/)
  collector.status = 200
  await until(async () => collector.spans.length >= 2_000)
})

test('the exporter keeps what another try may bring, and gives up on what none will', async () => {
  const answers = [503, 'reset', 400, 200]
  const seen: string[] = []
  let dropped = 0
  const onDropped = (spans: number) => {
    dropped += spans
  }
  const settings = readTracing(
    name => (name === 'OTEL_EXPORTER_OTLP_ENDPOINT' ? 'http://collector:4318' : undefined),
    () => undefined,
    [],
  )!
  const egress = {
    async request({ body }: { body: string }) {
      seen.push(
        JSON.parse(body)
          .resourceSpans[0].scopeSpans[0].spans.map((one: Span) => one.name)
          .join(),
      )
      const answer = answers.shift()!
      if (answer === 'reset') throw new Error('reset')
      return { status: answer, headers: {}, body: Buffer.alloc(0) }
    },
  } as unknown as Egress
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const exporter = createExporter({ egress, settings, version: '1', log, onDropped })
  const span = (name: string): EndedSpan => ({
    ...{ traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), parentId: undefined, name, kind: 1 },
    ...{ startedAt: systemClock.wall(), endedAt: systemClock.wall(), attributes: {}, failed: false },
  })
  exporter.add(span('first'))
  await until(async () => answers.length === 1)
  assert.equal(dropped, 1)
  exporter.add(span('second'))
  await exporter.close()
  assert.deepEqual(seen, ['first', 'first', 'first', 'second'])
  assert.deepEqual([answers, dropped], [[], 1])
})

test('what OTEL_* may say', () => {
  const read = (env: Record<string, string>) => {
    const faults: string[] = []
    return {
      settings: readTracing(
        name => env[name],
        () => undefined,
        faults,
      ),
      faults,
    }
  }
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }
  assert.deepEqual(read({}), { settings: undefined, faults: [] })
  assert.deepEqual(read({ OTEL_SERVICE_NAME: 'x' }), { settings: undefined, faults: [] })
  assert.equal(read({ ...endpoint, OTEL_SDK_DISABLED: 'true' }).settings, undefined)
  assert.equal(read({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' }).settings, undefined)
  assert.equal(read(endpoint).settings?.url.href, 'http://collector:4318/v1/traces')
  const sampled = (OTEL_TRACES_SAMPLER: string, OTEL_TRACES_SAMPLER_ARG = '0.25') => {
    const { settings, faults } = read({ ...endpoint, OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG })
    assert.deepEqual(faults, [])
    return [settings?.ratio, settings?.parentBased]
  }
  assert.deepEqual(sampled('always_off'), [0, false])
  assert.deepEqual(sampled('traceidratio'), [0.25, false])
  assert.deepEqual(sampled('parentbased_traceidratio'), [0.25, true])
  for (const [wrong, text] of [
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' }, /OTEL_EXPORTER_OTLP_ENDPOINT must be/],
    [{ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, /http\/json/],
    [{ ...endpoint, OTEL_TRACES_SAMPLER: 'mostly' }, /OTEL_TRACES_SAMPLER must/],
    [{ ...endpoint, OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '7' }, /SAMPLER_ARG/],
    [{ ...endpoint, OTEL_RESOURCE_ATTRIBUTES: 'nothing' }, /OTEL_RESOURCE_ATTRIBUTES must read/],
    [{ FAIRLEAD_TRACE_PROVIDERS: 'yes' }, /FAIRLEAD_TRACE_PROVIDERS/],
  ] as const)
    assert.match(read(wrong).faults.join(), text)
})
