/** The pages in front: setting up the first operator, signing in, and what a link that works once is for. */
import type { OperatorStanding } from '@fairlead/contract'
import { type FormEvent, type ReactNode, useState } from 'react'
import { ApiError, post } from './api.ts'
import { ProviderButton } from './oidc.tsx'
import { Fault, Field } from './parts.tsx'
import { navigate } from './route.ts'

type Become = (standing: OperatorStanding) => void

export function Mark() {
  return (
    <svg
      width="22"
      height="22"
      viewBox="0 0 32 32"
      fill="none"
      stroke="currentColor"
      strokeWidth="4"
      aria-hidden="true"
    >
      <circle cx="16" cy="16" r="9" />
      <path d="M2 26 30 6" strokeLinecap="round" />
    </svg>
  )
}

export function Door({ title, lead, children }: { title: string; lead: ReactNode; children: ReactNode }) {
  return (
    <main className="door">
      <div>
        <div className="stack tight">
          <span className="brand">
            <Mark /> Fairlead
          </span>
          <h1>{title}</h1>
          <p className="soft">{lead}</p>
        </div>
        {children}
      </div>
    </main>
  )
}

/** Sends a form's fields; keeps the button from being pressed twice. */
function useForm(path: string, become: Become, after: string | undefined, extra: Record<string, string> = {}) {
  const [error, setError] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const fields = [...new FormData(event.currentTarget)].filter(([, value]) => value !== '')
    setBusy(true)
    setError(undefined)
    post<OperatorStanding>(path, { ...extra, ...Object.fromEntries(fields) })
      .then(standing => {
        become(standing)
        if (after) navigate(after, { replace: true })
      }, setError)
      .finally(() => setBusy(false))
  }
  return { error, busy, submit }
}

export function SetupPage({ here, become }: { here: boolean; become: Become }) {
  const [link] = useState(() => location.hash.slice(1))
  const { error, busy, submit } = useForm('/operator/setup', become, '/', link ? { link } : {})
  if (!link && !here)
    return (
      <Door title="Set up this server" lead="Nobody can sign in yet.">
        <p>
          Open the setup link this server printed when it started. If it has no terminal, the link is in the file{' '}
          <code>setup-link.txt</code> in its data folder.
        </p>
      </Door>
    )
  return (
    <Door title="Set up this server" lead="You are its first owner. There is no default password: choose one.">
      <form onSubmit={submit}>
        <Field label="Your name">
          <input name="name" autoComplete="name" required />
        </Field>
        <Field label="E-mail address">
          <input name="email" type="email" autoComplete="username" required />
        </Field>
        <Field label="Password" hint="At least 12 characters. A few words you remember are best.">
          <input name="password" type="password" autoComplete="new-password" minLength={12} required />
        </Field>
        {error !== undefined && <Fault error={error} />}
        <button type="submit" className="button primary big" disabled={busy}>
          {busy ? 'One moment…' : 'Create the owner'}
        </button>
      </form>
    </Door>
  )
}

export function SignInPage({ provider, become }: { provider: string | null; become: Become }) {
  const { error, busy, submit } = useForm('/operator/sign-in', become, undefined)
  const asksCode = error instanceof ApiError && error.code === 'code_required'
  const [withCode, setWithCode] = useState(false)
  if (asksCode && !withCode) setWithCode(true)
  return (
    <Door title="Sign in" lead="to your integrations and connections.">
      {provider && (
        <>
          <ProviderButton name={provider} />
          <p className="or small soft">or with a password</p>
        </>
      )}
      <form onSubmit={submit}>
        <Field label="E-mail address">
          <input name="email" type="email" autoComplete="username" required />
        </Field>
        <Field label="Password">
          <input name="password" type="password" autoComplete="current-password" required />
        </Field>
        {withCode && (
          <Field label="Code" hint="The six digits your authenticator app shows now.">
            <input name="code" inputMode="numeric" autoComplete="one-time-code" pattern="\d{6}" required />
          </Field>
        )}
        {error !== undefined && !asksCode && <Fault error={error} />}
        <button type="submit" className="button primary big" disabled={busy}>
          {busy ? 'One moment…' : 'Sign in'}
        </button>
      </form>
      <p className="small soft">Forgotten your password? An owner can make you a link for a new one, in Settings.</p>
    </Door>
  )
}

export function LinkPage({ provider, become }: { provider: string | null; become: Become }) {
  const [link] = useState(() => location.hash.slice(1))
  const { error, busy, submit } = useForm('/operator/link', become, '/', { link })
  return (
    <Door
      title={provider ? 'Choose how you sign in' : 'Choose your password'}
      lead="This link works once. Whoever you are signed in as here is signed out."
    >
      {provider && (
        <>
          <ProviderButton name={provider} link={link} />
          <p className="or small soft">or choose a password</p>
        </>
      )}
      <form onSubmit={submit}>
        <Field label="Your name" hint="Leave it empty if you had one here before.">
          <input name="name" autoComplete="name" />
        </Field>
        <Field label="Password" hint="At least 12 characters. A few words you remember are best.">
          <input name="password" type="password" autoComplete="new-password" minLength={12} required />
        </Field>
        {error !== undefined && <Fault error={error} />}
        <button type="submit" className="button primary big" disabled={busy}>
          {busy ? 'One moment…' : 'Continue'}
        </button>
      </form>
    </Door>
  )
}
