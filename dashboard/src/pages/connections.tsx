import { Menu } from '@base-ui/react/menu'
import type { ListedConnection, StateName } from '@fairlead/contract'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'
import { ask, enc } from '../api.ts'
import { count, short } from '../format.ts'
import { Card, Empty, Fault, Link, Loaded, Page, State, Sure, say, Time } from '../parts.tsx'
import { useConnections, useIntegrations } from '../queries.ts'
import { navigate, setQuery, useRoute } from '../route.ts'
import { Rows } from '../rows.tsx'
import { ConnectButton } from './integration.tsx'

const stateNames: [StateName, string][] = [
  ['active', 'Active'],
  ['degraded', 'Degraded'],
  ['needs_reauth', 'Needs sign-in'],
  ['blocked_by_policy', 'Blocked'],
  ['paused', 'Paused'],
]

const pathOf = (one: ListedConnection) => `/connections/${enc(one.provider_config_key)}/${enc(one.connection_id)}`

export function ConnectionsPage({ canChange }: { canChange: boolean }) {
  const { query } = useRoute()
  const [search, state, integration] = ['search', 'state', 'integration'].map(name => query.get(name) ?? undefined)
  const connections = useConnections({ search, state, integrationId: integration })
  const integrations = useIntegrations()
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set())
  const filtered = search || state || integration
  const toggle = (id: number) => {
    const now = new Set(chosen)
    if (!now.delete(id)) now.add(id)
    setChosen(now)
  }
  const picked = connections.data?.filter(one => chosen.has(one.id)) ?? []
  return (
    <Page
      title="Connections"
      lead="One per end user's account and integration."
      actions={
        canChange &&
        integrations.data?.[0] && <ConnectButton integration={integration ?? integrations.data[0].unique_key} />
      }
    >
      <div className="filters">
        <input
          type="search"
          className="search"
          aria-label="Search connections"
          placeholder="End user, e-mail or id"
          defaultValue={search}
          onChange={event => setQuery({ search: event.target.value })}
        />
        <select
          aria-label="Integration"
          value={integration ?? ''}
          onChange={event => setQuery({ integration: event.target.value })}
        >
          <option value="">Every integration</option>
          {integrations.data?.map(one => (
            <option key={one.unique_key} value={one.unique_key}>
              {one.display_name}
            </option>
          ))}
        </select>
        {stateNames.map(([name, word]) => (
          <button
            key={name}
            type="button"
            className="chip"
            aria-pressed={state === name}
            onClick={() => setQuery({ state: state === name ? undefined : name })}
          >
            {word}
          </button>
        ))}
        <span className="small soft end">
          {connections.data && `${count(connections.data.length)}${connections.isMore ? ' and more below' : ''}`}
        </span>
      </div>
      {picked.length > 0 && <Bulk picked={picked} clear={() => setChosen(new Set())} />}
      <Card plain>
        <Loaded query={connections} lines={10}>
          {list =>
            list.length === 0 ? (
              filtered ? (
                <Empty title="No connection matches">
                  <p>Every filter must hold at once.</p>
                  <button type="button" className="button" onClick={() => navigate('/connections', { replace: true })}>
                    Clear the filters
                  </button>
                </Empty>
              ) : (
                <Empty title="No connection yet">
                  <p>
                    Your backend creates a connect session with POST /connect/sessions and sends its end user to the
                    link.
                  </p>
                </Empty>
              )
            ) : (
              <>
                <div className="linehead connections">
                  <span>
                    <span className="hidden">Choose</span>
                  </span>
                  <span>State</span>
                  <span>End user</span>
                  <span>Connection</span>
                  <span>Integration</span>
                  <span>Connected</span>
                </div>
                <Rows
                  items={list}
                  kind="connections"
                  height={40}
                  keyOf={one => one.id}
                  open={one => navigate(pathOf(one))}
                  label="Connections"
                  onEnd={connections.more}
                >
                  {one => (
                    <>
                      <input
                        type="checkbox"
                        aria-label={`Choose ${one.connection_id}`}
                        checked={chosen.has(one.id)}
                        disabled={!canChange}
                        onClick={event => event.stopPropagation()}
                        onChange={() => toggle(one.id)}
                      />
                      <State name={one.state.name} />
                      <Link to={pathOf(one)}>
                        {one.end_user?.display_name ?? one.end_user?.email ?? one.end_user?.id ?? '–'}
                        {one.end_user?.organization?.display_name && (
                          <span className="soft"> · {one.end_user.organization.display_name}</span>
                        )}
                      </Link>
                      <code className="soft">{short(one.connection_id)}</code>
                      <span className="soft">{one.provider_config_key}</span>
                      <span className="soft">
                        <Time at={one.created} />
                      </span>
                    </>
                  )}
                </Rows>
              </>
            )
          }
        </Loaded>
      </Card>
    </Page>
  )
}

const work = {
  refresh: { word: 'Renew tokens', method: 'POST', suffix: '/refresh' },
  pause: { word: 'Pause', method: 'POST', suffix: '/pause' },
  resume: { word: 'Resume', method: 'POST', suffix: '/resume' },
  delete: { word: 'Delete', method: 'DELETE', suffix: '' },
} as const

function Bulk({ picked, clear }: { picked: ListedConnection[]; clear: () => void }) {
  const queries = useQueryClient()
  const [done, setDone] = useState(0)
  const [deleting, setDeleting] = useState(false)
  const run = useMutation({
    mutationFn: async (what: keyof typeof work) => {
      const { method, suffix, word } = work[what]
      setDone(0)
      let failed = 0
      // Four at a time: a thousand at once would be a thousand requests to one provider.
      const left = [...picked]
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          for (let one = left.pop(); one; one = left.pop()) {
            await ask(
              `/connections/${enc(one.connection_id)}${suffix}?provider_config_key=${enc(one.provider_config_key)}`,
              { method },
            ).catch(() => failed++)
            setDone(n => n + 1)
          }
        }),
      )
      await queries.invalidateQueries()
      if (failed > 0)
        throw new Error(
          `${word}: ${failed} of ${picked.length} failed. They are still chosen by their state; open one to see why.`,
        )
      say(`${word}: ${picked.length} done`)
      clear()
    },
  })
  return (
    <div className="notice">
      <strong>{count(picked.length)} chosen</strong>
      {run.isPending ? (
        <progress max={picked.length} value={done} aria-label="Done" />
      ) : (
        <span className="row wrap grow">
          <button type="button" className="button tiny" onClick={() => run.mutate('refresh')}>
            Renew tokens
          </button>
          <Menu.Root>
            <Menu.Trigger className="button tiny">More…</Menu.Trigger>
            <Menu.Portal>
              <Menu.Positioner sideOffset={6}>
                <Menu.Popup className="menu">
                  <Menu.Item onClick={() => run.mutate('pause')}>Pause</Menu.Item>
                  <Menu.Item onClick={() => run.mutate('resume')}>Resume</Menu.Item>
                  <Menu.Item className="danger" onClick={() => setDeleting(true)}>
                    Delete…
                  </Menu.Item>
                </Menu.Popup>
              </Menu.Positioner>
            </Menu.Portal>
          </Menu.Root>
          <button type="button" className="button tiny plain end" onClick={clear}>
            Choose none
          </button>
        </span>
      )}
      {run.error && <Fault error={run.error} />}
      <Sure
        title={`Delete ${count(picked.length)} connections?`}
        text="Their tokens are revoked at the provider. Their owners have to sign in anew to be connected again."
        verb="Delete them"
        open={deleting}
        onClose={() => setDeleting(false)}
        act={() => run.mutateAsync('delete')}
      />
    </div>
  )
}
