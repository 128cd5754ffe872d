/** What every page of ours carries: a strict policy, one nonce, and text that is only ever text. */
import { randomToken } from '../lib/id.ts'

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, char => escapes[char]!)

/** Markup that was built, not received. */
export class Html {
  readonly markup: string

  constructor(markup: string) {
    this.markup = markup
  }
}

/** Tags a template as HTML: every value is escaped unless it is Html itself. */
export function html(strings: TemplateStringsArray, ...values: (string | number | Html | Html[])[]): Html {
  const shown = values.map(value =>
    value instanceof Html
      ? value.markup
      : Array.isArray(value)
        ? value.map(part => part.markup).join('')
        : escapeHtml(String(value)),
  )
  return new Html(strings.reduce((markup, part, i) => `${markup}${shown[i - 1]}${part}`))
}

export interface Page {
  title: string
  body: Html
  /** Runs with the page's nonce. Built here, never from what was received. */
  script?: string
  status: number
  /** Origins this page may talk to beside its own: none. Forms may post to these paths or origins. */
  formAction?: string
}

/** Tokens of the one visual language, both themes. The faces of later versions refer to the same names. */
const style = `
:root{color-scheme:light dark;--ground:#f6f8f9;--card:#fff;--ink:#14212b;--soft:#52636f;--line:#d5dde2;--accent:#0b6b75;--on-accent:#fff;--good:#0d6b3f;--bad:#a3271f;--code:#eef2f4}
@media(prefers-color-scheme:dark){:root{--ground:#0f171c;--card:#172229;--ink:#e8eef1;--soft:#9fb0ba;--line:#2c3b44;--accent:#56c2cc;--on-accent:#06262a;--good:#5fd39b;--bad:#ff9a90;--code:#0f181d}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/24px system-ui,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:480px;margin:10vh auto;padding:32px;background:var(--card);border:1px solid var(--line);border-radius:14px}
main.wide{max-width:960px;margin:32px auto}
main.wide section{overflow-x:auto}main.wide button{width:auto;padding-inline:32px}
main.doc{max-width:760px;margin:32px auto;padding:32px 48px}
@media(max-width:560px){main,main.wide,main.doc{margin:0;border:0;border-radius:0;min-height:100vh;padding:24px}}
h1{font-size:20px;line-height:28px;margin:0 0 8px}
main.doc h1{font-size:28px;line-height:36px;margin-bottom:16px}
h2{font-size:16px;line-height:24px;margin:32px 0 8px}
main.doc h2{font-size:20px;line-height:28px}
p{margin:0 0 16px}.soft{color:var(--soft);font-size:14px;line-height:22px}
a{color:var(--accent)}
.mark{display:inline-flex;align-items:center;gap:8px;font-size:14px;line-height:22px;font-weight:600;margin-bottom:16px}
.good{color:var(--good)}.bad{color:var(--bad)}
.button,button{display:block;width:100%;padding:12px 16px;margin:8px 0;border:1px solid transparent;border-radius:6px;background:var(--accent);color:var(--on-accent);font:inherit;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}
.button.quiet,button.quiet{background:none;color:var(--accent);border-color:var(--line)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
code,pre,.mono{font-family:ui-monospace,monospace;font-size:.9em}
code{background:var(--code);padding:1px 4px;border-radius:4px;overflow-wrap:anywhere}
pre{background:var(--code);padding:16px;border-radius:10px;overflow:auto;line-height:20px;font-size:13px}pre code{padding:0;background:none}
table{width:100%;margin-bottom:16px;border-collapse:collapse;font-size:13px;line-height:20px}th,td{text-align:left;padding:8px;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:600}
label{display:block;font-size:14px;line-height:22px;margin-bottom:4px}
form+form{margin-top:24px;padding-top:24px;border-top:1px solid var(--line)}
input{width:100%;padding:10px 12px;border:1px solid var(--line);border-radius:6px;background:var(--ground);color:var(--ink);font:inherit}
ul{padding-left:20px}`

/** In the page, because a browser asks for /favicon.ico of a page that names none. A line through a ring: what a fairlead is. */
const icon = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke="#1a8f9b" stroke-width="4"><circle cx="16" cy="16" r="9"/><path d="M2 26 30 6" stroke-linecap="round"/></svg>',
)}`

/** A whole page: no third-party origin, no inline handler, not frameable, no referrer, not stored. */
export function page({ title, body, script, status, formAction }: Page, wide = ''): Response {
  const nonce = randomToken(128)
  const policy = [
    "default-src 'none'",
    `style-src 'nonce-${nonce}'`,
    `script-src 'nonce-${nonce}'`,
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    `form-action ${formAction ?? "'none'"}`,
    "frame-ancestors 'none'",
  ].join('; ')
  const text = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>${escapeHtml(title)}</title><link rel="icon" href="${icon}"><style nonce="${nonce}">${style}</style></head>
<body><main${wide ? ` class="${wide}"` : ''}>${body.markup}</main>${script ? `<script nonce="${nonce}">${script}</script>` : ''}</body></html>`
  return new Response(text, {
    status,
    headers: {
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy': policy,
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    },
  })
}
