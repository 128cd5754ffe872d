/** What every page of the documentation stands in. Style and script are files of this origin, so that a page can also be exported. */
import { Html, html } from '../http/page.ts'
import { type Page, sections } from './pages.ts'

/** A line through a ring: what a fairlead is. */
const mark = new Html(
  '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20" viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="4" aria-hidden="true"><circle cx="16" cy="16" r="9"/><path d="M2 26 30 6" stroke-linecap="round"/></svg>',
)

export interface Shown {
  path: string
  title: string
  body: Html
}

type Listed = Pick<Page, 'path' | 'title' | 'section' | 'listed'>

export function layout(pages: Listed[], { path, title, body }: Shown): string {
  const links = sections.map(section => {
    const inside = pages.filter(page => page.section === section && page.listed)
    return html`<h2>${section}</h2><ul>${inside.map(
      page =>
        html`<li><a href="${page.path}"${page.path === path ? new Html(' aria-current="page"') : ''}>${page.title}</a></li>`,
    )}</ul>`
  })
  // Wide tables scroll by themselves; the page never does sideways.
  const shown = new Html(
    body.markup.replaceAll('<table>', '<div class="scroll"><table>').replaceAll('</table>', '</table></div>'),
  )
  return html`${new Html('<!doctype html>')}
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>${title} · Fairlead</title><link rel="icon" href="/docs/assets/icon.svg"><link rel="stylesheet" href="/docs/assets/docs.css">
<script type="module" src="/docs/assets/docs.js"></script></head>
<body><a class="skip" href="#content">Skip to the page</a>
<header class="top"><a href="/docs/">${mark}Fairlead docs</a>
<div class="search" role="search"><input type="search" placeholder="Search ( / )" aria-label="Search the documentation" role="combobox" aria-expanded="false" aria-controls="found" autocomplete="off"><ol id="found" role="listbox" aria-label="Found"></ol></div></header>
<div class="frame"><nav class="pages" aria-label="Pages"><details open><summary>Pages</summary>${links}</details></nav>
<main id="content">${shown}</main></div></body></html>
`.markup
}

export const icon =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke="#1a8f9b" stroke-width="4"><circle cx="16" cy="16" r="9"/><path d="M2 26 30 6" stroke-linecap="round"/></svg>'
