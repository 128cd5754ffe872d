import type { IntegrationView } from '@fairlead/contract'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask, enc, post } from '../api.ts'
import { count } from '../format.ts'
import { clientIdHint, GuideCard } from '../new-integration.tsx'
import { Card, CopyField, Empty, Fault, Field, Id, Link, Loaded, Page, State, Sure, say, Time } from '../parts.tsx'
import { useFewConnections } from '../queries.ts'
import { navigate } from '../route.ts'

interface Credentials {
  client_id: string | null
  client_secret: string | null
  scopes: string | null
}

export function IntegrationPage({ id, canChange }: { id: string; canChange: boolean }) {
  const path = `/integrations/${enc(id)}`
  const queries = useQueryClient()
  const integration = useQuery({
    queryKey: ['integration', id],
    queryFn: async () => (await ask<{ data: IntegrationView }>(path)).data,
  })
  const connections = useFewConnections({ integrationId: id }, 5, true)
  const [secrets, setSecrets] = useState<Credentials>()
  const [removing, setRemoving] = useState(false)
  const reveal = useMutation({
    mutationFn: async () =>
      (await ask<{ data: { credentials: Credentials } }>(`${path}?include=credentials`)).data.credentials,
    onSuccess: setSecrets,
  })
  return (
    <Page
      title={integration.data?.display_name ?? id}
      lead={<code>{id}</code>}
      actions={
        canChange && (
          <>
            <ConnectButton integration={id} />
            <button type="button" className="button danger" onClick={() => setRemoving(true)}>
              Delete
            </button>
          </>
        )
      }
    >
      <Loaded query={integration}>
        {data => (
          <div className="aside left">
            <div className="stack">
              <Card
                title="Connections"
                plain
                actions={
                  <Link to={`/connections?integration=${enc(id)}`} className="button tiny">
                    See all
                  </Link>
                }
              >
                <Loaded query={connections}>
                  {list =>
                    list.length === 0 ? (
                      <Empty title="Nobody has connected yet">
                        <p>Your backend opens a connect session for an end user. To try it, sign in yourself.</p>
                        {canChange && <ConnectButton integration={id} />}
                      </Empty>
                    ) : (
                      <ul className="list">
                        {list.map(one => (
                          <li key={one.id}>
                            <Link className="item wraps" to={`/connections/${enc(id)}/${enc(one.connection_id)}`}>
                              <span className="statecell">
                                <State name={one.state.name} />
                              </span>
                              <span className="grow">
                                {one.end_user?.display_name ?? one.end_user?.email ?? one.connection_id}
                              </span>
                              <span className="small soft">
                                <Time at={one.created} />
                              </span>
                            </Link>
                          </li>
                        ))}
                      </ul>
                    )
                  }
                </Loaded>
              </Card>
              <Card
                title="OAuth app"
                note="The client secret is sealed; it is shown to somebody who confirms, and each look is written into the audit trail."
                actions={
                  canChange && (
                    <button
                      type="button"
                      className="button tiny"
                      onClick={() => (secrets ? setSecrets(undefined) : reveal.mutate())}
                    >
                      {secrets ? 'Hide' : 'Show client id and secret'}
                    </button>
                  )
                }
              >
                <div className="stack">
                  {reveal.error && <Fault error={reveal.error} />}
                  {secrets && (
                    <dl className="facts">
                      <dt>Client id</dt>
                      <dd>{secrets.client_id ? <Id value={secrets.client_id} full /> : '–'}</dd>
                      <dt>Client secret</dt>
                      <dd>{secrets.client_secret ? <Id value={secrets.client_secret} full /> : '–'}</dd>
                      <dt>Scopes</dt>
                      <dd>{secrets.scopes ?? 'the provider’s default'}</dd>
                    </dl>
                  )}
                  {canChange && <Replace path={path} salesforce={data.provider.startsWith('salesforce')} />}
                </div>
              </Card>
              <Card title="How it behaves">
                <div className="stack">
                  <Toggle
                    path={path}
                    name="forward_webhooks"
                    on={data.forward_webhooks}
                    disabled={!canChange}
                    label="Forward the provider's webhooks"
                    text="to the webhook URLs of this environment."
                  />
                  <Toggle
                    path={path}
                    name="capture_bodies"
                    on={data.capture_bodies}
                    disabled={!canChange}
                    label="Keep bodies for a day"
                    text="Up to 8 KB of both bodies of each call, redacted and sealed, for debugging."
                  />
                  <dl className="facts">
                    <dt>Provider</dt>
                    <dd>{data.provider}</dd>
                    <dt>Base-URL override</dt>
                    <dd>{data.base_url_hosts.length > 0 ? data.base_url_hosts.join(', ') : 'off'}</dd>
                    <dt>Added</dt>
                    <dd>
                      <Time at={data.created_at} />
                    </dd>
                  </dl>
                </div>
              </Card>
            </div>
            <GuideCard provider={data.provider} />
          </div>
        )}
      </Loaded>
      <Sure
        title={`Delete ${id}?`}
        text={`Its ${count(connections.data?.length ?? 0)}${connections.data?.length === 5 ? ' or more' : ''} connections end with it, and their tokens are revoked at the provider. Calls that name it fail from then on.`}
        verb="Delete the integration"
        open={removing}
        onClose={() => setRemoving(false)}
        act={async () => {
          await ask(path, { method: 'DELETE' })
          await queries.invalidateQueries()
          say('Deleted')
          navigate('/integrations')
        }}
      />
    </Page>
  )
}

/** Opens Connect UI as an end user would see it; the tab is opened at once, so that no blocker stops it. */
export function ConnectButton({ integration }: { integration: string }) {
  const [link, setLink] = useState<string>()
  const open = useMutation({
    mutationFn: async () => {
      const tab = window.open('about:blank', '_blank')
      try {
        const { data } = await post<{ data: { connect_link: string } }>('/connect/sessions', {
          end_user: { id: 'dashboard', display_name: 'Connected in the dashboard' },
          allowed_integrations: [integration],
        })
        if (tab) tab.location.href = data.connect_link
        else setLink(data.connect_link)
      } catch (error) {
        tab?.close()
        throw error
      }
    },
  })
  return (
    <>
      <button type="button" className="button primary" disabled={open.isPending} onClick={() => open.mutate()}>
        Connect an account
      </button>
      {link && <CopyField label="Your browser blocked the new tab. The connect link" value={link} />}
      {open.error && <Fault error={open.error} />}
    </>
  )
}

function Toggle({
  path,
  name,
  on,
  label,
  text,
  disabled,
}: {
  path: string
  name: string
  on: boolean
  label: string
  text: string
  disabled: boolean
}) {
  const queries = useQueryClient()
  const change = useMutation({
    mutationFn: (value: boolean) => ask(path, { method: 'PATCH', body: { [name]: value } }),
    onSettled: () => queries.invalidateQueries({ queryKey: ['integration'] }),
  })
  return (
    <>
      <label className="check">
        <input
          type="checkbox"
          checked={change.isPending ? !!change.variables : on}
          disabled={disabled || change.isPending}
          onChange={event => change.mutate(event.target.checked)}
        />
        <span>
          {label}
          <br />
          <span className="small soft">{text}</span>
        </span>
      </label>
      {change.error && <Fault error={change.error} />}
    </>
  )
}

function Replace({ path, salesforce }: { path: string; salesforce: boolean }) {
  const [clientId, setClientId] = useState('')
  const save = useMutation({
    mutationFn: (given: Record<string, string>) =>
      ask(path, {
        method: 'PATCH',
        body: {
          credentials: {
            type: 'OAUTH2',
            client_id: given.client_id,
            client_secret: given.client_secret,
            ...(given.scopes && {
              scopes: given.scopes
                .trim()
                .split(/[\s,]+/)
                .join(','),
            }),
          },
        },
      }),
    onSuccess: () => say('Saved'),
  })
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    save.mutate(Object.fromEntries(new FormData(event.currentTarget)) as Record<string, string>)
  }
  return (
    <details>
      <summary>Replace client id and secret</summary>
      <form className="stack" onSubmit={submit}>
        <Field label="Client id" fault={clientIdHint(clientId, salesforce)}>
          <input
            name="client_id"
            required
            className="mono"
            autoComplete="off"
            value={clientId}
            onChange={event => setClientId(event.target.value)}
          />
        </Field>
        <Field label="Client secret">
          <input name="client_secret" type="password" required autoComplete="off" />
        </Field>
        <Field label="Scopes" hint="Separated by spaces. Empty: as they are.">
          <input name="scopes" className="mono" autoComplete="off" />
        </Field>
        {save.error && <Fault error={save.error} />}
        <div>
          <button type="submit" className="button" disabled={save.isPending}>
            Replace
          </button>
        </div>
      </form>
    </details>
  )
}
