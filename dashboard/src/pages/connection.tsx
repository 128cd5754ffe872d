import { Menu } from '@base-ui/react/menu'
import type { ActivityView, ConnectionView, ExplainedCause, Finding, TokenTimeline, Usage } from '@fairlead/contract'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'
import { ApiError, ask, enc, post } from '../api.ts'
import { Meter, TokenPicture } from '../charts.tsx'
import { count, ms, percent } from '../format.ts'
import {
  Card,
  CopyField,
  Empty,
  Fault,
  Icon,
  Id,
  Link,
  Loaded,
  Modal,
  Page,
  Skeleton,
  State,
  Sure,
  say,
  Time,
} from '../parts.tsx'
import { navigate, withQuery } from '../route.ts'
import { WebhookAddressCard } from './webhook-addresses.tsx'

export function ConnectionPage({
  integration,
  id,
  canChange,
}: {
  integration: string
  id: string
  canChange: boolean
}) {
  const queries = useQueryClient()
  const base = `/connections/${enc(id)}`
  const named = `?provider_config_key=${enc(integration)}`
  const connection = useQuery({
    queryKey: ['connection', integration, id],
    queryFn: () => ask<ConnectionView>(base + named),
    refetchInterval: 10_000,
  })
  const [removing, setRemoving] = useState(false)
  const [link, setLink] = useState<string>()
  const act = useMutation({
    mutationFn: async ({ verb }: { verb: 'refresh' | 'pause' | 'resume'; done: string }) =>
      post(`${base}/${verb}${named}`),
    onSuccess: (_, { done }) => say(done),
    onSettled: () => queries.invalidateQueries(),
  })
  const reconnect = useMutation({
    mutationFn: () =>
      post<{ data: { connect_link: string } }>('/connect/sessions/reconnect', {
        connection_id: id,
        integration_id: integration,
      }),
    onSuccess: ({ data }) => setLink(data.connect_link),
  })
  const data = connection.data
  const who = data?.end_user?.display_name ?? data?.end_user?.email ?? data?.end_user?.id
  const account = data?.connection_config.instance_url
  return (
    <Page
      title={who ?? 'Connection'}
      lead={
        data ? (
          <span className="row wrap">
            <State name={data.state.name} />
            <span>
              {data.provider_config_key}
              {typeof account === 'string' && ` · ${URL.parse(account)?.host ?? account}`}
            </span>
            <span>
              state changed <Time at={data.state.since} />
            </span>
            <Id value={id} />
          </span>
        ) : undefined
      }
      actions={
        canChange &&
        data && (
          <>
            <Link className="button" to={withQuery('/playground', { integration, connection: id })}>
              Test call
            </Link>
            <button
              type="button"
              className="button"
              disabled={act.isPending}
              onClick={() => act.mutate({ verb: 'refresh', done: 'Renewed' })}
            >
              Renew now
            </button>
            <button
              type="button"
              className={`button ${data.state.name === 'needs_reauth' ? 'primary' : ''}`}
              onClick={() => reconnect.mutate()}
            >
              Reconnect link
            </button>
            <Menu.Root>
              <Menu.Trigger className="button">More…</Menu.Trigger>
              <Menu.Portal>
                <Menu.Positioner sideOffset={6} align="end">
                  <Menu.Popup className="menu">
                    {data.state.name === 'paused' ? (
                      <Menu.Item onClick={() => act.mutate({ verb: 'resume', done: 'Resumed' })}>Resume</Menu.Item>
                    ) : (
                      <Menu.Item onClick={() => act.mutate({ verb: 'pause', done: 'Paused' })}>
                        Pause: refuse its calls, renew nothing
                      </Menu.Item>
                    )}
                    <Menu.Item className="danger" onClick={() => setRemoving(true)}>
                      Delete and revoke…
                    </Menu.Item>
                  </Menu.Popup>
                </Menu.Positioner>
              </Menu.Portal>
            </Menu.Root>
          </>
        )
      }
    >
      {act.error && <Fault error={act.error} />}
      {reconnect.error && <Fault error={reconnect.error} />}
      {data && (data.state.name !== 'active' || data.state.explained) && (
        <div className={`notice ${data.state.name === 'paused' ? '' : 'bad'}`}>
          <Icon name={data.state.name === 'paused' ? 'bars' : 'bang'} />
          <div className="stack tight">
            <p>{data.state.message}</p>
            {data.state.explained && <Reasons of={data.state.explained} />}
          </div>
        </div>
      )}
      {data?.warnings.map(one => (
        <div key={one.code} className="notice">
          <Icon name="info" />
          <p>{one.message}</p>
        </div>
      ))}
      <Loaded query={connection} lines={10}>
        {view => (
          <>
            <Timeline base={base} named={named} id={id} integration={integration} />
            <div className="aside">
              <div className="stack">
                <Doctor base={base} named={named} />
                <Recent integration={integration} id={id} />
              </div>
              <div className="stack">
                <Scopes {...view.scopes} />
                <UsageCard base={base} named={named} />
                <WebhookAddressCard base={base} named={named} canChange={canChange} />
                <Card title="Account" note="What the provider told.">
                  <Facts values={view.connection_config} />
                </Card>
                <Card title="Yours">
                  <dl className="facts">
                    <dt>End user</dt>
                    <dd>{view.end_user ? <Id value={view.end_user.id} /> : '–'}</dd>
                    {view.end_user?.email && (
                      <>
                        <dt>E-mail</dt>
                        <dd>{view.end_user.email}</dd>
                      </>
                    )}
                    <dt>Connected</dt>
                    <dd>
                      <Time at={view.created_at} />
                    </dd>
                    <dt>Credentials read</dt>
                    <dd>
                      <Time at={view.last_fetched_at} none="never" />
                    </dd>
                    {Object.entries({ ...view.tags, ...view.metadata }).map(([name, value]) => (
                      <Fact key={name} name={name} value={value} />
                    ))}
                  </dl>
                </Card>
              </div>
            </div>
          </>
        )}
      </Loaded>
      <Modal title="Reconnect link" open={link !== undefined} onClose={() => setLink(undefined)}>
        <p>
          Send it to {who ?? 'the owner'}. It works for half an hour, for this account alone; another one is refused.
        </p>
        {link && <CopyField label="Link" value={link} />}
        <div className="row">
          <a className="button end" href={link} target="_blank" rel="noreferrer">
            Open it here
          </a>
        </div>
      </Modal>
      <Sure
        title="Delete this connection?"
        text="Its tokens are revoked at the provider if nothing else stands on them. The owner has to sign in anew to be connected again."
        verb="Delete and revoke"
        open={removing}
        onClose={() => setRemoving(false)}
        act={async () => {
          await ask(base + named, { method: 'DELETE' })
          navigate('/connections')
          await queries.invalidateQueries()
          say('Deleted; its tokens are being revoked')
        }}
      />
    </Page>
  )
}

function Timeline({ base, named, id, integration }: { base: string; named: string; id: string; integration: string }) {
  const timeline = useQuery({
    queryKey: ['timeline', integration, id],
    queryFn: () => ask<TokenTimeline>(`${base}/timeline${named}`),
    refetchInterval: 15_000,
  })
  return (
    <Card
      title="Tokens"
      note={
        timeline.data &&
        `${renewedWords(timeline.data.renewals)}${timeline.data.shared_with > 0 ? `, shared with ${timeline.data.shared_with} other connections` : ''}.${timeline.data.expires_at ? '' : ' Nobody said when the access token ends.'}`
      }
    >
      <Loaded query={timeline} lines={3}>
        {data => (
          <>
            <TokenPicture timeline={data} />
            {data.next_try_at && (
              <p className="small soft">
                The last renewal failed; tried again <Time at={data.next_try_at} />.
              </p>
            )}
          </>
        )}
      </Loaded>
    </Card>
  )
}

const renewedWords = (renewals: number): string =>
  renewals === 0 ? 'Not renewed yet' : renewals === 1 ? 'Renewed once' : `Renewed ${renewals} times`

const signs = { error: ['bang', 'bad'], warning: ['half', ''], info: ['info', 'soft'], ok: ['check', 'good'] } as const

/** What may be behind what the provider said, in the words its errors have everywhere. */
function Reasons({ of: { explanations } }: { of: ExplainedCause }) {
  return (
    <details>
      <summary>What may be behind it</summary>
      <ol className="stack tight reasons">
        {explanations.map(({ text, fix, link }) => (
          <li key={text}>
            {text} <strong>{fix}</strong>{' '}
            {link && (
              <a href={link} target="_blank" rel="noreferrer">
                Open it there
              </a>
            )}
          </li>
        ))}
      </ol>
    </details>
  )
}

function Doctor({ base, named }: { base: string; named: string }) {
  const doctor = useQuery({
    queryKey: ['doctor', base, named],
    queryFn: () => ask<{ findings: Finding[] }>(`${base}/doctor${named}`),
    enabled: false,
    retry: false,
  })
  return (
    <Card
      title="Doctor"
      note="Looks at the app, the address, the scopes and the limits; asks the provider a few short questions."
      plain
      actions={
        <button
          type="button"
          className="button tiny"
          disabled={doctor.isFetching}
          onClick={() => void doctor.refetch()}
        >
          {doctor.isFetching ? 'Examining…' : doctor.data || doctor.error ? 'Examine again' : 'Examine'}
        </button>
      }
    >
      {doctor.isFetching ? (
        <Skeleton lines={3} />
      ) : doctor.error ? (
        doctor.error instanceof ApiError && doctor.error.status === 404 ? (
          <Empty title="Nothing to examine">
            <p>This provider has no doctor.</p>
          </Empty>
        ) : (
          <div className="body">
            <Fault error={doctor.error} />
          </div>
        )
      ) : doctor.data ? (
        <ul className="list">
          {doctor.data.findings.map(one => {
            const [sign, look] = signs[one.severity]
            return (
              <li key={one.code + one.title} className="finding">
                <span className={look}>
                  <Icon name={sign} />
                </span>
                <div>
                  <h3>
                    <span className="hidden">{one.severity}: </span>
                    {one.title}
                  </h3>
                  <p>{one.detail}</p>
                  {one.fix && <p className="small">{one.fix}</p>}
                  {one.link && (
                    <a className="small" href={one.link} target="_blank" rel="noreferrer">
                      Open it there
                    </a>
                  )}
                </div>
              </li>
            )
          })}
        </ul>
      ) : (
        <Empty title="Not examined yet">
          <p>Worst findings come first, each with what to do.</p>
        </Empty>
      )}
    </Card>
  )
}

function Recent({ integration, id }: { integration: string; id: string }) {
  const filter = { provider_config_key: integration, connection_id: id }
  const calls = useQuery({
    queryKey: ['activity', 'recent', filter],
    queryFn: () => ask<{ activity: ActivityView[] }>(withQuery('/activity', { ...filter, limit: '8' })),
    refetchInterval: 3_000,
  })
  return (
    <Card
      title="Recent calls"
      plain
      actions={
        <Link className="button tiny" to={withQuery('/activity', { integration, connection: id })}>
          See all
        </Link>
      }
    >
      <Loaded query={calls}>
        {({ activity }) =>
          activity.length === 0 ? (
            <Empty title="No call yet">
              <p>Calls through the proxy appear here a moment after they end.</p>
            </Empty>
          ) : (
            <div className="scroll">
              <table className="cards">
                <thead>
                  <tr>
                    <th>Status</th>
                    <th>Call</th>
                    <th className="number">Took</th>
                    <th>When</th>
                  </tr>
                </thead>
                <tbody>
                  {activity.map(one => (
                    <tr key={one.id}>
                      <td>
                        <Status call={one} />
                      </td>
                      <td className="wide">
                        <Link to={withQuery('/activity', { integration, connection: id, call: one.id })}>
                          <code>
                            {one.method} {one.path}
                          </code>
                        </Link>
                      </td>
                      <td className="number">{ms(one.total_ms)}</td>
                      <td className="wide soft">
                        <Time at={one.at} />
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )
        }
      </Loaded>
    </Card>
  )
}

export function Status({ call }: { call: ActivityView }) {
  const failed = call.outcome !== 'answered' || (call.status ?? 0) >= 400
  return (
    <span className={`code ${failed ? 'bad' : 'good'}`} title={call.error ?? call.outcome}>
      {call.status ?? '–'}
      {call.outcome !== 'answered' && <span className="hidden"> {call.outcome}</span>}
    </span>
  )
}

function Scopes({ requested, granted }: { requested: string[]; granted: string[] }) {
  const missing = requested.filter(scope => !granted.includes(scope))
  const extra = granted.filter(scope => !requested.includes(scope))
  return (
    <Card
      title="Scopes"
      note={
        missing.length === 0
          ? 'Everything that was asked for was granted.'
          : `${missing.length} asked for and not granted.`
      }
    >
      <div className="row wrap">
        {granted.map(scope => (
          <span
            key={scope}
            className="tag"
            title={extra.includes(scope) ? 'Granted without being asked for' : 'Granted'}
          >
            {scope}
            {extra.includes(scope) && ' +'}
          </span>
        ))}
        {missing.map(scope => (
          <span key={scope} className="tag missing" title="Not granted">
            {scope} – not granted
          </span>
        ))}
        {granted.length + missing.length === 0 && <span className="soft">None are known.</span>}
      </div>
    </Card>
  )
}

/** Where the provider says in its answers how much of its limit is used, as Salesforce does. */
function UsageCard({ base, named }: { base: string; named: string }) {
  const asked = useQuery({
    queryKey: ['usage', base, named],
    queryFn: () => ask<Usage>(`${base}/usage${named}`),
    refetchInterval: 15_000,
  })
  if (!asked.data?.is_told) return null
  const { usage, reserve_percent } = asked.data
  return (
    <Card title="Calls of the day" note="The account's limit at the provider; every program that calls it shares it.">
      {usage ? (
        <div className="stack tight">
          <p>
            <strong>{count(usage.used)}</strong> of {count(usage.limit)} used ({percent(usage.used, usage.limit)})
          </p>
          <Meter used={usage.used} limit={usage.limit} reservePercent={reserve_percent ?? 0} />
          <p className="small soft">
            Beyond the line, {reserve_percent} % are kept for calls that cannot wait. As of <Time at={usage.at} />.
          </p>
        </div>
      ) : (
        <p className="soft">Not known: no call of the last hour went through this server.</p>
      )}
    </Card>
  )
}

function Facts({ values }: { values: Record<string, unknown> }) {
  const entries = Object.entries(values)
  if (entries.length === 0) return <p className="soft">Nothing.</p>
  return (
    <dl className="facts">
      {entries.map(([name, value]) => (
        <Fact key={name} name={name} value={value} />
      ))}
    </dl>
  )
}

function Fact({ name, value }: { name: string; value: unknown }) {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return (
    <>
      <dt>{name}</dt>
      <dd>
        <Id value={text} full />
      </dd>
    </>
  )
}
