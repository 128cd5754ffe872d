/**
 * Who may begin a sign-in in this browser without its user saying so. A sign-in ends with somebody's access to an account, and whoever sends a
 * link decides whose (security checklist LK3, LK4): so a start that came from a link shows who will gain access and waits for a click,
 * and one that a page opened goes ahead when that page is ours, is one the environment names, or holds a WebSocket in this very browser,
 * where its browser says that it is that page.
 */
import { parse } from 'hono/utils/cookie'
import type { KeyedHash } from '../account/pepper.ts'
import { Failure } from '../errors.ts'
import { html, page } from '../http/page.ts'
import { randomToken, sameBytes, sha256 } from '../lib/id.ts'
import { isChannelOf } from './browser.ts'

export interface Arriving {
  /** Request headers by their lower-case names. */
  header(name: string): string | undefined
  /** `browserOf` the request. */
  browser: string
  attempt: string | null
  /** The origin of the page behind `attempt`, when its socket is here. */
  opener: string | null
}

/** Throws `origin_not_allowed` for a page that the environment's own list leaves out. */
export function needsClick(
  keyedHash: KeyedHash,
  { header, browser, attempt, opener }: Arriving,
  ourOrigin: string,
  allowedOrigins: string[],
): boolean {
  // A browser that loads a page before anybody asked for it, and whoever looks through mail, sends one of these or nothing at all.
  if (/prefetch|prerender/.test(`${header('sec-purpose')} ${header('purpose')} ${header('x-moz')}`)) return true
  // https://w3c.github.io/webappsec-fetch-metadata: the whole chain of redirects counts, and no page can set it.
  const site = header('sec-fetch-site')
  if (site === 'same-origin') return false
  const referrer = URL.parse(header('referer') ?? '')?.origin ?? null
  const isNamed = (origin: string | null) => origin !== null && allowedOrigins.includes(origin)
  if (isNamed(referrer)) return false
  if (opener && opener !== ourOrigin && allowedOrigins.length > 0 && !isNamed(opener))
    throw new Failure('origin_not_allowed', { payload: { origin: opener } })
  // A page can hide that it sent somebody here, and a link elsewhere can carry the id of its author's own socket: whoever says nothing is asked.
  if (allowedOrigins.length > 0 || referrer === null || !attempt) return true
  return !isChannelOf(keyedHash, attempt, { browser, origin: referrer })
}

const cookieName = (secure: boolean): string => `${secure ? '__Host-' : ''}fairlead_click`

/** The page before the provider's. Its button carries what stands in a cookie of this browser, so no other page can press it. */
export function clickPage(ask: {
  provider: string
  /** Who will gain access. */
  who: { name: string; email?: string | undefined; organization?: string | undefined }
  /** Path and query of the start. */
  action: string
  cookies: string | undefined
  secure: boolean
  /** Where the provider's page may be, when it is not https. */
  plainOrigin: string | undefined
}): Response {
  const { provider, who, action, cookies, secure, plainOrigin } = ask
  // The one that is there stays: another tab may be showing this page.
  const kept = parse(cookies ?? '')[cookieName(secure)]
  const click = kept && /^[\w-]{43}$/.test(kept) ? kept : randomToken(256)
  const response = page({
    title: `Connect ${provider}`,
    status: 200,
    // The form is redirected to the provider, and browsers hold form-action against redirects too.
    formAction: ["'self'", 'https:', ...(plainOrigin ? [plainOrigin] : [])].join(' '),
    body: html`
      <h1>Give access to your ${provider} account?</h1>
      <p>You will sign in to ${provider}. Afterwards your account there can be used on behalf of:</p>
      <table>
        <tr><th>User</th><td>${who.name}</td></tr>
        ${who.email && who.email !== who.name ? html`<tr><th>E-mail</th><td>${who.email}</td></tr>` : html``}
        ${who.organization ? html`<tr><th>Organization</th><td>${who.organization}</td></tr>` : html``}
      </table>
      <p class="soft">Go on only if that is you, or somebody you mean to give this access to. If you did not expect this page, close it; nothing has happened.</p>
      <form method="post" action="${`${action}&click=${click}`}"><button>Continue to ${provider}</button></form>`,
  })
  response.headers.append(
    'Set-Cookie',
    `${cookieName(secure)}=${click}; Path=/; HttpOnly; SameSite=Lax; Max-Age=1800${secure ? '; Secure' : ''}`,
  )
  return response
}

/** A page of another site can send the form, but neither the cookie with it (SameSite) nor the value in it. */
export function isClicked(click: string | null, cookies: string | undefined, secure: boolean): boolean {
  const kept = parse(cookies ?? '')[cookieName(secure)]
  return click !== null && kept !== undefined && sameBytes(sha256(click), sha256(kept))
}
