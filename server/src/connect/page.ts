/** The pages where a sign-in ends, server-rendered: they must work when nothing else does, and plain words are their one language. */
import type { ErrorCode, ExplainedCause, Explanation } from '@fairlead/contract'
import type { Failure } from '../errors.ts'
import { type Html, html, page } from '../http/page.ts'
import type { Connected } from './callback.ts'
import { announce } from './notify.ts'
import { BelongsElsewhere } from './start.ts'

/** Who hears of it besides the person who looks at it. */
export interface Audience {
  /** The origin of the page that opened this one. */
  opener: string | null
  isAwaited: boolean
}

export const nobody: Audience = { opener: null, isAwaited: false }

export const connectedPage = (
  { integration, provider, operation, config, warnings, missingScopes }: Connected,
  { opener, isAwaited }: Audience,
): Response => {
  const again = operation === 'override'
  const name = integration.displayName ?? provider.display_name
  const account = typeof config.instance_url === 'string' ? URL.parse(config.instance_url)?.host : undefined
  return page({
    title: `${name} is connected${again ? ' again' : ''}`,
    status: 200,
    body: html`
      ${
        missingScopes.length > 0
          ? html`<div class="mark part"><span aria-hidden="true">◐</span> ${again ? 'Reconnected' : 'Connected'}, in part</div>`
          : html`<div class="mark good"><span aria-hidden="true">✓</span> ${again ? 'Reconnected' : 'Connected'}</div>`
      }
      <h1>${name} is connected${again ? ' again' : ''}</h1>
      ${account ? html`<p>Account<br><code>${account}</code></p>` : html``}
      ${
        missingScopes.length > 0
          ? html`
        <div class="note">
        <p>${provider.display_name} granted less than was asked for:</p>
        <ul>${missingScopes.map(scope => html`<li><code>${scope}</code>${scopeText(provider, scope)}</li>`)}</ul>
        <p class="soft">Some of what the product does may not work. Whoever looks after its app at ${provider.display_name} can add this to the app’s
          OAuth scopes; then connect once more.</p></div>`
          : html``
      }
      ${warnings.map(
        ({ payload: { live, limit } }) => html`
        <p class="soft">This account has now been connected ${live} times, and ${provider.display_name} keeps ${limit} connections of one account: one
          more than that silently ends the oldest. Ask the product you came from to remove those it does not use.</p>`,
      )}
      <p class="soft">You can close this window. Access lasts until you or the product you came from end it.</p>
      <button type="button" class="quiet" data-close>Close this window</button>`,
    script: announce({ type: 'nango_oauth_callback_success' }, opener, isAwaited),
  })
}

/** In English, as this page is. */
function scopeText({ scope_descriptions: texts }: Connected['provider'], scope: string): string {
  const text = texts?.[scope]
  const english = typeof text === 'string' ? text : text?.en
  return english === undefined ? '' : `: ${english}`
}

const headings: Partial<Record<ErrorCode, string>> = {
  access_denied: 'Access was not granted',
  state_unknown: 'This sign-in has already ended',
  browser_mismatch: 'This sign-in belongs to another browser',
  token_client_invalid: 'The provider does not know this app',
  token_endpoint_unreachable: 'The provider cannot be reached',
  token_exchange_unanswered: 'The provider did not answer',
  unknown_connect_session_token: 'This link has ended',
  account_mismatch: 'This is another account',
}

const announceFailure = (failure: Failure, { opener, isAwaited }: Audience): string =>
  announce(
    { type: 'nango_oauth_callback_error', payload: { message: failure.message, errorType: failure.code } },
    opener,
    isAwaited,
  )

/** The callback's address without a sign-in in it: most often our own page, reloaded or opened from the history, and then nothing failed. */
const nothingHerePage = (failure: Failure): Response =>
  page({
    title: 'A sign-in ends here',
    status: 400,
    body: html`
      <h1>A sign-in ends here, once</h1>
      <p>If this page said a moment ago that an account is connected, it is, and opening it again changed nothing.</p>
      <p>Otherwise start the sign-in again from the product you came from.</p>
      <p class="soft">If you ask for help, quote this: <code>${failure.code}</code></p>`,
    script: `if(location.search){${announceFailure(failure, nobody)}}`,
  })

/** What happened, why most likely, what to do now. What a provider wrote is shown as text, never as markup. */
export function failedPage(failure: Failure, audience: Audience): Response {
  const instead = failure instanceof BelongsElsewhere ? failure.instead : undefined
  if (failure.code === 'state_missing') return nothingHerePage(failure)
  const {
    provider_said: said,
    expected,
    got,
  } = (failure.payload ?? {}) as {
    provider_said?: unknown
    expected?: Record<string, string>
    got?: Record<string, string>
  }
  return page({
    title: 'The account was not connected',
    status: failure.code === 'server_error' ? 500 : 400,
    body: html`
      <div class="mark bad"><span aria-hidden="true">!</span> Not connected</div>
      <h1>${failure.explained?.title ?? headings[failure.code] ?? 'The account was not connected'}</h1>
      <p>${failure.message}</p>
      ${failure.explained ? reasons(failure.explained) : html``}
      ${instead ? html`<p><a class="button" href="${instead.location}">Sign in on ${instead.name} instead</a></p>` : html``}
      ${expected && got ? sideBySide(expected, got) : html``}
      ${typeof said === 'string' && said ? html`<p class="soft">The provider said: <code>${said}</code></p>` : html``}
      <p class="soft">If you ask for help, quote this: <code>${failure.code}</code></p>
      <button type="button" class="quiet" data-close>Close this window</button>`,
    script: announceFailure(failure, audience),
  })
}

/** The likeliest first; of many, those after the third wait behind a click. */
function reasons({ explanations }: ExplainedCause): Html {
  const [only, ...more] = explanations
  if (only && more.length === 0) return html`<p>${only.text}</p><p>${remedy(only)}</p>`
  const item = (one: Explanation) => html`<li>${one.text}<br>${remedy(one)}</li>`
  const rest = explanations.slice(3)
  return html`<ol>${explanations.slice(0, 3).map(item)}</ol>
    ${rest.length > 0 ? html`<details><summary>Less likely</summary><ol start="4">${rest.map(item)}</ol></details>` : html``}`
}

const remedy = ({ fix, link }: Explanation): Html =>
  html`<strong>${fix}</strong>${link ? html` <a href="${link}" target="_blank" rel="noreferrer">Open it at the provider</a>` : html``}`

const sideBySide = (expected: Record<string, string>, got: Record<string, string>): Html => html`
  <table><tr><th></th><th>Connected</th><th>Signed in as</th></tr>
    ${[...new Set([...Object.keys(expected), ...Object.keys(got)])].map(
      label =>
        html`<tr><th>${label}</th><td><code>${expected[label] ?? '–'}</code></td><td><code>${got[label] ?? '–'}</code></td></tr>`,
    )}</table>`
