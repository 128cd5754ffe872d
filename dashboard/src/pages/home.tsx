import type { ActivityView } from '@fairlead/contract'
import { useQuery } from '@tanstack/react-query'
import { ask, currentEnvironment, enc } from '../api.ts'
import { CallsChart, LatencyChart, RenewalsChart, Sparkline } from '../charts.tsx'
import { count, ms, percent } from '../format.ts'
import { Card, CopyField, Empty, Fault, Link, Loaded, Page, Skeleton, State, Time } from '../parts.tsx'
import { lastDay, useIntegrations, useOverview, useSummary } from '../queries.ts'
import { navigate, withQuery } from '../route.ts'

export function HomePage({ canChange }: { canChange: boolean }) {
  const overview = useOverview()
  const day = useSummary(lastDay)
  const integrations = useIntegrations()
  const states = overview.data?.states
  const total = states ? Object.values(states).reduce((sum, n) => sum + (n ?? 0), 0) : 0
  const healthy = states ? (states.active ?? 0) : 0
  const failed = overview.error ?? day.error ?? integrations.error
  const isNew = integrations.data && overview.data && day.data && (total === 0 || day.data.calls === 0)
  return (
    <Page title="Home" lead={`How ${currentEnvironment()} is doing, over the last 24 hours.`}>
      {failed && (
        <Fault
          error={failed}
          retry={() => void Promise.all([overview.refetch(), day.refetch(), integrations.refetch()])}
        />
      )}
      {isNew && (
        <FirstSteps
          integrations={integrations.data.length}
          first={integrations.data[0]?.unique_key}
          connections={total}
          canChange={canChange}
        />
      )}
      <div className="grid3">
        <Link to="/connections" className="card figure">
          <span className="soft">Connections healthy</span>
          {states ? (
            <strong>
              {count(healthy)}
              <small>of {count(total)}</small>
            </strong>
          ) : (
            <Skeleton lines={1} height={36} />
          )}
          <span className="small soft">
            {states
              ? `${count(states.degraded ?? 0)} degraded · ${count((states.needs_reauth ?? 0) + (states.blocked_by_policy ?? 0))} need somebody · ${count(states.paused ?? 0)} paused`
              : ' '}
          </span>
          {states && total > 0 && (
            <span className="shares" aria-hidden="true">
              {(
                [
                  ['healthy', healthy],
                  ['degraded', states.degraded ?? 0],
                  ['attention', (states.needs_reauth ?? 0) + (states.blocked_by_policy ?? 0)],
                  ['paused', states.paused ?? 0],
                ] as const
              ).map(([look, n]) => n > 0 && <span key={look} className={look} style={{ flex: n }} />)}
            </span>
          )}
        </Link>
        <Link to="/activity" className="card figure">
          <span className="soft">Calls</span>
          {day.data ? (
            <>
              <strong>
                {count(day.data.calls)}
                <small>{percent(day.data.errors, day.data.calls)} failed</small>
              </strong>
              <span className="small soft">
                p50 {ms(day.data.p50_ms)} · p95 {ms(day.data.p95_ms)} · p99 {ms(day.data.p99_ms)}
              </span>
              <Sparkline
                values={day.data.buckets.map(one => one.calls)}
                bad={day.data.buckets.map(one => one.errors)}
                label="Calls of the last 24 hours; the dashed line is failures"
              />
            </>
          ) : (
            <Skeleton lines={2} height={36} />
          )}
        </Link>
        <Link to="/connections?state=degraded" className="card figure">
          <span className="soft">Tokens renewed</span>
          {overview.data ? (
            <>
              <strong>
                {count(overview.data.renewed_today)}
                <small>
                  {overview.data.failing === 0 ? 'none failing' : `${count(overview.data.failing)} failing`}
                </small>
              </strong>
              <span className="small soft">
                {overview.data.soonest ? (
                  <>
                    next at risk <Time at={overview.data.soonest.expires_at} />
                  </>
                ) : (
                  'nothing at risk'
                )}
              </span>
              <Sparkline
                values={overview.data.renewals.map(one => one.renewed)}
                bad={overview.data.renewals.map(one => one.refused + one.unavailable)}
                label="Renewals of the last 24 hours; the dashed line is those that were refused or in doubt"
              />
            </>
          ) : (
            <Skeleton lines={2} height={36} />
          )}
        </Link>
      </div>
      <Card title="What needs you" plain>
        <Loaded query={overview}>
          {({ attention }) => {
            // Those only a person can help come first.
            const waits = (name: string) => (name === 'degraded' ? 1 : 0)
            const needing = attention
              .filter(one => one.state.name !== 'paused')
              .sort((a, b) => waits(a.state.name) - waits(b.state.name))
            return needing.length === 0 ? (
              <Empty title="Nothing needs you">
                <p>Every connection works, or repairs itself.</p>
              </Empty>
            ) : (
              <ul className="list">
                {needing.slice(0, 8).map(one => (
                  <li key={one.id}>
                    <Link
                      className="item wraps"
                      to={`/connections/${enc(one.provider_config_key)}/${enc(one.connection_id)}`}
                    >
                      <span className="statecell">
                        <State name={one.state.name} />
                      </span>
                      <span className="grow">
                        <strong>{one.end_user?.display_name ?? one.end_user?.email ?? one.connection_id}</strong>{' '}
                        <span className="soft">on {one.provider_config_key}</span>
                        <br />
                        <span className="small soft">{one.state.message}</span>
                      </span>
                      <span className="small soft">
                        <Time at={one.state.since} />
                      </span>
                    </Link>
                  </li>
                ))}
              </ul>
            )
          }}
        </Loaded>
      </Card>
      {day.data && day.data.calls > 0 && (
        <div className="grid2">
          <Card title="Calls and errors" note="per half hour; drag over a time to see its calls" plain>
            <CallsChart
              summary={day.data}
              onBrush={(from, to) =>
                navigate(withQuery('/activity', { since: from.toISOString(), until: to.toISOString() }))
              }
            />
          </Card>
          <Card title="Latency" note="from a call's arrival to the end of its answer" plain>
            <LatencyChart summary={day.data} />
          </Card>
          {overview.data && (
            <Card title="Renewals of tokens" note="what came of each attempt, per hour" plain>
              <RenewalsChart renewals={overview.data.renewals} />
            </Card>
          )}
        </div>
      )}
    </Page>
  )
}

/** Four steps that tick themselves off. */
function FirstSteps({
  integrations,
  first,
  connections,
  canChange,
}: {
  integrations: number
  first: string | undefined
  connections: number
  canChange: boolean
}) {
  const calls = useQuery({
    queryKey: ['activity', 'any'],
    queryFn: () => ask<{ activity: ActivityView[] }>('/activity?limit=1'),
    refetchInterval: 3_000,
  })
  const called = (calls.data?.activity.length ?? 0) > 0
  return (
    <Card title="First steps" note="They tick themselves off.">
      <ol className="steps">
        <li data-done="true">
          <h3>Set up this server</h3>
          <p className="soft">Done: you are in.</p>
        </li>
        <li data-done={integrations > 0}>
          <h3>Add an integration</h3>
          <p className="soft">The OAuth app your customers will consent to. A guide stands beside the form.</p>
          {integrations === 0 && canChange && (
            <div className="row wrap">
              <Link to="/integrations?new=1" className="button primary">
                Add an integration
              </Link>
            </div>
          )}
          {integrations === 0 && (
            <details className="small">
              <summary>No Salesforce at hand? A simulated one behaves like it</summary>
              <CopyField label="Starts the simulator and connects a sandbox on it" value="npm run demo" />
            </details>
          )}
        </li>
        <li data-done={connections > 0}>
          <h3>Connect an account</h3>
          <p className="soft">Sign in as one of your customers would. A sandbox is best for the first one.</p>
          {integrations > 0 && connections === 0 && canChange && (
            <div>
              <Link to={`/integrations/${enc(first ?? '')}`} className="button primary">
                Connect an account
              </Link>
            </div>
          )}
        </li>
        <li data-done={called}>
          <h3>Make a call</h3>
          <p className="soft">Through the proxy, with a fresh token put in on the way.</p>
          {connections > 0 && !called && canChange && (
            <div>
              <Link to="/playground" className="button primary">
                Open the playground
              </Link>
            </div>
          )}
        </li>
      </ol>
    </Card>
  )
}
