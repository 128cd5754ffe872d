/** The guided screen: the form on the left, and on the right what to do at the provider, with this server's own values to copy. */
import type { Guide, GuideStep, IntegrationView, ProviderView } from '@fairlead/contract'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ApiError, ask, enc, post } from './api.ts'
import { logoOf } from './pages/integrations.tsx'
import { Card, CopyField, Fault, Field, Icon, Link, Loaded, Page, Skeleton } from './parts.tsx'
import { Inline, Prose } from './prose.tsx'
import { useIntegrations, useProviders } from './queries.ts'
import { navigate } from './route.ts'

export const useGuide = (provider: string) =>
  useQuery({
    queryKey: ['guide', provider],
    queryFn: async () => (await ask<{ data: Guide }>(`/providers/${enc(provider)}/guide`)).data,
    staleTime: 300_000,
  })

export function NewIntegration({ provider }: { provider: string }) {
  const providers = useProviders()
  const found = providers.data?.find(one => one.name === provider)
  return (
    <Page
      title={found ? `New ${found.display_name} integration` : 'New integration'}
      lead={
        found && !hasClient(found)
          ? 'What all connections share can be given here; everything else is asked of whoever connects.'
          : 'Make an OAuth app at the provider with the values on the right, then bring its client id and secret here.'
      }
      actions={
        <Link to="/integrations?new=1" className="button">
          Another provider
        </Link>
      }
    >
      <div className="aside left">
        <Loaded query={providers}>
          {() =>
            found ? <Form provider={found} /> : <Fault error={new Error(`There is no provider “${provider}”.`)} />
          }
        </Loaded>
        <GuideCard provider={provider} />
      </div>
    </Page>
  )
}

/** What is likely to be wrong with a client id, before the provider says so; never more than a hint. */
export function clientIdHint(id: string, isSalesforceLike: boolean): string | undefined {
  if (id === '') return undefined
  if (/\s/.test(id)) return 'There is a space in it; was something copied along?'
  if (/^https?:/.test(id)) return 'This is an address, not a client id.'
  if (isSalesforceLike && /^3MVG/.test(id) && id.length < 60)
    return 'Consumer keys that begin with 3MVG have about 85 characters; this one is cut off.'
  if (isSalesforceLike && /^[0-9A-F]{64}$/.test(id))
    return 'This looks like the consumer secret. The consumer key begins with 3MVG.'
  return undefined
}

const isSalesforceLike = (provider: ProviderView): boolean =>
  provider.name.startsWith('salesforce') || (provider as { alias?: string }).alias === 'salesforce'

/** With others each connection brings what opens it, unless the integration holds it for all. */
const hasClient = ({ auth_mode }: ProviderView): boolean => auth_mode === 'OAUTH2' || auth_mode === 'OAUTH1'

interface Shared {
  name: string
  title?: string
  description?: string
  example?: string
  secret?: boolean
  hidden?: boolean
  automated?: boolean
  order?: number
}

/** What the integration may answer once for all of its connections. */
function sharedFields(provider: ProviderView): Shared[] {
  const { credentials, integration_config } = provider as Record<
    string,
    Record<string, Omit<Shared, 'name'>> | undefined
  >
  return Object.entries({ ...credentials, ...integration_config })
    .map(([name, field]) => ({ name, ...field }))
    .filter(({ hidden, automated }) => !hidden && !automated)
    .sort((a, b) => (a.order ?? 0) - (b.order ?? 0))
}

function Form({ provider }: { provider: ProviderView }) {
  const integrations = useIntegrations()
  const queries = useQueryClient()
  const taken = new Set(integrations.data?.map(one => one.unique_key))
  const free = taken.has(provider.name)
    ? `${provider.name}-${[2, 3, 4, 5, 6, 7, 8, 9].find(n => !taken.has(`${provider.name}-${n}`)) ?? 10}`
    : provider.name
  const [clientId, setClientId] = useState('')
  const [error, setError] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  const faultOf = (name: string) =>
    error instanceof ApiError ? error.issues.find(issue => issue.path.includes(name))?.message : undefined
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const given = Object.fromEntries(new FormData(event.currentTarget)) as Record<string, string>
    setBusy(true)
    post<{ data: IntegrationView }>('/integrations', {
      provider: provider.name,
      unique_key: given.unique_key,
      ...(given.display_name && { display_name: given.display_name }),
      ...(hasClient(provider)
        ? {
            credentials: {
              type: provider.auth_mode,
              client_id: given.client_id?.trim(),
              client_secret: given.client_secret?.trim(),
              ...(given.scopes && {
                scopes: given.scopes
                  .trim()
                  .split(/[\s,]+/)
                  .join(','),
              }),
            },
          }
        : {
            integration_config: Object.fromEntries(
              sharedFields(provider).flatMap(({ name }) => (given[name]?.trim() ? [[name, given[name].trim()]] : [])),
            ),
          }),
    })
      .then(({ data }) => {
        void queries.invalidateQueries({ queryKey: ['integrations'] })
        navigate(`/integrations/${enc(data.unique_key)}`)
      }, setError)
      .finally(() => setBusy(false))
  }
  const hint = clientIdHint(clientId, isSalesforceLike(provider))
  const scopes = (provider as { default_scopes?: string[] }).default_scopes
  if (integrations.data === undefined) return <Skeleton />
  return (
    <Card
      title={
        <span className="row">
          <img className="logo" src={logoOf(provider.logo_url)} alt="" />
          {provider.display_name}
        </span>
      }
    >
      <form className="stack" onSubmit={submit}>
        <Field
          label="Integration id"
          hint="Your code names it in every call: provider_config_key."
          fault={faultOf('unique_key') ?? faultOf('uniqueKey')}
        >
          <input name="unique_key" defaultValue={free} required className="mono" />
        </Field>
        <Field label="Name your users see" hint={`Empty: ${provider.display_name}`}>
          <input name="display_name" />
        </Field>
        {hasClient(provider) ? (
          <>
            <Field
              label={isSalesforceLike(provider) ? 'Client id (consumer key)' : 'Client id'}
              fault={hint ?? faultOf('client_id')}
              hint={clientId && !hint ? 'Looks right.' : 'From the app you made at the provider.'}
            >
              <input
                name="client_id"
                required
                className="mono"
                autoComplete="off"
                spellCheck={false}
                value={clientId}
                onChange={event => setClientId(event.target.value)}
              />
            </Field>
            <Field
              label={isSalesforceLike(provider) ? 'Client secret (consumer secret)' : 'Client secret'}
              hint="Sealed when it is stored. Shown again only to somebody who confirms."
              fault={faultOf('client_secret')}
            >
              <input name="client_secret" required type="password" autoComplete="off" spellCheck={false} />
            </Field>
            <Field
              label="Scopes"
              hint={
                scopes
                  ? `Separated by spaces. Empty: ${scopes.join(' ')}`
                  : 'Separated by spaces. Empty: what the app allows.'
              }
              fault={faultOf('scopes')}
            >
              <input name="scopes" className="mono" autoComplete="off" spellCheck={false} />
            </Field>
          </>
        ) : (
          sharedFields(provider).map(({ name, title, description, example, secret }) => (
            <Field
              key={name}
              label={`${title ?? name} (for all connections)`}
              hint={[description, 'Empty: asked of whoever connects.'].filter(Boolean).join(' ')}
              fault={faultOf(name)}
            >
              {/private_key|certificate/.test(name) ? (
                <textarea name={name} rows={4} className="mono" autoComplete="off" spellCheck={false} />
              ) : (
                <input
                  name={name}
                  className="mono"
                  type={secret ? 'password' : 'text'}
                  placeholder={example}
                  autoComplete="off"
                  spellCheck={false}
                />
              )}
            </Field>
          ))
        )}
        {error !== undefined && <Fault error={error} />}
        <button type="submit" className="button primary big" disabled={busy}>
          {busy ? 'One moment…' : 'Add the integration'}
        </button>
      </form>
    </Card>
  )
}

export function GuideCard({ provider }: { provider: string }) {
  const guide = useGuide(provider)
  const [done, setDone] = useState<Set<string>>(
    () => new Set(JSON.parse(localStorage.getItem(`guide ${provider}`) ?? '[]') as string[]),
  )
  const toggle = (id: string) => {
    const now = new Set(done)
    if (!now.delete(id)) now.add(id)
    setDone(now)
    localStorage.setItem(`guide ${provider}`, JSON.stringify([...now]))
  }
  return (
    <Card
      title="At the provider"
      note="Values are this server's own; tick what you have done."
      actions={
        guide.data && (
          <a className="button tiny" href={new URL(guide.data.docs_url, location.origin).pathname}>
            As a page
          </a>
        )
      }
    >
      <div className="stack">
        <CopyField label="Callback URL" value={guide.data?.callback_url ?? `${location.origin}/oauth/callback`} />
        {guide.error instanceof ApiError && guide.error.status === 404 ? (
          <p className="soft">
            There is no step-by-step guide for this provider yet. Its OAuth app needs the callback URL above.
          </p>
        ) : guide.error ? (
          <Fault error={guide.error} retry={() => void guide.refetch()} />
        ) : guide.data ? (
          <>
            <ol className="steps">
              {guide.data.steps
                .filter(step => step.kind === 'step')
                .map(step => (
                  <Step key={step.id} step={step} done={done.has(step.id)} toggle={() => toggle(step.id)} />
                ))}
            </ol>
            {guide.data.steps
              .filter(step => step.kind === 'reference')
              .map(step => (
                <details key={step.id}>
                  <summary>{step.title}</summary>
                  <Prose text={step.markdown} />
                </details>
              ))}
          </>
        ) : (
          <Skeleton lines={8} />
        )}
      </div>
    </Card>
  )
}

function Step({ step, done, toggle }: { step: GuideStep; done: boolean; toggle: () => void }) {
  return (
    <li data-done={done}>
      <div className="row">
        <h3 className="grow">{step.title}</h3>
        <button type="button" className="button tiny" aria-pressed={done} onClick={toggle}>
          {done ? <Icon name="check" size={13} /> : null}
          Done<span className="hidden"> with {step.title}</span>
        </button>
      </div>
      <Prose text={step.markdown} />
      {step.copy.map(one => (
        <CopyField key={one.label} {...one} />
      ))}
      {step.checks.length > 0 && (
        <ul className="stack tight">
          {step.checks.map(one => (
            <li key={one.label} className="check">
              <input type="checkbox" checked={one.checked} readOnly disabled aria-label={one.label} />
              <span>
                <strong>
                  <Inline text={one.label} />
                </strong>
                <br />
                <span className="small soft">
                  <Inline text={one.reason} />
                </span>
              </span>
            </li>
          ))}
        </ul>
      )}
    </li>
  )
}
