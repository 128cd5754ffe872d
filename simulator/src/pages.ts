// The HTML a person sees: login, consent, OAuth error, edge failures and the front page. Self-contained, no scripts,
// no external requests, and every page says it is a simulator.

const esc = (text: string) =>
  text.replace(/[&<>"']/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c] ?? c)

const style = `
  :root { color-scheme: light dark; --ink: #16325c; --soft: #54698d; --line: #d8dde6; --page: #f4f6f9; --card: #fff;
    --act: #0b5cab; --on-act: #fff; --bad: #b3231a }
  @media (prefers-color-scheme: dark) { :root { --ink: #e6ecf5; --soft: #a9b6c9; --line: #3a4a61; --page: #101826;
    --card: #182234; --act: #6bb0f5; --on-act: #0b1626; --bad: #ff8f86 } }
  * { box-sizing: border-box }
  body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
  .banner { margin: 0; padding: .5rem 1rem; text-align: center; font-size: .875rem; background: #fbe3b5; color: #4a3200 }
  main { max-width: 26rem; margin: 3rem auto; padding: 2rem; background: var(--card); border: 1px solid var(--line);
    border-radius: .5rem }
  main.wide { max-width: 60rem }
  h1 { margin: 0 0 .25rem; font-size: 1.375rem } p { margin: .25rem 0 1rem } .soft { color: var(--soft) }
  label { display: block; margin: 1rem 0 .25rem; font-weight: 600; font-size: .875rem }
  input { width: 100%; padding: .6rem .7rem; font: inherit; color: inherit; background: transparent;
    border: 1px solid var(--soft); border-radius: .25rem }
  .row { display: flex; gap: .75rem; margin-top: 1.5rem }
  button { flex: 1; padding: .65rem 1rem; font: inherit; font-weight: 600; cursor: pointer; border-radius: .25rem;
    border: 1px solid var(--act); background: var(--act); color: var(--on-act) }
  button.plain { background: transparent; color: var(--act) }
  :focus-visible { outline: 3px solid var(--act); outline-offset: 2px }
  .problem { padding: .6rem .75rem; border-left: 4px solid var(--bad); color: var(--bad) }
  code, pre { font: .875rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
  table { width: 100%; border-collapse: collapse; margin: 0 0 1.5rem } th, td { padding: .4rem .5rem .4rem 0;
    text-align: left; vertical-align: top; border-top: 1px solid var(--line); font-size: .875rem }
`

function page(title: string, body: string, wide = false): string {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${esc(title)} (simulator)</title><style>${style}</style></head>
<body><p class="banner">Simulated Salesforce on this computer. Nothing here reaches Salesforce.</p>
<main${wide ? ' class="wide"' : ''}>${body}</main></body>
</html>
`
}

export type LoginPage = {
  action: string
  request: string
  where: string
  sandbox: boolean
  username: string
  password: string
  problem?: string
}

export const loginPage = (p: LoginPage) =>
  page(
    'Log in',
    `<h1>Log in${p.sandbox ? ' to sandbox' : ''}</h1><p class="soft">${esc(p.where)}</p>
${p.problem ? `<p class="problem" role="alert">${esc(p.problem)}</p>` : ''}
<form method="post" action="${esc(p.action)}">
<input type="hidden" name="request" value="${esc(p.request)}">
<label for="username">Username</label>
<input id="username" name="username" type="text" autocomplete="off" required value="${esc(p.username)}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="off" required value="${esc(p.password)}">
<div class="row"><button id="Login" type="submit">Log In</button></div>
</form><p class="soft">A demo user is filled in for you.</p>`,
  )

export type ConsentPage = {
  action: string
  request: string
  app: string
  username: string
  org: string
  scopes: string[]
}

const SCOPE_LABEL: Record<string, string> = {
  api: 'Manage user data via APIs',
  refresh_token: 'Perform requests at any time',
  offline_access: 'Perform requests at any time',
  id: 'Access the identity URL service',
  openid: 'Access unique user identifiers',
  full: 'Full access',
  web: 'Manage user data via Web browsers',
}

export const consentPage = (p: ConsentPage) =>
  page(
    'Allow access?',
    `<h1>Allow access?</h1><p><strong>${esc(p.app)}</strong> is asking to:</p>
<ul>${p.scopes.map(scope => `<li>${esc(SCOPE_LABEL[scope] ?? scope)} <code>${esc(scope)}</code></li>`).join('')}</ul>
<p class="soft">Logged in as ${esc(p.username)}, org ${esc(p.org)}</p>
<form method="post" action="${esc(p.action)}"><input type="hidden" name="request" value="${esc(p.request)}">
<div class="row"><button class="plain" name="decision" value="deny">Deny</button>
<button name="decision" value="allow">Allow</button></div></form>`,
  )

/** The real page's exact wording and address are unverified (fact sheet §10); what counts: the app hears nothing. */
export const oauthErrorPage = (error: string, description: string) =>
  page(
    'OAuth error',
    `<h1>We can’t authorize you because of an OAuth error.</h1>
<p>For more information, contact your Salesforce administrator.</p>
<p class="problem" role="alert"><code>${esc(error)}</code> : ${esc(description)}</p>
<p class="soft">As with the real Salesforce, the app’s callback is not called: it cannot know this happened.</p>`,
  )

/** Edge answers are HTML whatever was asked for (fact sheet §6.2). */
export const edgePage = (title: string, text: string) => page(title, `<h1>${esc(title)}</h1><p>${esc(text)}</p>`)

export type FrontPage = {
  hosts: { name: string; path: string }[]
  apps: { org: string; clientId: string; clientSecret: string; callbacks: string[] }[]
  users: { username: string; password: string; org: string }[]
}

export const frontPage = (p: FrontPage) =>
  page(
    'Salesforce simulator',
    `<h1>Salesforce simulator</h1>
<p>Each host by name (browsers) and by path (any client):</p>
<table><tr><th>By name</th><th>By path</th></tr>
${p.hosts.map(h => `<tr><td><code>${esc(h.name)}</code></td><td><code>${esc(h.path)}</code></td></tr>`).join('')}</table>
<table><tr><th>Org</th><th>Client id, secret, callbacks</th></tr>
${p.apps
  .map(
    a =>
      `<tr><td>${esc(a.org)}</td><td><code>${esc(a.clientId)}</code><br><code>${esc(a.clientSecret)}</code><br>${a.callbacks
        .map(c => `<code>${esc(c)}</code>`)
        .join('<br>')}</td></tr>`,
  )
  .join('')}</table>
<table><tr><th>Org</th><th>User</th><th>Password</th></tr>
${p.users
  .map(
    u =>
      `<tr><td>${esc(u.org)}</td><td><code>${esc(u.username)}</code></td><td><code>${esc(u.password)}</code></td></tr>`,
  )
  .join('')}</table>
<p>Break things: <a href="/__admin/"><code>/__admin/</code></a></p>`,
    true,
  )
