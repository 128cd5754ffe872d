/** What a person reads: aligned tables, instants as people say them, colour only on a terminal that wants it. */
import { stripVTControlCharacters, styleText } from 'node:util'

export interface Screen {
  /** For data: standard output. */
  print(text: string): void
  /** For data that is somebody else's, as it comes. */
  pass(bytes: Uint8Array): Promise<void>
  /** For what is said beside it, questions and progress: standard error. */
  say(text: string): void
  /** Draws over the line before, on a terminal; silent elsewhere. */
  progress(text: string): void
  colour(format: Parameters<typeof styleText>[0], text: string): string
  now(): number
}

export function createScreen(out: NodeJS.WriteStream, err: NodeJS.WriteStream): Screen {
  return {
    print: text => void out.write(`${text}\n`),
    pass: bytes => new Promise(resolve => void out.write(bytes, () => resolve())),
    say: text => void err.write(`${text}\n`),
    progress: text => void (err.isTTY && err.write(`\r\x1b[2K${text}`)),
    // Obeys NO_COLOR and says nothing to what is not a terminal.
    colour: (format, text) => styleText(format, text, { stream: out }),
    now: Date.now,
  }
}

/** Names come from end users: what would move a terminal's cursor is shown, not obeyed. */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, char => `\\u${char.codePointAt(0)!.toString(16).padStart(4, '0')}`)

/** JSON escapes the control characters below U+0020 only. */
const escaped = (json: string): string =>
  json.replace(/[\u007f-\u009f\u2028\u2029]/g, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)

export const jsonText = (value: unknown): string => escaped(JSON.stringify(value, null, 2))

export const jsonLine = (value: unknown): string => escaped(JSON.stringify(value))

const width = (text: string): number => [...stripVTControlCharacters(text)].length

/** Columns as wide as their widest cell; the last one ends where it ends. Cells are printable already. */
export function table(head: string[], rows: string[][]): string {
  const widths = head.map((title, i) => Math.max(width(title), ...rows.map(row => width(row[i] ?? ''))))
  return [head.map(title => title.toUpperCase()), ...rows]
    .map(row =>
      row
        .map((cell, i) => (i === head.length - 1 ? cell : cell + ' '.repeat(widths[i]! - width(cell))))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Label and value, one below the other. */
export function facts(pairs: [label: string, value: string | undefined][]): string {
  const shown = pairs.filter((pair): pair is [string, string] => pair[1] !== undefined)
  const wide = Math.max(...shown.map(([label]) => width(label)))
  return shown.map(([label, value]) => `${label.padEnd(wide)}  ${value}`).join('\n')
}

const steps: [unit: string, seconds: number][] = [
  ['day', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
]

/** "3 min ago (2026-11-22T08:15:00Z)"; an instant ahead is "in 3 min". */
export function instant(iso: string | null | undefined, now: number): string {
  if (!iso) return '–'
  const at = new Date(iso)
  const apart = Math.round((now - at.getTime()) / 1000)
  const [unit, size] = steps.find(([, seconds]) => Math.abs(apart) >= seconds) ?? ['s', 1]
  const count = Math.floor(Math.abs(apart) / size)
  const length = `${count} ${unit}${unit === 'day' && count !== 1 ? 's' : ''}`
  const said = Math.abs(apart) < 2 ? 'just now' : apart > 0 ? `${length} ago` : `in ${length}`
  return `${said} (${at.toISOString().replace(/\.\d+Z$/, 'Z')})`
}

const colours: Record<string, Parameters<typeof styleText>[0]> = {
  active: 'green',
  revoked: 'green',
  already_dead: 'green',
  delivered: 'green',
  degraded: 'yellow',
  blocked_by_policy: 'yellow',
  pending: 'yellow',
  unverified: 'yellow',
  needs_reauth: 'red',
  given_up: 'red',
  failed: 'red',
  paused: 'dim',
}

/** A state or status in its colour. The word alone says it too. */
export const state = (screen: Screen, name: string): string =>
  colours[name] ? screen.colour(colours[name], name) : printable(name)

export const bar = (done: number, total: number): string => {
  const filled = total === 0 ? 24 : Math.floor((done / total) * 24)
  return `[${'#'.repeat(filled)}${'.'.repeat(24 - filled)}] ${done} of ${total}`
}
