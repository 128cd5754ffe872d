/** The pages an end user sees: where a sign-in begins and where it ends. Server-rendered, one language of their own: plain words. */
import type { ErrorCode } from '@fairlead/contract'
import type { Failure } from '../errors.ts'
import { type Html, html, page } from '../http/page.ts'
import type { Integration } from '../integration/store.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import type { Connected } from './callback.ts'
import { describeAccount, givenFacts, type Target } from './reconnect.ts'

/** JSON inside a script element: `</script>` in a text, such as a parameter's name, must not end the element. */
const scriptJson = (value: object): string => JSON.stringify(value).replaceAll('<', '\\u003c')

/** Tells a page of ours that opened this one; the message is the one existing clients listen for. */
const announce = (message: object): string => `
history.replaceState(null,'',location.pathname);
try{const channel=new BroadcastChannel('nango-oauth-callback');channel.postMessage(${scriptJson(message)});channel.close()}catch{}
document.querySelector('[data-close]')?.addEventListener('click',()=>window.close());`

export const connectedPage = ({ integration, provider, operation, config, warnings }: Connected): Response => {
  const again = operation === 'override'
  const name = integration.displayName ?? provider.display_name
  const account = typeof config.instance_url === 'string' ? URL.parse(config.instance_url)?.host : undefined
  return page({
    title: `${name} is connected${again ? ' again' : ''}`,
    status: 200,
    body: html`
      <div class="mark good"><span aria-hidden="true">✓</span> ${again ? 'Reconnected' : 'Connected'}</div>
      <h1>${name} is connected${again ? ' again' : ''}</h1>
      ${account ? html`<p>Account<br><code>${account}</code></p>` : html``}
      ${warnings.map(
        ({ payload: { live, limit } }) => html`
        <p class="soft">This account has now been connected ${live} times, and ${provider.display_name} keeps ${limit} connections of one account: one
          more than that silently ends the oldest. Ask the product you came from to remove those it does not use.</p>`,
      )}
      <p class="soft">You can close this window. Access lasts until you or the product you came from end it.</p>
      <button type="button" class="quiet" data-close>Close this window</button>`,
    script: `${announce({ type: 'nango_oauth_callback_success' })}
if(window.opener)setTimeout(()=>window.close(),500);`,
  })
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

const announceFailure = (failure: Failure): string =>
  announce({
    type: 'nango_oauth_callback_error',
    payload: { message: failure.message, errorType: failure.code },
  })

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
    script: `if(location.search){${announceFailure(failure)}}`,
  })

/** What happened, why most likely, what to do now. What a provider wrote is shown as text, never as markup. */
export function failedPage(failure: Failure): Response {
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
      <h1>${headings[failure.code] ?? 'The account was not connected'}</h1>
      <p>${failure.message}</p>
      ${expected && got ? sideBySide(expected, got) : html``}
      ${typeof said === 'string' && said ? html`<p class="soft">The provider said: <code>${said}</code></p>` : html``}
      <p class="soft">If you ask for help, quote this: <code>${failure.code}</code></p>
      <button type="button" class="quiet" data-close>Close this window</button>`,
    script: announceFailure(failure),
  })
}

const sideBySide = (expected: Record<string, string>, got: Record<string, string>): Html => html`
  <table><tr><th></th><th>Connected</th><th>Signed in as</th></tr>
    ${[...new Set([...Object.keys(expected), ...Object.keys(got)])].map(
      label =>
        html`<tr><th>${label}</th><td><code>${expected[label] ?? '–'}</code></td><td><code>${got[label] ?? '–'}</code></td></tr>`,
    )}</table>`

export interface Choice {
  integration: Integration
  provider: Provider
}

/** One button per integration. Nothing begins before a click: a link opened by a mail scanner does nothing. */
export function choosePage(choices: Choice[], token: string, who: string | undefined): Response {
  return page({
    title: 'Connect an account',
    status: 200,
    formAction: formActionOf(choices),
    body: html`
      <h1>Connect an account</h1>
      <p>${who ? `You are connecting as ${who}. ` : ''}You sign in at the provider; your password is never seen here. Access lasts until
        you or the product you came from end it.</p>
      ${choices.length === 0 ? html`<p>There is nothing to connect yet. The product you came from has to set up an integration first.</p>` : html``}
      ${choices.map(choice => choiceForm(choice, token))}`,
  })
}

/** The form is redirected to the provider, and browsers hold form-action against redirects too. */
const formActionOf = (choices: Choice[]): string =>
  ["'self'", 'https:', ...new Set(choices.flatMap(choice => plainOrigins(choice.provider)))].join(' ')

/** Names the account it expects: another one will be refused. */
export function reconnectPage(choice: Choice, target: Target, token: string, who: string | undefined): Response {
  const { integration, provider } = choice
  const name = integration.displayName ?? provider.display_name
  const account = describeAccount(provider, target.config)
  return page({
    title: `Reconnect ${name}`,
    status: 200,
    formAction: formActionOf([choice]),
    body: html`
      <h1>Reconnect ${name}</h1>
      <p>${who ? `You are reconnecting as ${who}. ` : ''}Sign in at the provider as this account; another one is refused, and nothing else changes.</p>
      <table>
        ${account.map(([label, value]) => html`<tr><th>${label}</th><td><code>${value}</code></td></tr>`)}
        <tr><th>Connection</th><td><code>${target.connection.connectionId}</code></td></tr>
      </table>
      ${choiceForm(choice, token, { verb: 'Reconnect', known: givenFacts(provider, target.config) })}`,
  })
}

function choiceForm(
  { integration, provider }: Choice,
  token: string,
  { verb, known }: { verb: string; known: ConnectionConfig } = { verb: 'Connect', known: {} },
): Html {
  const fields = Object.entries(provider.connection_config ?? {})
    .filter(([, field]) => !field.automated && !field.hidden)
    .sort(([, a], [, b]) => (a.order ?? 0) - (b.order ?? 0))
  return html`
    <form method="get" action="/oauth/connect/${encodeURIComponent(integration.key)}" autocomplete="off">
      <input type="hidden" name="connect_session_token" value="${token}">
      ${fields.map(
        ([name, field]) => html`
        <label>${field.title ?? name}${field.optional ? ' (if you know it)' : ''}
          <input name="params[${name}]" placeholder="${field.example ?? ''}" value="${typeof known[name] === 'string' ? known[name] : ''}" ${field.optional ? html`` : html`required`}></label>
        ${field.description ? html`<p class="soft">${field.description}</p>` : html``}`,
      )}
      <button>${verb} ${integration.displayName ?? provider.display_name}</button>
    </form>`
}

/** Origins of a provider's authorization page that are not https: local work against a simulator. */
const plainOrigins = (provider: Provider): string[] =>
  [...(provider.authorization_url ?? '').matchAll(/http:\/\/[^/\s$]+/g)].map(match => match[0])
