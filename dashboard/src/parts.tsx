/** The small parts every page is made of. */
import { Dialog } from '@base-ui/react/dialog'
import type { StateName } from '@fairlead/contract'
import { type AnchorHTMLAttributes, type MouseEvent, type ReactNode, useEffect, useState } from 'react'
import { ApiError } from './api.ts'
import { ago, exact, short } from './format.ts'
import { hrefOf, navigate } from './route.ts'

/** A link within the dashboard: a plain click keeps the page, everything else is the browser's. */
export function Link({ to, children, onClick, ...rest }: { to: string } & AnchorHTMLAttributes<HTMLAnchorElement>) {
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event)
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return
    event.preventDefault()
    navigate(to)
  }
  return (
    <a href={hrefOf(to)} onClick={follow} {...rest}>
      {children}
    </a>
  )
}

const paths = {
  home: 'M3 9.5 10 4l7 5.5V16a1 1 0 0 1-1 1h-4v-4H8v4H4a1 1 0 0 1-1-1z',
  integrations: 'M4 4h5v5H4zM11 4h5v5h-5zM4 11h5v5H4zM13.5 11v5M11 13.5h5',
  connections: 'M8 12 12 8M6.5 10 4.8 11.7a2.5 2.5 0 0 0 3.5 3.5L10 13.5M13.5 10l1.7-1.7a2.5 2.5 0 0 0-3.5-3.5L10 6.5',
  activity: 'M3 10h3l2-5 4 10 2-5h3',
  webhooks: 'M10 6a2 2 0 1 0-3 1.7L5 12M10 6l3 5.5M6 14h7M5 12a2 2 0 1 0 1 2M13 11.500a2.200 2.200 0 1 1-.5 3.500',
  playground: 'M6 4.500v11l9-5.500z',
  keys: 'M8 12a3 3 0 1 1 2.500-4.600L17 7.500v3h-2v2h-3v-1.200A3 3 0 0 1 8 12z',
  audit: 'M6 3h6l3 3v11H6zM8.500 9h4M8.500 12h4',
  settings: 'M4 6h7M15 6h1M4 10h1M9 10h7M4 14h7M15 14h1M13 4.500v3M7 8.500v3M13 12.500v3',
  check: 'm5 10.500 3.500 3.500L15 7',
  half: 'M10 4a6 6 0 0 0 0 12z',
  bang: 'M10 5v6.500M10 14.500v.500',
  bars: 'M8 5.500v9M12 5.500v9',
  copy: 'M7 7h8v9H7zM5 13V4h7',
  info: 'M10 9v5M10 6v.500',
} as const

export function Icon({ name, size = 18 }: { name: keyof typeof paths; size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 20 20"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.6"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {name === 'half' && <circle cx="10" cy="10" r="6" />}
      <path d={paths[name]} fill={name === 'half' ? 'currentColor' : 'none'} />
    </svg>
  )
}

const states: Record<StateName, { look: string; sign: keyof typeof paths; word: string }> = {
  active: { look: 'active', sign: 'check', word: 'Active' },
  degraded: { look: 'degraded', sign: 'half', word: 'Degraded' },
  needs_reauth: { look: 'attention', sign: 'bang', word: 'Needs sign-in' },
  blocked_by_policy: { look: 'attention', sign: 'bang', word: 'Blocked' },
  paused: { look: 'paused', sign: 'bars', word: 'Paused' },
}

export function State({ name }: { name: StateName }) {
  const { look, sign, word } = states[name]
  return (
    <span className={`state ${look}`}>
      <Icon name={sign} size={13} />
      {word}
    </span>
  )
}

/** Relative, with the exact one on hover. */
export function Time({ at, none = '–' }: { at: string | null; none?: string }) {
  return at ? (
    <time dateTime={at} title={exact(at)}>
      {ago(at)}
    </time>
  ) : (
    <span className="soft">{none}</span>
  )
}

export async function copyText(text: string): Promise<void> {
  await navigator.clipboard.writeText(text)
  say('Copied')
}

/** An id: short, and one click copies all of it. */
export function Id({ value, full = false }: { value: string; full?: boolean }) {
  return (
    <button
      type="button"
      className="copy"
      title={`Copy ${value}`}
      onClick={event => {
        event.preventDefault()
        event.stopPropagation()
        void copyText(value)
      }}
    >
      <code>{full ? value : short(value)}</code>
      <Icon name="copy" size={13} />
    </button>
  )
}

export function CopyField({ label, value }: { label: string; value: string }) {
  return (
    <div className="field">
      <span>{label}</span>
      <div className="copyfield">
        <code>{value}</code>
        <button type="button" className="button tiny" onClick={() => void copyText(value)}>
          Copy<span className="hidden"> {label}</span>
        </button>
      </div>
    </div>
  )
}

let tell: (text: string) => void = () => {}
/** One sentence at the foot of the page, for three seconds. */
export const say = (text: string): void => tell(text)

export function Toast() {
  const [text, setText] = useState('')
  useEffect(() => {
    tell = setText
  }, [])
  useEffect(() => {
    if (!text) return
    const timer = setTimeout(() => setText(''), 3_000)
    return () => clearTimeout(timer)
  }, [text])
  return (
    <div role="status" aria-live="polite" className={text ? 'toast' : 'hidden'}>
      {text}
    </div>
  )
}

export function Page({
  title,
  lead,
  actions,
  children,
}: {
  title: string
  lead?: ReactNode
  actions?: ReactNode
  children: ReactNode
}) {
  useEffect(() => {
    document.title = `${title} · Fairlead`
  }, [title])
  return (
    <div className="page">
      <div className="head">
        <div>
          <h1>{title}</h1>
          {lead && <p>{lead}</p>}
        </div>
        {actions && <div className="actions">{actions}</div>}
      </div>
      {children}
    </div>
  )
}

export function Card({
  title,
  note,
  actions,
  children,
  plain = false,
}: {
  title?: ReactNode
  note?: ReactNode
  actions?: ReactNode
  children: ReactNode
  plain?: boolean
}) {
  return (
    <section className="card">
      {title && (
        <header>
          <div className="grow">
            <h2>{title}</h2>
            {note && <p>{note}</p>}
          </div>
          {actions}
        </header>
      )}
      {plain ? children : <div className="body">{children}</div>}
    </section>
  )
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <h2>{title}</h2>
      {children}
    </div>
  )
}

export function Skeleton({ lines = 4, height = 20 }: { lines?: number; height?: number }) {
  return (
    <div className="stack body" aria-busy="true">
      <span className="hidden">Loading</span>
      {Array.from({ length: lines }, (_, n) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: they are all alike
        <span key={n} className="skeleton" style={{ height, width: `${92 - ((n * 17) % 40)}%` }} />
      ))}
    </div>
  )
}

/** What happened, and the one thing to do. */
export function Fault({ error, retry }: { error: unknown; retry?: () => void }) {
  const offline = error instanceof TypeError
  return (
    <div className="notice bad" role="alert">
      <Icon name="bang" />
      <div className="grow">
        <p>
          {offline
            ? 'The server could not be reached. It may be restarting.'
            : error instanceof Error
              ? error.message
              : String(error)}
        </p>
        {error instanceof ApiError &&
          error.issues.map(issue => (
            <p key={issue.path.join('.')} className="small">
              {issue.path.join('.')}: {issue.message}
            </p>
          ))}
        {error instanceof ApiError && <p className="small soft mono">{error.code}</p>}
      </div>
      {retry && (
        <button type="button" className="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  )
}

/** One query's three faces: waiting, failed, here. */
export function Loaded<T>({
  query,
  lines,
  children,
}: {
  query: { data: T | undefined; error: unknown; refetch: () => unknown }
  lines?: number
  children: (data: T) => ReactNode
}) {
  if (query.data !== undefined) return children(query.data)
  if (query.error) return <Fault error={query.error} retry={() => void query.refetch()} />
  return <Skeleton {...(lines !== undefined && { lines })} />
}

export function Modal({
  title,
  open,
  onClose,
  children,
  className = 'dialog',
}: {
  title: string
  open: boolean
  onClose: () => void
  children: ReactNode
  className?: string
}) {
  return (
    <Dialog.Root open={open} onOpenChange={now => !now && onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className={className}>
          <Dialog.Title className={className.includes('palette') ? 'hidden' : ''}>{title}</Dialog.Title>
          {children}
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  )
}

/** Asks before what cannot be undone, and says what it does. */
export function Sure({
  title,
  text,
  verb,
  open,
  onClose,
  act,
}: {
  title: string
  text: string
  verb: string
  open: boolean
  onClose: () => void
  act: () => Promise<unknown>
}) {
  const [error, setError] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  return (
    <Modal title={title} open={open} onClose={onClose}>
      <p>{text}</p>
      {error !== undefined && <Fault error={error} />}
      <div className="row">
        <button type="button" className="button end" onClick={onClose}>
          Keep it
        </button>
        <button
          type="button"
          className="button danger"
          disabled={busy}
          onClick={() => {
            setBusy(true)
            act()
              .then(onClose, setError)
              .finally(() => setBusy(false))
          }}
        >
          {verb}
        </button>
      </div>
    </Modal>
  )
}

export function Field({
  label,
  hint,
  fault,
  children,
}: {
  label: string
  hint?: ReactNode
  fault?: string | undefined
  children: ReactNode
}) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: its control is what it is given
    <label className="field">
      <span>{label}</span>
      {children}
      {fault ? <small className="bad">{fault}</small> : hint && <small>{hint}</small>}
    </label>
  )
}
