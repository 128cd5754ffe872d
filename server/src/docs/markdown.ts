/**
 * Markdown to HTML, the one place. Raw HTML in a page stays text. Beyond CommonMark and its tables: every heading has an anchor,
 * ```` ```copy Label ```` is a value with a button to copy it, and `- [x]` a checkbox as it should stand.
 */
import type { MarkdownIt } from 'markdown-it'
import { escapeHtml } from '../http/page.ts'

type Render = (markdown: string) => string

let renderer: Promise<Render> | undefined

/** Made at the first page: 30 ms that no start should wait for. */
export const markdown = (): Promise<Render> => {
  renderer ??= import('markdown-it').then(({ default: Markdown }) =>
    build(new Markdown({ html: false, linkify: false })),
  )
  return renderer
}

export const slug = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '')

const check = /^\[([ x])\] /

function build(md: MarkdownIt): Render {
  md.core.ruler.push('anchors_and_checks', ({ tokens }) => {
    for (const [i, token] of tokens.entries()) {
      const text = tokens[i + 1]
      if (token.type === 'heading_open' && text) token.attrSet('id', slug(text.content))
      if (token.type !== 'list_item_open') continue
      const inline = tokens.slice(i + 1).find(({ type }) => type === 'inline')
      const first = inline?.children?.[0]
      const found = first && check.exec(first.content)
      if (!found) continue
      first.content = first.content.slice(found[0].length)
      token.attrSet('class', found[1] === 'x' ? 'check on' : 'check off')
    }
  })
  const fence = md.renderer.rules.fence!
  md.renderer.rules.fence = (tokens, i, ...rest) => {
    const { info, content } = tokens[i]!
    const label = /^copy (.+)$/.exec(info.trim())?.[1]
    if (label === undefined) return fence(tokens, i, ...rest)
    return `<div class="copy"><span>${escapeHtml(label)}</span><code>${escapeHtml(content.trimEnd())}</code><button type="button" data-copy>Copy</button></div>\n`
  }
  return source => md.render(source)
}

/** The values of ```` ```copy ```` blocks, wherever they are indented to. */
export const copiesIn = (source: string): { label: string; value: string }[] =>
  [...source.matchAll(/^( *)```copy (.+)\n([\s\S]*?)^\1```$/gm)].map(([, indent = '', label, content = '']) => ({
    label: label!,
    value: content.replaceAll(new RegExp(`^${indent}`, 'gm'), '').trimEnd(),
  }))

/** `- [x] **Label**: reason`, its continuation lines joined. */
export const checksIn = (source: string): { label: string; checked: boolean; reason: string }[] =>
  [...source.matchAll(/^- \[([ x])\] ([^\n]+(?:\n {2,}[^\n]+)*)/gm)].map(([, mark, content = '']) => {
    const text = content.replace(/\s*\n\s+/g, ' ')
    const [, label = text, reason = ''] = /^(.*?\*\*[^:]*?):\s*(.*)$/.exec(text) ?? []
    return { label: label.replaceAll('**', ''), checked: mark === 'x', reason }
  })
