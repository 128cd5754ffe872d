/** The frame of every page: rail, environment, ⌘K to anything, and the dialog that asks who is there before a secret is shown. */
import { Menu } from '@base-ui/react/menu'
import type { OperatorStanding } from '@fairlead/contract'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, type ReactNode, useEffect, useRef, useState } from 'react'
import { ask, chooseEnvironment, currentEnvironment, enc, post, setConfirm } from './api.ts'
import { Mark } from './door.tsx'
import { confirmThere } from './oidc.tsx'
import { ActivityPage } from './pages/activity.tsx'
import { AuditPage } from './pages/audit.tsx'
import { ConnectionPage } from './pages/connection.tsx'
import { ConnectionsPage } from './pages/connections.tsx'
import { HomePage } from './pages/home.tsx'
import { IntegrationPage } from './pages/integration.tsx'
import { IntegrationsPage } from './pages/integrations.tsx'
import { KeysPage } from './pages/keys.tsx'
import { PlaygroundPage } from './pages/playground.tsx'
import { SettingsPage } from './pages/settings.tsx'
import { WebhooksPage } from './pages/webhooks.tsx'
import { Empty, Fault, Field, Icon, Link, Modal, Page } from './parts.tsx'
import { useFewConnections, useIntegrations, usePrefetch } from './queries.ts'
import { navigate, useRoute } from './route.ts'

const rooms = [
  ['/', 'Home', 'home'],
  ['/integrations', 'Integrations', 'integrations'],
  ['/connections', 'Connections', 'connections'],
  ['/activity', 'Activity', 'activity'],
  ['/webhooks', 'Webhooks', 'webhooks'],
  ['/playground', 'Playground', 'playground'],
  ['/keys', 'API keys', 'keys'],
  ['/audit', 'Audit', 'audit'],
  ['/settings', 'Settings', 'settings'],
] as const

export function Shell({ standing, become }: { standing: OperatorStanding; become: (now: OperatorStanding) => void }) {
  const { path } = useRoute()
  const [palette, setPalette] = useState(false)
  const queries = useQueryClient()
  const prefetch = usePrefetch()
  const environment = currentEnvironment()
  const [, redraw] = useState(0)
  const choose = (name: string) => {
    chooseEnvironment(name)
    queries.removeQueries({ predicate: query => query.queryKey[0] !== 'operator' })
    navigate('/')
    redraw(n => n + 1)
  }
  useEffect(() => {
    if (!standing.environments.includes(environment) && standing.environments[0]) choose(standing.environments[0])
  })
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() === 'k' && (event.metaKey || event.ctrlKey)) {
        event.preventDefault()
        setPalette(open => !open)
      }
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test((event.target as HTMLElement).tagName)
      if (event.key === '/' && !typing) {
        const search = document.querySelector<HTMLInputElement>('input[type="search"]')
        if (search) {
          event.preventDefault()
          search.focus()
        }
      }
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [])
  // On a small screen the pages are a row to scroll in.
  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever the page is another
  useEffect(() => {
    document.querySelector('.rail [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' })
  }, [path])
  const current = (to: string) => (to === '/' ? path === '/' : path === to || path.startsWith(`${to}/`))
  return (
    <div className="shell">
      <header className="rail">
        <Link to="/" className="brand" aria-label="Fairlead">
          <Mark /> <span>Fairlead</span>
        </Link>
        <select aria-label="Environment" value={environment} onChange={event => choose(event.target.value)}>
          {standing.environments.map(name => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <nav aria-label="Pages">
          <ul>
            {rooms.map(([to, name, icon]) => (
              <li key={to}>
                <Link
                  to={to}
                  aria-current={current(to) ? 'page' : undefined}
                  onPointerEnter={() => prefetch(to)}
                  onFocus={() => prefetch(to)}
                >
                  <Icon name={icon} />
                  {name}
                </Link>
              </li>
            ))}
          </ul>
        </nav>
        <div className="foot">
          <button type="button" className="button plain" onClick={() => setPalette(true)}>
            Go to… <kbd>⌘K</kbd>
          </button>
          <a className="button plain" href="/docs/">
            Documentation
          </a>
          <Menu.Root>
            <Menu.Trigger className="button plain">{standing.operator?.name ?? 'You'}</Menu.Trigger>
            <Menu.Portal>
              <Menu.Positioner sideOffset={6} align="start">
                <Menu.Popup className="menu">
                  <Menu.Item onClick={() => navigate('/settings/you')}>Your sign-in</Menu.Item>
                  <Menu.Item onClick={() => navigate('/settings/people')}>People</Menu.Item>
                  <Menu.Item onClick={() => void post<OperatorStanding>('/operator/sign-out').then(become)}>
                    Sign out
                  </Menu.Item>
                </Menu.Popup>
              </Menu.Positioner>
            </Menu.Portal>
          </Menu.Root>
        </div>
      </header>
      <main className="main" key={environment}>
        <Room standing={standing} become={become} />
      </main>
      {palette && <Palette onClose={() => setPalette(false)} />}
      <Confirm />
    </div>
  )
}

function Room({
  standing,
  become,
}: {
  standing: OperatorStanding
  become: (now: OperatorStanding) => void
}): ReactNode {
  const { parts } = useRoute()
  const [room = '', first, second] = parts
  const canChange = standing.operator?.role !== 'viewer'
  switch (room) {
    case '':
      return <HomePage canChange={canChange} />
    case 'integrations':
      return first ? <IntegrationPage id={first} canChange={canChange} /> : <IntegrationsPage canChange={canChange} />
    case 'connections':
      return first && second ? (
        <ConnectionPage integration={first} id={second} canChange={canChange} />
      ) : (
        <ConnectionsPage canChange={canChange} />
      )
    case 'activity':
      return <ActivityPage />
    case 'webhooks':
      return <WebhooksPage canChange={canChange} />
    case 'playground':
      return <PlaygroundPage canChange={canChange} />
    case 'keys':
      return <KeysPage canChange={canChange} />
    case 'audit':
      return <AuditPage />
    case 'settings':
      return <SettingsPage tab={first ?? 'webhooks'} standing={standing} become={become} />
    default:
      return (
        <Page title="There is nothing here">
          <Empty title="No page has this address">
            <p>It may have been moved, or the link is incomplete.</p>
            <Link to="/" className="button">
              Go home
            </Link>
          </Empty>
        </Page>
      )
  }
}

function Palette({ onClose }: { onClose: () => void }) {
  const [text, setText] = useState('')
  const [at, setAt] = useState(0)
  const integrations = useIntegrations()
  const connections = useFewConnections({ search: text.trim() }, 8, text.trim().length > 1)
  const wanted = text.trim().toLowerCase()
  const found = [
    ...rooms.map(([to, name]) => ({ to, name, kind: 'Page' })),
    { to: '/integrations?new=1', name: 'New integration', kind: 'Do' },
    ...(integrations.data ?? []).map(one => ({
      to: `/integrations/${enc(one.unique_key)}`,
      name: one.display_name,
      kind: 'Integration',
    })),
  ]
    .filter(({ name }) => name.toLowerCase().includes(wanted))
    .concat(
      (connections.data ?? []).map(one => ({
        to: `/connections/${enc(one.provider_config_key)}/${enc(one.connection_id)}`,
        name: one.end_user?.display_name ?? one.end_user?.email ?? one.connection_id,
        kind: 'Connection',
      })),
    )
    .slice(0, 12)
  const go = (to: string) => {
    onClose()
    navigate(to)
  }
  return (
    <Modal title="Go to" open onClose={onClose} className="dialog palette">
      <input
        aria-label="Go to"
        placeholder="A page, an integration, an end user…"
        value={text}
        onChange={event => {
          setText(event.target.value)
          setAt(0)
        }}
        onKeyDown={event => {
          if (event.key === 'ArrowDown') setAt(n => Math.min(n + 1, found.length - 1))
          else if (event.key === 'ArrowUp') setAt(n => Math.max(n - 1, 0))
          else if (event.key === 'Enter' && found[at]) go(found[at].to)
          else return
          event.preventDefault()
        }}
      />
      <ul aria-label="Found">
        {found.map(({ to, name, kind }, n) => (
          <li key={`${kind}${to}`} data-on={n === at}>
            <button type="button" onClick={() => go(to)} onFocus={() => setAt(n)}>
              <span className="grow">{name}</span>
              <span className="soft small">{kind}</span>
            </button>
          </li>
        ))}
      </ul>
    </Modal>
  )
}

/** Whoever waits for a confirmation goes on when it is given, and is refused when it is not. */
function Confirm() {
  const waiting = useRef<{ go: () => void; stop: (error: Error) => void }[]>([])
  const [open, setOpen] = useState(false)
  const [error, setError] = useState<unknown>()
  const queries = useQueryClient()
  const standing = useQuery({
    queryKey: ['operator'],
    queryFn: () => ask<OperatorStanding>('/operator'),
    enabled: false,
  })
  useEffect(() => {
    setConfirm(
      () =>
        new Promise((go, stop) => {
          waiting.current.push({ go, stop })
          setOpen(true)
        }),
    )
  }, [])
  const end = (error?: Error) => {
    for (const one of waiting.current.splice(0)) error ? one.stop(error) : one.go()
    setOpen(false)
    setError(undefined)
  }
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    post<OperatorStanding>('/operator/confirm', Object.fromEntries(new FormData(event.currentTarget))).then(now => {
      queries.setQueryData(['operator'], now)
      end()
    }, setError)
  }
  const operator = standing.data?.operator
  const stopListening = useRef<() => void>(() => {})
  const there = () => {
    stopListening.current()
    stopListening.current = confirmThere(now => {
      stopListening.current()
      queries.setQueryData(['operator'], now)
      end()
    }, setError)
  }
  return (
    <Modal
      title="Is it still you?"
      open={open}
      onClose={() => {
        stopListening.current()
        end(new Error('Not confirmed; nothing was shown or changed.'))
      }}
    >
      <p className="soft">
        Secrets are shown, and keys and people added, only to somebody who has just shown who they are. It then holds
        for five minutes.
      </p>
      {operator?.has_identity ? (
        <div className="stack">
          {error !== undefined && <Fault error={error} />}
          <button type="button" className="button primary big" onClick={there}>
            Sign in again at {standing.data?.identity_provider}
          </button>
        </div>
      ) : (
        <form className="stack" onSubmit={submit}>
          <Field label="Password">
            <input name="password" type="password" autoComplete="current-password" required />
          </Field>
          {operator?.two_factor && (
            <Field label="Code">
              <input name="code" inputMode="numeric" autoComplete="one-time-code" pattern="\d{6}" required />
            </Field>
          )}
          {error !== undefined && <Fault error={error} />}
          <button type="submit" className="button primary big">
            Confirm
          </button>
        </form>
      )}
    </Modal>
  )
}
