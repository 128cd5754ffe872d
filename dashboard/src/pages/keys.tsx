import type { ApiKeyView } from '@fairlead/contract'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask, currentEnvironment, post } from '../api.ts'
import { count } from '../format.ts'
import { Card, CopyField, Empty, Fault, Field, Loaded, Modal, Page, Sure, say, Time } from '../parts.tsx'
import { useChangeSettings, useSettings } from '../queries.ts'

/** Rooms down, what may be done in them across. */
const matrix: [room: string, scopes: Record<string, string>][] = [
  [
    'Integrations',
    {
      See: 'integrations:list,integrations:read',
      Change: 'integrations:create,integrations:update,integrations:delete',
      'Read secrets': 'integrations:read_credentials,integrations:list_credentials',
    },
  ],
  [
    'Connections',
    {
      See: 'connections:list,connections:read',
      Change: 'connections:create,connections:update,connections:delete',
      'Read secrets': 'connections:read_credentials,connections:list_credentials',
    },
  ],
  ['Connect sessions', { Change: 'connect_sessions:write' }],
  ['Proxy', { Change: 'proxy' }],
  ['Activity', { See: 'activity:read' }],
  ['Webhooks', { See: 'webhooks:read', Change: 'webhooks:write,webhook_addresses:write' }],
  ['Settings', { See: 'settings:read', Change: 'settings:update' }],
  ['API keys', { See: 'api_keys:read', Change: 'api_keys:write' }],
]
const columns = ['See', 'Change', 'Read secrets'] as const
const whole = 'environment:*'
const scopesOf = (text: string) => text.split(',').map(scope => `environment:${scope}`)
const holds = (held: string[], scope: string) =>
  held.some(one => one === scope || (one.endsWith(':*') && scope.startsWith(one.slice(0, -1))))

export function KeysPage({ canChange }: { canChange: boolean }) {
  const queries = useQueryClient()
  const keys = useQuery({
    queryKey: ['keys'],
    queryFn: async () => (await ask<{ data: ApiKeyView[] }>('/environment/api-keys')).data,
  })
  const [making, setMaking] = useState<{ name: string; scopes: string[]; replaces?: ApiKeyView }>()
  const [ending, setEnding] = useState<ApiKeyView>()
  const [limiting, setLimiting] = useState<ApiKeyView>()
  return (
    <Page
      title="API keys"
      lead={`What your backend calls ${currentEnvironment()} with. A key is shown once, when it is made.`}
      actions={
        canChange && (
          <button type="button" className="button primary" onClick={() => setMaking({ name: '', scopes: [whole] })}>
            New key
          </button>
        )
      }
    >
      <Card plain>
        <Loaded query={keys}>
          {list =>
            list.length === 0 ? (
              <Empty title="No key" />
            ) : (
              <table className="cards">
                <thead>
                  <tr>
                    <th>Name</th>
                    <th>May</th>
                    <th>Made</th>
                    <th>Last used</th>
                    <th>Ends</th>
                    <th>A minute</th>
                    <th>
                      <span className="hidden">Do</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {list.map(one => (
                    <tr key={one.id}>
                      <td className="wide">
                        <strong>{one.display_name}</strong>
                      </td>
                      <td className="wide">
                        <Held scopes={one.scopes} />
                      </td>
                      <td data-label="Made">
                        <Time at={one.created_at} />
                      </td>
                      <td data-label="Last used">
                        <Time at={one.last_used_at} none="never" />
                      </td>
                      <td data-label="Ends">
                        <Time at={one.expires_at} none="never" />
                      </td>
                      <td data-label="A minute">
                        <PerMinute limit={one.requests_per_minute} />
                      </td>
                      <td className="wide">
                        {canChange && (
                          <span className="row">
                            <button type="button" className="button tiny" onClick={() => setLimiting(one)}>
                              Limit
                            </button>
                            <button
                              type="button"
                              className="button tiny"
                              onClick={() =>
                                setMaking({ name: `${one.display_name} (new)`, scopes: one.scopes, replaces: one })
                              }
                            >
                              Rotate
                            </button>
                            <button type="button" className="button tiny danger" onClick={() => setEnding(one)}>
                              End
                            </button>
                          </span>
                        )}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )
          }
        </Loaded>
      </Card>
      <Together canChange={canChange} />
      {limiting && (
        <Modal title={`Limit “${limiting.display_name}”`} open onClose={() => setLimiting(undefined)}>
          <LimitForm
            limit={limiting.requests_per_minute}
            save={async requests_per_minute => {
              await ask('/environment/api-keys', {
                method: 'PATCH',
                body: { key_id: limiting.id, requests_per_minute },
              })
              await queries.invalidateQueries({ queryKey: ['keys'] })
              setLimiting(undefined)
              say('Saved')
            }}
          />
        </Modal>
      )}
      {making && <NewKey {...making} onClose={() => setMaking(undefined)} />}
      <Sure
        title={`End the key “${ending?.display_name}”?`}
        text="Whatever calls with it is refused within a second, on every server."
        verb="End the key"
        open={ending !== undefined}
        onClose={() => setEnding(undefined)}
        act={async () => {
          await ask('/environment/api-keys', { method: 'DELETE', body: { key_id: ending?.id } })
          await queries.invalidateQueries({ queryKey: ['keys'] })
          say('Ended')
        }}
      />
    </Page>
  )
}

const PerMinute = ({ limit }: { limit: number | null }) =>
  limit === null ? <span className="soft">no limit</span> : <>{count(limit)} requests</>

/** Of all keys of the environment. */
function Together({ canChange }: { canChange: boolean }) {
  const settings = useSettings()
  const change = useChangeSettings()
  const [open, setOpen] = useState(false)
  return (
    <Card
      title="All keys together"
      note="Beyond a limit a request is answered 429, with when to try again. Every answer says how much is left."
      actions={
        canChange && (
          <button type="button" className="button tiny" onClick={() => setOpen(true)}>
            Change
          </button>
        )
      }
    >
      <Loaded query={settings} lines={1}>
        {({ requests_per_minute: limit }) => (
          <>
            <p>{limit === null ? 'As many requests as they like.' : `At most ${count(limit)} requests a minute.`}</p>
            {open && (
              <Modal title="Limit all keys together" open onClose={() => setOpen(false)}>
                <LimitForm
                  limit={limit}
                  save={async requests_per_minute => {
                    await change.mutateAsync({ requests_per_minute })
                    setOpen(false)
                  }}
                />
              </Modal>
            )}
          </>
        )}
      </Loaded>
    </Card>
  )
}

function LimitForm({ limit, save }: { limit: number | null; save: (limit: number | null) => Promise<void> }) {
  const saving = useMutation({ mutationFn: save })
  return (
    <form
      className="stack"
      onSubmit={event => {
        event.preventDefault()
        const given = new FormData(event.currentTarget).get('limit')
        saving.mutate(given ? Number(given) : null)
      }}
    >
      <Field label="Requests a minute" hint="To all servers together. Empty: as many as it likes.">
        <input name="limit" type="number" min={1} max={10_000_000} step={1} defaultValue={limit ?? ''} />
      </Field>
      {saving.error && <Fault error={saving.error} />}
      <button type="submit" className="button primary big" disabled={saving.isPending}>
        Save
      </button>
    </form>
  )
}

function Held({ scopes }: { scopes: string[] }) {
  if (scopes.includes(whole)) return <span className="tag">everything in this environment</span>
  return (
    <details>
      <summary>
        {matrix
          .filter(([, cells]) => Object.values(cells).some(text => scopesOf(text).some(scope => holds(scopes, scope))))
          .map(([room]) => room)
          .join(', ') || `${scopes.length} scopes`}
      </summary>
      {scopes.map(scope => (
        <span key={scope} className="tag">
          {scope.replace('environment:', '')}
        </span>
      ))}
    </details>
  )
}

function NewKey({
  name,
  scopes,
  replaces,
  onClose,
}: {
  name: string
  scopes: string[]
  replaces?: ApiKeyView
  onClose: () => void
}) {
  const queries = useQueryClient()
  const [chosen, setChosen] = useState<string[]>(scopes)
  const [secret, setSecret] = useState<string>()
  const make = useMutation({
    mutationFn: (body: { display_name: string; requests_per_minute?: number; expires_at?: string }) =>
      post<{ data: { secret: string } }>('/environment/api-keys', { ...body, scopes: chosen }),
    onSuccess: ({ data }) => {
      setSecret(data.secret)
      void queries.invalidateQueries({ queryKey: ['keys'] })
    },
  })
  const isWhole = chosen.includes(whole)
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const given = new FormData(event.currentTarget)
    const [limit, ends] = [given.get('limit'), given.get('ends')]
    make.mutate({
      display_name: String(given.get('name')),
      ...(limit && { requests_per_minute: Number(limit) }),
      ...(ends && { expires_at: new Date(`${ends}T23:59:59`).toISOString() }),
    })
  }
  const toggle = (cell: string[]) =>
    setChosen(had =>
      cell.every(scope => had.includes(scope))
        ? had.filter(scope => !cell.includes(scope))
        : [...new Set([...had, ...cell])],
    )
  return (
    <Modal
      title={secret ? 'Your new key' : replaces ? `Rotate “${replaces.display_name}”` : 'New API key'}
      open
      onClose={onClose}
    >
      {secret ? (
        <>
          <CopyField label="Shown now and never again" value={secret} />
          {replaces && (
            <p className="soft">
              Both keys work. Put the new one into your backend, watch “last used” of the old one stand still, then end
              it.
            </p>
          )}
          <div className="row">
            <button type="button" className="button primary end" onClick={onClose}>
              I have put it away
            </button>
          </div>
        </>
      ) : (
        <form className="stack" onSubmit={submit}>
          <Field label="Name" hint="Who uses it, e.g. “billing service”.">
            <input name="name" defaultValue={name} required maxLength={255} />
          </Field>
          <label className="check">
            <input
              type="checkbox"
              checked={isWhole}
              onChange={event => setChosen(event.target.checked ? [whole] : [])}
            />
            <span>Everything in this environment</span>
          </label>
          {!isWhole && (
            <table>
              <thead>
                <tr>
                  <th>May</th>
                  {columns.map(column => (
                    <th key={column}>{column}</th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {matrix.map(([room, cells]) => (
                  <tr key={room}>
                    <td>{room}</td>
                    {columns.map(column => {
                      const cell = cells[column] ? scopesOf(cells[column]) : undefined
                      return (
                        <td key={column}>
                          {cell && (
                            <input
                              type="checkbox"
                              aria-label={`${room}: ${column}`}
                              checked={cell.every(scope => chosen.includes(scope))}
                              onChange={() => toggle(cell)}
                            />
                          )}
                        </td>
                      )
                    })}
                  </tr>
                ))}
              </tbody>
            </table>
          )}
          <div className="grid2">
            <Field label="Requests a minute" hint="Empty: as many as it likes.">
              <input
                name="limit"
                type="number"
                min={1}
                max={10_000_000}
                defaultValue={replaces?.requests_per_minute ?? ''}
              />
            </Field>
            <Field label="Last day" hint="Empty: until you end it.">
              <input name="ends" type="date" min={new Date().toISOString().slice(0, 10)} />
            </Field>
          </div>
          {make.error && <Fault error={make.error} />}
          <button type="submit" className="button primary big" disabled={make.isPending || chosen.length === 0}>
            Make the key
          </button>
        </form>
      )}
    </Modal>
  )
}
