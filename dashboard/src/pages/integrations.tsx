import type { ProviderView } from '@fairlead/contract'
import { enc } from '../api.ts'
import { NewIntegration } from '../new-integration.tsx'
import { Card, Empty, Link, Loaded, Page, Time } from '../parts.tsx'
import { useIntegrations, useProviders } from '../queries.ts'
import { setQuery, useRoute, withQuery } from '../route.ts'

export function IntegrationsPage({ canChange }: { canChange: boolean }) {
  const { query } = useRoute()
  const provider = query.get('provider')
  if (provider && canChange) return <NewIntegration provider={provider} />
  return query.has('new') ? <Catalogue /> : <Yours canChange={canChange} />
}

function Yours({ canChange }: { canChange: boolean }) {
  const integrations = useIntegrations()
  return (
    <Page
      title="Integrations"
      lead="Providers, each with your own OAuth app."
      actions={
        canChange && (
          <Link to="/integrations?new=1" className="button primary">
            New integration
          </Link>
        )
      }
    >
      <Card plain>
        <Loaded query={integrations}>
          {list =>
            list.length === 0 ? (
              <Empty title="No integration yet">
                <p>An integration is a provider with the client id and secret of your OAuth app there.</p>
                {canChange && (
                  <Link to="/integrations?new=1" className="button primary">
                    Choose a provider
                  </Link>
                )}
              </Empty>
            ) : (
              <ul className="list">
                {list.map(one => (
                  <li key={one.unique_key}>
                    <Link className="item" to={`/integrations/${enc(one.unique_key)}`}>
                      <img className="logo" src={logoOf(one.logo)} alt="" />
                      <span className="grow">
                        <strong>{one.display_name}</strong>
                        <br />
                        <span className="small soft">
                          <code>{one.unique_key}</code> · changed <Time at={one.updated_at} />
                        </span>
                      </span>
                    </Link>
                  </li>
                ))}
              </ul>
            )
          }
        </Loaded>
      </Card>
    </Page>
  )
}

/** Of this origin, also when the server is called by another of its names. */
export const logoOf = (url: string): string => new URL(url, location.origin).pathname

const kindName: Record<string, string> = {
  OAUTH2: 'OAuth 2.0',
  OAUTH2_CC: 'Client credentials',
  OAUTH1: 'OAuth 1.0a',
  API_KEY: 'API key',
  BASIC: 'Basic',
  JWT: 'JWT',
  TWO_STEP: 'Two-step',
  APP: 'App',
  NONE: 'Open',
}

function Catalogue() {
  const { query } = useRoute()
  const providers = useProviders()
  const search = query.get('search')?.toLowerCase() ?? ''
  const kind = query.get('kind')
  const kinds = [...new Set(providers.data?.map(one => one.auth_mode))].sort()
  const matches = (one: ProviderView) =>
    (!kind || one.auth_mode === kind) && (one.display_name.toLowerCase().includes(search) || one.name.includes(search))
  return (
    <Page title="New integration" lead="Which provider do your customers use?">
      <div className="filters">
        <input
          type="search"
          className="search"
          aria-label="Search providers"
          placeholder="Search providers"
          defaultValue={search}
          onChange={event => setQuery({ search: event.target.value })}
        />
        {kinds.length > 1 &&
          kinds.map(one => (
            <button
              key={one}
              type="button"
              className="chip"
              aria-pressed={kind === one}
              onClick={() => setQuery({ kind: kind === one ? undefined : one })}
            >
              {kindName[one] ?? one}
            </button>
          ))}
      </div>
      <Loaded query={providers}>
        {list => {
          const shown = list.filter(matches)
          return shown.length === 0 ? (
            <Empty title={`No provider matches “${search}”`}>
              <p>Any provider can be added as a file: see “Providers of your own” in the documentation.</p>
              <a className="button" href="/docs/configuration">
                How to add one
              </a>
            </Empty>
          ) : (
            <ul className="catalogue">
              {shown.map(one => (
                <li key={one.name}>
                  <Link className="tile" to={withQuery('/integrations', { provider: one.name })}>
                    <img className="logo" src={logoOf(one.logo_url)} alt="" loading="lazy" />
                    <span>
                      <strong>{one.display_name}</strong>
                      <br />
                      <span className="small soft">{kindName[one.auth_mode] ?? one.auth_mode}</span>
                    </span>
                  </Link>
                </li>
              ))}
            </ul>
          )
        }}
      </Loaded>
    </Page>
  )
}
