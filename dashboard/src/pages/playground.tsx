import type { Guide } from '@fairlead/contract'
import { useMutation, useQuery } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask, currentEnvironment, enc } from '../api.ts'
import { bytes, ms } from '../format.ts'
import { Card, copyText, Empty, Fault, Field, Link, Page } from '../parts.tsx'
import { useFewConnections, useIntegrations } from '../queries.ts'
import { setQuery, useRoute } from '../route.ts'

interface Answered {
  status: number
  statusText: string
  headers: [string, string][]
  text: string
  size: number
  took: number
  /** The code when it is ours, not the provider's. */
  own: string | null
}

const shownAtMost = 200_000

export function PlaygroundPage({ canChange }: { canChange: boolean }) {
  const { query } = useRoute()
  const integrations = useIntegrations()
  const integration = query.get('integration') ?? integrations.data?.[0]?.unique_key ?? ''
  const provider = integrations.data?.find(one => one.unique_key === integration)?.provider
  const connections = useFewConnections({ integrationId: integration }, 100, integration !== '')
  const connection = query.get('connection') ?? connections.data?.[0]?.connection_id ?? ''
  const guide = useQuery({
    queryKey: ['guide', provider],
    queryFn: async () =>
      (await ask<{ data: Guide & { example?: string } }>(`/providers/${enc(provider ?? '')}/guide`)).data,
    enabled: !!provider,
    retry: false,
  })
  const example = provider?.startsWith('salesforce')
    ? '/services/data/v66.0/query?q=SELECT+Name,+Industry+FROM+Account+LIMIT+5'
    : '/'
  const [method, setMethod] = useState('GET')
  const [typed, setPath] = useState<string>()
  const path = typed ?? query.get('path') ?? guide.data?.example ?? example
  const [headers, setHeaders] = useState('')
  const [body, setBody] = useState('')
  const send = useMutation({
    mutationFn: async (): Promise<Answered> => {
      const from = performance.now()
      const answer = await fetch(`/proxy/${path.replace(/^\//, '')}`, {
        method,
        headers: {
          'Fairlead-Environment': currentEnvironment(),
          'Provider-Config-Key': integration,
          'Connection-Id': connection,
          ...(body && method !== 'GET' && { 'Content-Type': 'application/json' }),
          ...Object.fromEntries(
            headers
              .split('\n')
              .map(line => /^([^:\s]+):\s*(.*)$/.exec(line.trim()))
              .flatMap(match => (match ? [[match[1]!, match[2]!]] : [])),
          ),
        },
        ...(body && method !== 'GET' && { body }),
      })
      const text = await answer.text()
      return {
        status: answer.status,
        statusText: answer.statusText,
        headers: [...answer.headers],
        text: pretty(text, answer.headers.get('content-type')).slice(0, shownAtMost),
        size: text.length,
        took: performance.now() - from,
        own: answer.headers.get('fairlead-error'),
      }
    },
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    send.mutate()
  }
  const curl = [
    `curl ${method === 'GET' ? '' : `-X ${method} `}'${location.origin}/proxy/${path.replace(/^\//, '')}'`,
    `-H "Authorization: Bearer $FAIRLEAD_API_KEY"`,
    `-H 'Provider-Config-Key: ${integration}'`,
    `-H 'Connection-Id: ${connection}'`,
    ...(body && method !== 'GET'
      ? [`-H 'Content-Type: application/json'`, `-d '${body.replaceAll("'", "'\\''")}'`]
      : []),
  ].join(' \\\n  ')
  const answered = send.data
  const failed = integrations.error ?? connections.error
  if (!canChange)
    return (
      <Page title="Playground">
        <Empty title="Not for viewers">
          <p>A call reads and changes a customer's data, so it takes the role admin or owner.</p>
        </Empty>
      </Page>
    )
  return (
    <Page
      title="Playground"
      lead="One call through the proxy, as your code would make it. The token is put in on the way and never seen here."
    >
      {failed ? (
        <Fault error={failed} retry={() => void Promise.all([integrations.refetch(), connections.refetch()])} />
      ) : integrations.data?.length === 0 || connections.data?.length === 0 ? (
        <Card plain>
          <Empty title="No connection to call">
            <p>Connect an account first.</p>
            <Link className="button primary" to={integration ? `/integrations/${enc(integration)}` : '/integrations'}>
              Go to the integration
            </Link>
          </Empty>
        </Card>
      ) : (
        <div className="grid2">
          <Card title="Request">
            <form className="stack" onSubmit={submit}>
              <div className="row">
                <Field label="Integration">
                  <select
                    value={integration}
                    onChange={event => setQuery({ integration: event.target.value, connection: undefined })}
                  >
                    {integrations.data?.map(one => (
                      <option key={one.unique_key} value={one.unique_key}>
                        {one.display_name}
                      </option>
                    ))}
                  </select>
                </Field>
                <span className="grow">
                  <Field label="Connection">
                    <select value={connection} onChange={event => setQuery({ connection: event.target.value })}>
                      {connections.data &&
                        !connections.data.some(one => one.connection_id === connection) &&
                        connection && <option value={connection}>{connection}</option>}
                      {connections.data?.map(one => (
                        <option key={one.id} value={one.connection_id}>
                          {one.end_user?.display_name ?? one.end_user?.email ?? one.connection_id}
                        </option>
                      ))}
                    </select>
                  </Field>
                </span>
              </div>
              <div className="row">
                <Field label="Method">
                  <select value={method} onChange={event => setMethod(event.target.value)}>
                    {['GET', 'POST', 'PATCH', 'PUT', 'DELETE'].map(one => (
                      <option key={one}>{one}</option>
                    ))}
                  </select>
                </Field>
                <span className="grow">
                  <Field label="Path and query">
                    <input
                      className="mono"
                      value={path}
                      spellCheck={false}
                      onChange={event => setPath(event.target.value)}
                    />
                  </Field>
                </span>
              </div>
              <details>
                <summary>Headers</summary>
                <textarea
                  aria-label="Headers, one a line"
                  placeholder="Name: value"
                  value={headers}
                  onChange={event => setHeaders(event.target.value)}
                />
              </details>
              {method !== 'GET' && (
                <Field label="Body">
                  <textarea
                    value={body}
                    spellCheck={false}
                    placeholder="{ }"
                    onChange={event => setBody(event.target.value)}
                  />
                </Field>
              )}
              <div className="row wrap">
                <button type="submit" className="button primary" disabled={send.isPending || !connection}>
                  {send.isPending ? 'Sending…' : 'Send'}
                </button>
                <button type="button" className="button" onClick={() => void copyText(curl)}>
                  Copy as curl
                </button>
              </div>
            </form>
          </Card>
          <Card
            title="Answer"
            note={
              answered &&
              `${ms(answered.took)} · ${bytes(answered.size)} · ${answered.own ? 'from Fairlead' : 'from the provider'}`
            }
            actions={
              answered && (
                <strong className={`code ${answered.status >= 400 ? 'bad' : 'good'}`}>
                  {answered.status} {answered.statusText}
                </strong>
              )
            }
          >
            {send.error ? (
              <Fault error={send.error} />
            ) : answered ? (
              <div className="stack">
                <pre>{answered.text || '(empty)'}</pre>
                <details>
                  <summary>{answered.headers.length} headers</summary>
                  <dl className="facts">
                    {answered.headers.map(([name, value]) => (
                      <div key={name} style={{ display: 'contents' }}>
                        <dt>{name}</dt>
                        <dd className="mono">{value}</dd>
                      </div>
                    ))}
                  </dl>
                </details>
              </div>
            ) : (
              <Empty title="Nothing sent yet">
                <p>The answer appears here, and the call in Activity.</p>
              </Empty>
            )}
          </Card>
        </div>
      )}
    </Page>
  )
}

function pretty(text: string, type: string | null): string {
  if (!type?.includes('json')) return text
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
