/** Signing in at the identity provider: the way there, and /app/oidc, the page it comes back to. */
import type { FinishedOidc, OperatorStanding } from '@fairlead/contract'
import { useEffect, useRef, useState } from 'react'
import { ask, post } from './api.ts'
import { Door } from './door.tsx'
import { Fault, Link } from './parts.tsx'
import { hrefOf, navigate, type Route } from './route.ts'

interface Beginning {
  link?: string
  confirms?: boolean
}

const backKey = 'after-sign-in'

/** Leaves this page. Whoever had asked for one finds it again. */
export async function signInThere(beginning: Beginning, back: string): Promise<void> {
  const { location: there } = await post<{ location: string }>('/operator/oidc/begin', beginning)
  sessionStorage.setItem(backKey, back)
  location.assign(there)
}

const pathNow = (): string => (location.pathname + location.search).slice(hrefOf('').length)

export function ProviderButton({ name, link }: { name: string; link?: string }) {
  const [error, setError] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  return (
    <>
      <button
        type="button"
        className="button big"
        disabled={busy}
        onClick={() => {
          setBusy(true)
          signInThere(link ? { link } : {}, link ? '/' : pathNow()).catch(failed => {
            setError(failed)
            setBusy(false)
          })
        }}
      >
        {busy ? 'One moment…' : `Continue with ${name}`}
      </button>
      {error !== undefined && <Fault error={error} />}
    </>
  )
}

const channelName = 'fairlead operator'

/** In a window of its own, so that what waits for the confirmation goes on; in this one where no window may open. */
export function confirmThere(confirmed: (now: OperatorStanding) => void, failed: (error: unknown) => void): () => void {
  const channel = new BroadcastChannel(channelName)
  channel.onmessage = () => void ask<OperatorStanding>('/operator').then(confirmed, failed)
  if (!window.open(hrefOf('/oidc#confirm'), 'fairlead-confirm', 'popup,width=520,height=720'))
    signInThere({ confirms: true }, pathNow()).catch(failed)
  return () => channel.close()
}

export function OidcPage({ become, query }: { become: (now: OperatorStanding) => void; query: Route['query'] }) {
  const [error, setError] = useState<unknown>()
  const [done, setDone] = useState(false)
  const once = useRef(false)
  useEffect(() => {
    if (once.current) return
    once.current = true
    if (location.hash === '#confirm') return void signInThere({ confirms: true }, '/').catch(setError)
    // The code leaves the address before anything else happens; it works once.
    history.replaceState(null, '', hrefOf('/oidc'))
    post<FinishedOidc>('/operator/oidc/finish', { query: query.toString() }).then(({ confirms, ...now }) => {
      become(now)
      if (confirms && window.name === 'fairlead-confirm') {
        new BroadcastChannel(channelName).postMessage('confirmed')
        setDone(true)
        window.close()
      } else navigate(sessionStorage.getItem(backKey) ?? '/', { replace: true })
      sessionStorage.removeItem(backKey)
    }, setError)
  })
  if (done)
    return (
      <Door title="It is you" lead="This window may be closed; the page you came from goes on.">
        {null}
      </Door>
    )
  if (error === undefined)
    return (
      <Door title="One moment…" lead="Your sign-in is being checked.">
        {null}
      </Door>
    )
  return (
    <Door title="You are not signed in" lead="Nothing was changed.">
      <Fault error={error} />
      <Link to="/" className="button primary big">
        To the sign-in page
      </Link>
    </Door>
  )
}
