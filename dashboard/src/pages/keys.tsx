import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask, currentEnvironment, post } from '../api.ts'
import { Card, CopyField, Empty, Fault, Field, Loaded, Modal, Page, Sure, say, Time } from '../parts.tsx'

interface ApiKey {
  id: number
  display_name: string
  scopes: string[]
  created_at: string
  expires_at: string | null
  last_used_at: string | null
}

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
    queryFn: async () => (await ask<{ data: ApiKey[] }>('/environment/api-keys')).data,
  })
  const [making, setMaking] = useState<{ name: string; scopes: string[]; replaces?: ApiKey }>()
  const [ending, setEnding] = useState<ApiKey>()
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
              <div className="scroll">
                <table>
                  <thead>
                    <tr>
                      <th>Name</th>
                      <th>May</th>
                      <th>Made</th>
                      <th>Last used</th>
                      <th>Ends</th>
                      <th>
                        <span className="hidden">Do</span>
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {list.map(one => (
                      <tr key={one.id}>
                        <td>
                          <strong>{one.display_name}</strong>
                        </td>
                        <td>
                          <Held scopes={one.scopes} />
                        </td>
                        <td>
                          <Time at={one.created_at} />
                        </td>
                        <td>
                          <Time at={one.last_used_at} none="never" />
                        </td>
                        <td>
                          <Time at={one.expires_at} none="never" />
                        </td>
                        <td>
                          {canChange && (
                            <span className="row">
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
              </div>
            )
          }
        </Loaded>
      </Card>
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
  replaces?: ApiKey
  onClose: () => void
}) {
  const queries = useQueryClient()
  const [chosen, setChosen] = useState<string[]>(scopes)
  const [secret, setSecret] = useState<string>()
  const make = useMutation({
    mutationFn: (display_name: string) =>
      post<{ data: { secret: string } }>('/environment/api-keys', { display_name, scopes: chosen }),
    onSuccess: ({ data }) => {
      setSecret(data.secret)
      void queries.invalidateQueries({ queryKey: ['keys'] })
    },
  })
  const isWhole = chosen.includes(whole)
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    make.mutate(String(new FormData(event.currentTarget).get('name')))
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
          {make.error && <Fault error={make.error} />}
          <button type="submit" className="button primary big" disabled={make.isPending || chosen.length === 0}>
            Make the key
          </button>
        </form>
      )}
    </Modal>
  )
}
