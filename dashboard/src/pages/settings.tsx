import type { EncryptionView, OperatorStanding, OperatorView, Role, WebhookSwitch } from '@fairlead/contract'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask, currentEnvironment, post } from '../api.ts'
import { count, short } from '../format.ts'
import { Card, CopyField, Empty, Fault, Field, Icon, Link, Loaded, Page, Sure, say, Time } from '../parts.tsx'
import { useChangeSettings, useSettings } from '../queries.ts'
import { ConnectSettings } from './connect-settings.tsx'
import { Environments } from './environments.tsx'

const tabs = {
  webhooks: 'Webhooks',
  connect: 'Connect UI',
  encryption: 'Encryption',
  environments: 'Environments',
  people: 'People',
  you: 'Your sign-in',
} as const

interface Props {
  tab: string
  standing: OperatorStanding
  become: (now: OperatorStanding) => void
}

export function SettingsPage({ tab, standing, become }: Props) {
  const role = standing.operator?.role
  const canChange = role !== 'viewer'
  return (
    <Page
      title="Settings"
      lead={
        ['environments', 'people', 'you'].includes(tab)
          ? 'Of this installation.'
          : `Of the environment ${currentEnvironment()}.`
      }
    >
      <nav className="tabs" aria-label="Settings">
        {Object.entries(tabs).map(([name, word]) => (
          <Link key={name} to={`/settings/${name}`} aria-current={tab === name ? 'page' : undefined}>
            {word}
          </Link>
        ))}
      </nav>
      {tab === 'webhooks' && <Webhooks canChange={canChange} />}
      {tab === 'connect' && <ConnectSettings canChange={canChange} />}
      {tab === 'encryption' && <Encryption canChange={canChange} />}
      {tab === 'environments' && <Environments you={standing.operator} />}
      {tab === 'people' && <People you={standing.operator} provider={standing.identity_provider} />}
      {tab === 'you' &&
        standing.operator &&
        (standing.operator.has_identity ? (
          <Card
            title={`You sign in at ${standing.identity_provider ?? 'an identity provider'}`}
            note={standing.operator.email}
          >
            <p className="soft">
              Your password and a second factor are kept there. For a password here instead, ask an owner for a new
              sign-in link.
            </p>
          </Card>
        ) : (
          <You operator={standing.operator} become={become} />
        ))}
      {!(tab in tabs) && <Empty title="There is no such page of settings" />}
    </Page>
  )
}

/** As the contract has them; its own table would bring the whole validator along. */
const switches: Record<WebhookSwitch, string> = {
  on_auth_creation: 'A connection was created.',
  on_auth_refresh_error: 'A connection needs its owner to sign in again.',
  on_connection_health: 'A connection is in trouble, is blocked by a policy, or recovered.',
  on_connection_lifecycle: 'A connection was paused, resumed or deleted.',
}

function Webhooks({ canChange }: { canChange: boolean }) {
  const settings = useSettings()
  const change = useChangeSettings()
  const rotate = useMutation({
    mutationFn: () => post<{ data: { webhook_signing_key: string } }>('/environment/webhook-signing-key/rotate', {}),
    onSettled: () => settings.refetch(),
  })
  const shown = rotate.data?.data.webhook_signing_key ?? change.data?.webhook_signing_key
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const given = new FormData(event.currentTarget)
    change.mutate(
      Object.fromEntries(['webhook_url', 'webhook_url_secondary'].map(name => [name, given.get(name) || null])),
    )
  }
  return (
    <Loaded query={settings}>
      {data => (
        <div className="grid2">
          <Card title="Where they go">
            <form className="stack" onSubmit={submit}>
              <Field label="Webhook URL" hint="https, and an address the egress policy allows.">
                <input
                  name="webhook_url"
                  type="url"
                  defaultValue={data.webhook_url ?? ''}
                  disabled={!canChange}
                  placeholder="https://app.acme.com/fairlead"
                />
              </Field>
              <Field label="A second one" hint="Gets the same events, for instance while you move.">
                <input
                  name="webhook_url_secondary"
                  type="url"
                  defaultValue={data.webhook_url_secondary ?? ''}
                  disabled={!canChange}
                />
              </Field>
              {change.error && <Fault error={change.error} />}
              {canChange && (
                <div>
                  <button type="submit" className="button primary" disabled={change.isPending}>
                    Save
                  </button>
                </div>
              )}
            </form>
          </Card>
          <div className="stack">
            <Card title="What is told">
              <div className="stack tight">
                {Object.entries(switches).map(([name, text]) => (
                  <label key={name} className="check">
                    <input
                      type="checkbox"
                      checked={data[name as WebhookSwitch]}
                      disabled={!canChange || change.isPending}
                      onChange={event => change.mutate({ [name]: event.target.checked })}
                    />
                    <span>{text}</span>
                  </label>
                ))}
              </div>
            </Card>
            <Card
              title="Signing key"
              note="Your server checks with it that an event came from here."
              actions={
                canChange && (
                  <button
                    type="button"
                    className="button tiny"
                    disabled={rotate.isPending}
                    onClick={() => rotate.mutate()}
                  >
                    Rotate
                  </button>
                )
              }
            >
              <div className="stack tight">
                {rotate.error && <Fault error={rotate.error} />}
                {shown && <CopyField label="Shown now and never again" value={shown} />}
                {data.signing_keys.length === 0 && <p className="soft">Made with the first webhook URL.</p>}
                {data.signing_keys.map(key => (
                  <p key={key.id} className="small">
                    <code>{short(key.id)}</code> · made <Time at={key.created_at} /> ·{' '}
                    {key.state === 'current' ? (
                      <span className="good">signs</span>
                    ) : (
                      <>
                        signs beside it until <Time at={key.retires_at} />
                      </>
                    )}
                  </p>
                ))}
              </div>
            </Card>
          </div>
        </div>
      )}
    </Loaded>
  )
}

function Encryption({ canChange }: { canChange: boolean }) {
  const encryption = useQuery({
    queryKey: ['encryption'],
    queryFn: () => ask<EncryptionView>('/encryption'),
    refetchInterval: query => ((query.state.data?.rows_left ?? 0) > 0 ? 700 : 30_000),
  })
  const [from, setFrom] = useState(0)
  const rotate = useMutation({
    mutationFn: () => post<EncryptionView>('/encryption/rotate', undefined),
    onSuccess: now => {
      setFrom(now.rows_left)
      void encryption.refetch()
    },
  })
  return (
    <Card
      title="Data keys"
      note="Everything secret is sealed with them; they are wrapped by the encryption key this server was started with."
      actions={
        canChange && (
          <button
            type="button"
            className="button"
            disabled={rotate.isPending || (encryption.data?.rows_left ?? 0) > 0}
            onClick={() => rotate.mutate()}
          >
            Rotate
          </button>
        )
      }
    >
      <div className="stack">
        {rotate.error && <Fault error={rotate.error} />}
        <Loaded query={encryption}>
          {data => (
            <>
              {data.rows_left > 0 ? (
                <div className="stack tight" role="status">
                  <progress
                    max={Math.max(from, data.rows_left)}
                    value={Math.max(from, data.rows_left) - data.rows_left}
                    aria-label="Rotation"
                  />
                  <p className="small soft">
                    {count(data.rows_left)} secrets are still sealed with an older key. You can leave; it goes on.
                  </p>
                </div>
              ) : (
                <p className="row good">
                  <Icon name="check" /> Every secret is sealed with the current keys.
                </p>
              )}
              <dl className="facts">
                <dt>Encryption key</dt>
                <dd>
                  <code>{data.kek_id}</code>
                </dd>
                {data.data_keys.map(key => (
                  <KeyFact key={key.id} {...key} />
                ))}
              </dl>
            </>
          )}
        </Loaded>
      </div>
    </Card>
  )
}

function KeyFact({ id, created_at, state }: EncryptionView['data_keys'][number]) {
  return (
    <>
      <dt>
        <code>{id}</code>
      </dt>
      <dd>
        {state === 'current' ? <span className="good">seals and opens</span> : <span className="soft">only opens</span>}
        , made <Time at={created_at} />
      </dd>
    </>
  )
}

const roleWords: Record<Role, string> = {
  owner: 'Owner: everything, and who comes in',
  admin: 'Admin: everything but people',
  viewer: 'Viewer: looks, never sees a secret',
}

const wayIn = ({ has_identity, two_factor, has_password }: OperatorView, provider: string | null): string =>
  has_identity
    ? (provider ?? 'an identity provider that is off')
    : two_factor
      ? 'password and code'
      : has_password
        ? 'password'
        : 'no password yet'

function People({ you, provider }: { you: OperatorView | null; provider: string | null }) {
  const queries = useQueryClient()
  const people = useQuery({
    queryKey: ['operators'],
    queryFn: async () => (await ask<{ operators: OperatorView[] }>('/operators')).operators,
  })
  const again = () => queries.invalidateQueries({ queryKey: ['operators'] })
  const [removing, setRemoving] = useState<OperatorView>()
  const link = useMutation({ mutationFn: (id: number) => post<{ link: string }>(`/operators/${id}/link`, undefined) })
  const invite = useMutation({ mutationFn: (body: object) => post<{ link: string }>('/operators', body) })
  const role = useMutation({
    mutationFn: ({ id, role }: { id: number; role: string }) =>
      ask(`/operators/${id}`, { method: 'PATCH', body: { role } }),
    onSettled: again,
  })
  const isOwner = you?.role === 'owner'
  const made = invite.data?.link ?? link.data?.link
  const error = invite.error ?? link.error ?? role.error
  return (
    <div className="stack">
      {error && <Fault error={error} />}
      {made && (
        <Card title="Send them this link">
          <CopyField label="It works once, for seven days" value={made} />
        </Card>
      )}
      <Card title="Operators" plain>
        <Loaded query={people}>
          {list => (
            <ul className="list">
              {list.map(one => (
                <li key={one.id} className="item wraps after">
                  <span className="grow">
                    <strong>{one.name}</strong>
                    {one.id === you?.id && <span className="soft"> (you)</span>}
                    <br />
                    <span className="small soft">
                      {one.email} · {wayIn(one, provider)} · last here <Time at={one.signed_in_at} none="never" />
                    </span>
                  </span>
                  {isOwner ? (
                    <>
                      <select
                        aria-label={`Role of ${one.name}`}
                        value={one.role}
                        onChange={event => role.mutate({ id: one.id, role: event.target.value })}
                        style={{ width: 'auto' }}
                      >
                        {Object.keys(roleWords).map(name => (
                          <option key={name}>{name}</option>
                        ))}
                      </select>
                      <button type="button" className="button tiny" onClick={() => link.mutate(one.id)}>
                        New sign-in link
                      </button>
                      <button type="button" className="button tiny danger" onClick={() => setRemoving(one)}>
                        Remove
                      </button>
                    </>
                  ) : (
                    <span className="soft">{one.role}</span>
                  )}
                </li>
              ))}
            </ul>
          )}
        </Loaded>
      </Card>
      {isOwner && (
        <Card title="Invite somebody">
          <form
            className="stack"
            onSubmit={event => {
              event.preventDefault()
              link.reset()
              invite.mutate(Object.fromEntries(new FormData(event.currentTarget)))
            }}
          >
            <div className="grid2">
              <Field label="E-mail address">
                <input name="email" type="email" required />
              </Field>
              <Field label="Role">
                <select name="role" defaultValue="admin">
                  {Object.entries(roleWords).map(([name, text]) => (
                    <option key={name} value={name}>
                      {text}
                    </option>
                  ))}
                </select>
              </Field>
            </div>
            <div>
              <button type="submit" className="button primary">
                Make an invitation
              </button>
            </div>
          </form>
        </Card>
      )}
      <Sure
        title={`Remove ${removing?.name}?`}
        text="Their sessions end now. What they did stays in the audit trail."
        verb="Remove"
        open={removing !== undefined}
        onClose={() => setRemoving(undefined)}
        act={async () => {
          await ask(`/operators/${removing?.id}`, { method: 'DELETE' })
          await again()
        }}
      />
    </div>
  )
}

function You({ operator, become }: { operator: OperatorView; become: (now: OperatorStanding) => void }) {
  const change = useMutation({
    mutationFn: (body: object) => post<OperatorStanding>('/operator/password', body),
    onSuccess: now => {
      become(now)
      say('Changed; every other session has ended')
    },
  })
  const begin = useMutation({
    mutationFn: (body: object) => post<{ secret: string; uri: string }>('/operator/two-factor', body),
  })
  const turn = useMutation({
    mutationFn: ({ on, ...body }: { on: boolean; [name: string]: unknown }) =>
      post<OperatorStanding>(`/operator/two-factor/${on ? 'enable' : 'disable'}`, body),
    onSuccess: now => {
      become(now)
      begin.reset()
      say(now.operator?.two_factor ? 'Two-factor sign-in is on' : 'Two-factor sign-in is off')
    },
  })
  const fields = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    return Object.fromEntries([...new FormData(event.currentTarget)].filter(([, value]) => value !== ''))
  }
  return (
    <div className="grid2">
      <Card title="Password" note={operator.email}>
        <form className="stack" onSubmit={event => change.mutate(fields(event))}>
          <Field label="Current password">
            <input name="current" type="password" autoComplete="current-password" required />
          </Field>
          <Field label="New password" hint="At least 12 characters. Every other session of yours ends.">
            <input name="password" type="password" autoComplete="new-password" minLength={12} required />
          </Field>
          {change.error && <Fault error={change.error} />}
          <div>
            <button type="submit" className="button primary">
              Change it
            </button>
          </div>
        </form>
      </Card>
      <Card
        title="Two-factor sign-in"
        note={
          operator.two_factor
            ? 'On: a code of your authenticator app is asked for.'
            : 'Off. With it a stolen password is not enough.'
        }
      >
        {operator.two_factor ? (
          <form className="stack" onSubmit={event => turn.mutate({ on: false, ...fields(event) })}>
            <Field label="Password">
              <input name="password" type="password" required />
            </Field>
            <Field label="Code">
              <input name="code" inputMode="numeric" pattern="\d{6}" required />
            </Field>
            {turn.error && <Fault error={turn.error} />}
            <div>
              <button type="submit" className="button danger">
                Turn it off
              </button>
            </div>
          </form>
        ) : begin.data ? (
          <form className="stack" onSubmit={event => turn.mutate({ on: true, ...fields(event) })}>
            <p>
              Add this key to your authenticator app, or <a href={begin.data.uri}>open it there</a>, then enter the code
              it shows.
            </p>
            <CopyField label="Key" value={begin.data.secret} />
            <Field label="Code">
              <input name="code" inputMode="numeric" autoComplete="one-time-code" pattern="\d{6}" required />
            </Field>
            {turn.error && <Fault error={turn.error} />}
            <div>
              <button type="submit" className="button primary">
                Turn it on
              </button>
            </div>
          </form>
        ) : (
          <form className="stack" onSubmit={event => begin.mutate(fields(event))}>
            <Field label="Password" hint="To begin.">
              <input name="password" type="password" autoComplete="current-password" required />
            </Field>
            {begin.error && <Fault error={begin.error} />}
            <div>
              <button type="submit" className="button">
                Set it up
              </button>
            </div>
          </form>
        )}
      </Card>
    </div>
  )
}
