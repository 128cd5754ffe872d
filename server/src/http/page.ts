/** What every page of ours carries: a strict policy, one nonce, and text that is only ever text. */
import { readFileSync } from 'node:fs'
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

/** The one visual language: the tokens every face refers to, and what these pages make of them. */
const tokens = readFileSync(new URL('../../../theme/tokens.css', import.meta.url), 'utf8').replace(
  /\/\*.*?\*\/|\n\s*/gs,
  '',
)
const style = `${tokens}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:var(--type-connect);font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:480px;margin:10vh auto;padding:var(--space-6);background:var(--card);border:1px solid var(--line);border-radius:var(--radius-sheet);box-shadow:var(--shadow)}
main.wide{max-width:960px;margin:var(--space-6) auto}
main.wide section{overflow-x:auto}main.wide button{width:auto;padding-inline:var(--space-6)}
main.doc{max-width:780px;margin:var(--space-6) auto;padding:var(--space-6) var(--space-7) var(--space-7)}
h1{font:var(--type-title);margin:0 0 var(--space-2);text-wrap:balance}
main.doc h1{font:var(--type-display);letter-spacing:-.01em;margin-bottom:var(--space-4)}
h2{font:600 16px/24px var(--font);margin:var(--space-6) 0 var(--space-2)}
main.doc h2{font:var(--type-title);margin-top:var(--space-7);padding-top:var(--space-5);border-top:1px solid var(--line)}
main.doc h3{font:600 16px/24px var(--font);margin:var(--space-6) 0 var(--space-2)}
p{margin:0 0 var(--space-4)}.soft{color:var(--soft);font:var(--type-body)}
a{color:var(--accent);text-underline-offset:2px}
.mark{display:inline-flex;align-items:center;gap:var(--space-2);font:600 13px/20px var(--font);margin-bottom:var(--space-4);padding:2px 12px 2px 8px;border-radius:999px}
.good{color:var(--active)}.bad{color:var(--attention)}.part{color:var(--degraded)}
.mark.good{background:var(--active-wash)}.mark.bad{background:var(--attention-wash)}.mark.part{background:var(--degraded-wash)}
.note{margin-bottom:var(--space-4);padding:var(--space-4);border-radius:var(--radius-card);background:var(--degraded-wash)}.note>:last-child{margin-bottom:0}.note .soft{color:var(--ink)}.note code{background:none;padding:0;font-weight:600}
.button,button{display:block;width:100%;padding:11px var(--space-4);margin:var(--space-2) 0;border:1px solid transparent;border-radius:var(--radius-control);background:var(--accent);color:var(--on-accent);font:600 16px/24px var(--font);text-align:center;text-decoration:none;cursor:pointer;transition:background var(--quick)}
.button:hover,button:hover{background:var(--accent-strong)}
.button.quiet,button.quiet{background:none;color:var(--ink);border-color:var(--edge)}
.button.quiet:hover,button.quiet:hover{background:var(--sunken)}
:focus-visible{outline:var(--focus);outline-offset:2px}
code,pre,.mono{font-family:var(--mono);font-size:.9em}
code{background:var(--sunken);padding:1px 5px;border-radius:4px;overflow-wrap:anywhere}
pre{background:var(--sunken);padding:var(--space-4);border-radius:var(--radius-card);overflow:auto;font-size:13px;line-height:20px}pre code{padding:0;background:none}
h1,h2,h3,li,td{overflow-wrap:anywhere}
table{width:100%;margin-bottom:var(--space-4);border-collapse:collapse;font:var(--type-table)}th,td{text-align:start;padding:var(--space-2);border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:600}
label{display:block;font:var(--type-body);margin-bottom:var(--space-1)}
form+form{margin-top:var(--space-5);padding-top:var(--space-5);border-top:1px solid var(--line)}
input{width:100%;padding:10px 12px;border:1px solid var(--edge);border-radius:var(--radius-control);background:var(--card);color:var(--ink);font:inherit}
ul,ol{padding-inline-start:20px}li{margin-bottom:var(--space-1)}
@media(max-width:560px){main,main.wide,main.doc{margin:0;border:0;border-radius:0;box-shadow:none;min-height:100vh;padding:var(--space-5)}}`

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
