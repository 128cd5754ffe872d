/** Markdown of our own guides as elements: the page's policy lets no markup in, so it is built, not parsed as HTML. */
import type { ReactNode } from 'react'

/** Code, bold and links within a line. */
export function Inline({ text }: { text: string }): ReactNode {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|\[[^\]]+\]\([^)]+\))/).map((part, n) => {
    const key = `${n}${part}`
    if (part.startsWith('`')) return <code key={key}>{part.slice(1, -1)}</code>
    if (part.startsWith('**')) return <strong key={key}>{part.slice(2, -2)}</strong>
    if (/^\*[^*]/.test(part) && part.endsWith('*')) return <em key={key}>{part.slice(1, -1)}</em>
    const [, label, href = ''] = /^\[([^\]]+)\]\(([^)]+)\)$/.exec(part) ?? []
    if (label === undefined) return part
    return /^(https:|\/)/.test(href) ? (
      <a key={key} href={href} target="_blank" rel="noreferrer">
        {label}
      </a>
    ) : (
      label
    )
  })
}

export function Prose({ text }: { text: string }) {
  const blocks = text.trim().split(/\n{2,}/)
  return (
    <div className="prose">
      {blocks.map((block, n) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: text that never changes places
        <Block key={n} text={block} />
      ))}
    </div>
  )
}

function Block({ text }: { text: string }): ReactNode {
  const lines = text.split('\n')
  const first = lines[0] ?? ''
  if (first.startsWith('```'))
    return (
      <pre>
        {lines
          .slice(1)
          .filter(line => !line.startsWith('```'))
          .join('\n')}
      </pre>
    )
  if (first.startsWith('|')) return <Table lines={lines} />
  if (/^#+ /.test(first))
    return (
      <h3>
        <Inline text={first.replace(/^#+ /, '')} />
      </h3>
    )
  const marker = /^\s*([-*]|\d+\.) /
  if (marker.test(first)) {
    const items = lines.reduce<string[]>((all, line) => {
      if (marker.test(line)) all.push(line.replace(marker, ''))
      else all[all.length - 1] += ` ${line.trim()}`
      return all
    }, [])
    const List = /^\s*\d/.test(first) ? 'ol' : 'ul'
    return (
      <List>
        {items.map(item => (
          <li key={item}>
            <Inline text={item} />
          </li>
        ))}
      </List>
    )
  }
  return (
    <p>
      <Inline text={lines.map(line => line.replace(/^> ?/, '')).join(' ')} />
    </p>
  )
}

function Table({ lines }: { lines: string[] }) {
  const cells = (line: string) =>
    line
      .replace(/^\||\|$/g, '')
      .split('|')
      .map(cell => cell.trim())
  const [head = '', , ...body] = lines
  return (
    <table>
      <thead>
        <tr>
          {cells(head).map(cell => (
            <th key={cell}>
              <Inline text={cell} />
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {body.map(line => (
          <tr key={line}>
            {cells(line).map(cell => (
              <td key={cell}>
                <Inline text={cell} />
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  )
}
