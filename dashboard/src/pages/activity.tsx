import type { ActivityBodies, ActivityView } from '@fairlead/contract'
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery } from '@tanstack/react-query'
import { useCallback, useEffect, useState } from 'react'
import { ask, enc } from '../api.ts'
import { CallsChart } from '../charts.tsx'
import { bytes, clockTime, count, exact, ms, percent, short } from '../format.ts'
import { Card, copyText, Empty, Fault, Id, Link, Loaded, Modal, Page, Skeleton } from '../parts.tsx'
import { useIntegrations, useSummary } from '../queries.ts'
import { hrefOf, navigate, setQuery, useRoute, withQuery } from '../route.ts'
import { Rows } from '../rows.tsx'
import { Status } from './connection.tsx'

interface Listed {
  activity: ActivityView[]
  next_cursor: string | null
  dropped: number
}

/** This view, with a call beside it. */
function hrefOfCall(id: string): string {
  const query = new URLSearchParams(location.search)
  query.set('call', id)
  return `/activity?${query}`
}

const spans = { '1': 'Last hour', '24': 'Last day', '168': 'Last week' } as const
const outcomes = ['refused', 'cut', 'aborted']

export function ActivityPage() {
  const { query } = useRoute()
  const get = (name: string) => query.get(name) ?? undefined
  const filter = {
    provider_config_key: get('integration'),
    connection_id: get('connection'),
    status: get('status'),
    outcome: get('outcome'),
    method: get('method'),
    since: get('since'),
    until: get('until'),
  }
  const integrations = useIntegrations()
  const [away, setAway] = useState(false)
  const [stopped, setStopped] = useState(false)
  const isLive = !stopped && !away && !filter.until
  const calls = useInfiniteQuery({
    queryKey: ['activity', 'list', filter],
    queryFn: ({ pageParam }) => ask<Listed>(withQuery('/activity', { ...filter, limit: '100', cursor: pageParam })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: last => last.next_cursor ?? undefined,
    placeholderData: keepPreviousData,
  })
  const newest = calls.data?.pages[0]?.activity[0]
  const tail = useTail(filter, newest, isLive && calls.isSuccess)
  const known = new Set(calls.data?.pages[0]?.activity.map(one => one.id))
  const list = calls.data
    ? [...tail.filter(one => !known.has(one.id)), ...calls.data.pages.flatMap(page => page.activity)]
    : undefined
  const more = useCallback(() => {
    if (calls.hasNextPage && !calls.isFetchingNextPage) void calls.fetchNextPage()
  }, [calls])
  const call = get('call')
  const open = (one: ActivityView) => setQuery({ call: one.id })
  const chips = Object.entries({
    integration: 'Integration',
    connection: 'Connection',
    status: 'Status',
    outcome: 'Outcome',
    method: 'Method',
    since: 'From',
    until: 'Until',
  }).flatMap(([name, word]) => {
    const value = get(name)
    return value
      ? [{ name, text: `${word}: ${name === 'since' || name === 'until' ? exact(value) : short(value)}` }]
      : []
  })
  return (
    <Page
      title="Activity"
      lead="Every call through the proxy, for two weeks. Paths without ids, never a header."
      actions={
        <>
          <button
            type="button"
            className="button"
            aria-pressed={isLive}
            onClick={() => setStopped(!stopped)}
            disabled={!!filter.until}
          >
            <span className={isLive ? 'good' : 'soft'}>{isLive ? '●' : '❚❚'}</span>
            {isLive ? 'Live' : away && !stopped ? 'Paused while you scroll' : 'Paused'}
          </button>
          <Export filter={filter} />
        </>
      }
    >
      <Histogram filter={filter} />
      <div className="filters">
        <select
          aria-label="Integration"
          value={filter.provider_config_key ?? ''}
          onChange={event => setQuery({ integration: event.target.value })}
        >
          <option value="">Every integration</option>
          {integrations.data?.map(one => (
            <option key={one.unique_key} value={one.unique_key}>
              {one.display_name}
            </option>
          ))}
        </select>
        {['2xx', '4xx', '5xx'].map(one => (
          <button
            key={one}
            type="button"
            className="chip"
            aria-pressed={filter.status === one}
            onClick={() => setQuery({ status: filter.status === one ? undefined : one })}
          >
            {one}
          </button>
        ))}
        {outcomes.map(one => (
          <button
            key={one}
            type="button"
            className="chip"
            aria-pressed={filter.outcome === one}
            onClick={() => setQuery({ outcome: filter.outcome === one ? undefined : one })}
          >
            {one}
          </button>
        ))}
        {chips
          .filter(({ name }) => !['integration', 'status', 'outcome'].includes(name))
          .map(({ name, text }) => (
            <button
              key={name}
              type="button"
              className="chip"
              aria-pressed="true"
              onClick={() => setQuery({ [name]: undefined })}
            >
              {text} <span aria-hidden="true">×</span>
              <span className="hidden">remove</span>
            </button>
          ))}
        {chips.length > 0 && (
          <button type="button" className="button plain tiny" onClick={() => navigate('/activity', { replace: true })}>
            Clear
          </button>
        )}
      </div>
      {(calls.data?.pages[0]?.dropped ?? 0) > 0 && (
        <p className="small soft">
          {count(calls.data!.pages[0]!.dropped)} calls of this time were not recorded: the database was too slow for
          them.
        </p>
      )}
      <Card plain>
        {calls.error ? (
          <Fault error={calls.error} retry={() => void calls.refetch()} />
        ) : !list ? (
          <Skeleton lines={12} />
        ) : list.length === 0 && !calls.hasNextPage ? (
          <Empty title={chips.length > 0 ? 'No call matches' : 'No call yet'}>
            {chips.length > 0 ? (
              <p>Every filter must hold at once.</p>
            ) : (
              <p>Calls through the proxy appear here a moment after they end.</p>
            )}
            {chips.length === 0 && (
              <Link className="button" to="/playground">
                Make one in the playground
              </Link>
            )}
          </Empty>
        ) : (
          <>
            <div className="linehead calls">
              <span>Time</span>
              <span>Method</span>
              <span>Status</span>
              <span>Path</span>
              <span>Connection</span>
              <span className="number">Took</span>
            </div>
            <Rows
              items={list}
              kind="calls"
              height={34}
              keyOf={one => one.id}
              open={open}
              label="Calls, newest first"
              onScrolled={setAway}
              onEnd={more}
              chosen={call}
            >
              {one => (
                <>
                  <time dateTime={one.at} title={exact(one.at)} className="soft">
                    {clockTime(one.at)}
                  </time>
                  <span className="code">{one.method}</span>
                  <Status call={one} />
                  <Link to={hrefOfCall(one.id)}>
                    <code>{one.path}</code>
                  </Link>
                  <span className="soft">
                    {one.provider_config_key} · {short(one.connection_id)}
                  </span>
                  <span className="number">{ms(one.total_ms)}</span>
                </>
              )}
            </Rows>
          </>
        )}
      </Card>
      <Modal title="Call" className="panel" open={call !== undefined} onClose={() => setQuery({ call: undefined })}>
        {call && <CallDetail id={call} />}
      </Modal>
    </Page>
  )
}

/** What came after `newest`: asked for twice a second while somebody looks, so that a call is seen within one. */
function useTail(
  filter: Record<string, string | undefined>,
  newest: ActivityView | undefined,
  on: boolean,
): ActivityView[] {
  const name = JSON.stringify(filter)
  const [tail, setTail] = useState<{ name: string; calls: ActivityView[] }>({ name, calls: [] })
  const calls = tail.name === name ? tail.calls : []
  const since = (calls[0] ?? newest)?.at
  useEffect(() => {
    if (!on) return
    let gone = false
    const timer = setInterval(async () => {
      if (document.hidden) return
      const { activity } = await ask<Listed>(
        withQuery('/activity', { ...JSON.parse(name), ...(since && { since }), limit: '100' }),
      ).catch(() => ({ activity: [] as ActivityView[] }))
      if (gone || activity.length === 0) return
      setTail(before => {
        const had = before.name === name ? before.calls : []
        const seen = new Set(had.map(one => one.id))
        const fresh = activity.filter(one => !seen.has(one.id) && one.id !== newest?.id)
        // A page left open over night keeps what can be looked at.
        return fresh.length === 0 ? before : { name, calls: [...fresh, ...had].slice(0, 2_000) }
      })
    }, 450)
    return () => {
      gone = true
      clearInterval(timer)
    }
  }, [on, name, since, newest?.id])
  return calls
}

function Histogram({
  filter,
}: {
  filter: {
    provider_config_key: string | undefined
    connection_id: string | undefined
    since: string | undefined
    until: string | undefined
  }
}) {
  const { query } = useRoute()
  const span = query.get('span') ?? '24'
  const { provider_config_key, connection_id, since, until } = filter
  const summary = useSummary({ hours: Number(span), provider_config_key, connection_id, since, until })
  return (
    <Card
      plain
      title="Calls and errors"
      note={
        summary.data
          ? `${count(summary.data.calls)} calls, ${percent(summary.data.errors, summary.data.calls)} failed, p95 ${ms(summary.data.p95_ms)}. Drag over a time to look at it alone.`
          : ' '
      }
      actions={
        since || until ? (
          <button
            type="button"
            className="button tiny"
            onClick={() => setQuery({ since: undefined, until: undefined })}
          >
            Whole time
          </button>
        ) : (
          <div className="row">
            {Object.entries(spans).map(([hours, word]) => (
              <button
                key={hours}
                type="button"
                className="chip"
                aria-pressed={span === hours}
                onClick={() => setQuery({ span: hours === '24' ? undefined : hours })}
              >
                {word}
              </button>
            ))}
          </div>
        )
      }
    >
      <Loaded query={summary} lines={5}>
        {data => (
          <CallsChart
            summary={data}
            onBrush={(from, to) => setQuery({ since: from.toISOString(), until: to.toISOString() })}
          />
        )}
      </Loaded>
    </Card>
  )
}

function CallDetail({ id }: { id: string }) {
  const call = useQuery({ queryKey: ['call', id], queryFn: () => ask<ActivityView>(`/activity/${enc(id)}`) })
  const bodies = useMutation({ mutationFn: () => ask<ActivityBodies>(`/activity/${enc(id)}/bodies`) })
  return (
    <Loaded query={call}>
      {one => {
        const curl = [
          `curl -X ${one.method} '${location.origin}/proxy${one.path}'`,
          `-H "Authorization: Bearer $FAIRLEAD_API_KEY"`,
          `-H 'Provider-Config-Key: ${one.provider_config_key}'`,
          `-H 'Connection-Id: ${one.connection_id}'`,
        ].join(' \\\n  ')
        return (
          <>
            <p className="row wrap">
              <Status call={one} />
              <code className="grow">
                {one.method} {one.path}
              </code>
            </p>
            <h3>Where the time went</h3>
            <Waterfall call={one} />
            <dl className="facts">
              <dt>When</dt>
              <dd>{exact(one.at)}</dd>
              <dt>Host</dt>
              <dd>{one.host ?? 'never known: refused before'}</dd>
              <dt>Outcome</dt>
              <dd>
                {one.outcome}
                {one.error && (
                  <>
                    {' '}
                    · <a href="/docs/errors">{one.error}</a>
                  </>
                )}
              </dd>
              <dt>Connection</dt>
              <dd>
                <Link to={`/connections/${enc(one.provider_config_key)}/${enc(one.connection_id)}`}>
                  {one.connection_id}
                </Link>
              </dd>
              <dt>Caller</dt>
              <dd>{one.api_key_id === null ? 'an operator, in the dashboard' : `API key ${one.api_key_id}`}</dd>
              <dt>Bodies</dt>
              <dd>
                {bytes(one.bytes_up)} up, {bytes(one.bytes_down)} down
              </dd>
              <dt>Retries</dt>
              <dd>{one.retries}</dd>
              <dt>Token</dt>
              <dd>{one.refreshed ? 'renewed on the way' : 'fresh'}</dd>
              <dt>Id</dt>
              <dd>
                <Id value={one.id} full />
              </dd>
            </dl>
            <div className="row wrap">
              <button type="button" className="button" onClick={() => void copyText(curl)}>
                Copy as curl
              </button>
              <Link
                className="button"
                to={withQuery('/playground', {
                  integration: one.provider_config_key,
                  connection: one.connection_id,
                  path: one.path,
                })}
              >
                Open in the playground
              </Link>
              <button
                type="button"
                className="button"
                onClick={() => void copyText(location.origin + hrefOf(withQuery('/activity', { call: one.id })))}
              >
                Copy link
              </button>
              {one.has_bodies && (
                <button type="button" className="button" onClick={() => bodies.mutate()}>
                  Show bodies
                </button>
              )}
            </div>
            {bodies.error && <Fault error={bodies.error} />}
            {bodies.data &&
              (['request', 'answer'] as const).map(side => {
                const body = bodies.data[side]
                return body ? (
                  <div key={side} className="stack tight">
                    <h3>
                      {side === 'request' ? 'Request' : 'Answer'} <span className="soft">{body.type}</span>
                    </h3>
                    <pre>{body.text}</pre>
                  </div>
                ) : null
              })}
          </>
        )
      }}
    </Loaded>
  )
}

/** What a call did with its time: before it was sent (auth, lookup, a refresh), the provider's own time, the stream of the answer. */
function Waterfall({ call }: { call: ActivityView }) {
  const { sent_ms, first_byte_ms, total_ms } = call
  const steps: [string, number, number][] = [
    [call.refreshed ? 'Auth and refresh' : 'Auth and lookup', 0, sent_ms ?? total_ms],
  ]
  if (sent_ms !== null) steps.push(['Provider', sent_ms, first_byte_ms ?? total_ms])
  if (first_byte_ms !== null) steps.push(['Stream', first_byte_ms, total_ms])
  const scale = 1000 / (total_ms || 1)
  return (
    <div className="waterfall">
      {steps.map(([name, from, to]) => (
        <div key={name}>
          <span>{name}</span>
          <svg viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true">
            <rect width="1000" height="12" rx="3" fill="var(--sunken)" />
            <rect
              x={from * scale}
              width={Math.max(4, (to - from) * scale)}
              height="12"
              fill={name === 'Provider' ? 'var(--degraded)' : 'var(--accent)'}
            />
          </svg>
          <span className="number">{ms(to - from)}</span>
        </div>
      ))}
    </div>
  )
}

const mostExported = 10_000

/** What the filters let through, as JSON lines, page by page. */
function Export({ filter }: { filter: Record<string, string | undefined> }) {
  const [had, setHad] = useState(0)
  const run = useMutation({
    mutationFn: async () => {
      const lines: string[] = []
      for (let cursor: string | undefined; lines.length < mostExported; ) {
        const page: Listed = await ask<Listed>(withQuery('/activity', { ...filter, limit: '200', cursor }))
        lines.push(...page.activity.map(one => JSON.stringify(one)))
        setHad(lines.length)
        if (!page.next_cursor) break
        cursor = page.next_cursor
      }
      const url = URL.createObjectURL(new Blob([`${lines.join('\n')}\n`], { type: 'application/x-ndjson' }))
      const link = document.createElement('a')
      link.href = url
      link.download = 'activity.ndjson'
      link.click()
      setTimeout(() => URL.revokeObjectURL(url), 10_000)
    },
  })
  return (
    <button
      type="button"
      className="button"
      disabled={run.isPending}
      onClick={() => run.mutate()}
      title={run.error ? String(run.error) : `At most ${count(mostExported)} calls`}
    >
      {run.isPending ? `${count(had)}…` : run.error ? 'Export failed; again?' : 'Export'}
    </button>
  )
}
