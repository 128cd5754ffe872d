// CSV as Bulk API 2.0 reads and writes it: RFC 4180 with a choice of delimiter and line ending.

export const DELIMITERS = {
  COMMA: ',',
  SEMICOLON: ';',
  TAB: '\t',
  PIPE: '|',
  CARET: '^',
  BACKQUOTE: '`',
} as const
export type Delimiter = keyof typeof DELIMITERS
export const LINE_ENDINGS = { LF: '\n', CRLF: '\r\n' } as const
export type LineEnding = keyof typeof LINE_ENDINGS

export class BadCsv extends Error {}

/** Rows of cells. A quoted cell may hold delimiters, line ends and doubled quotes. */
export function readCsv(text: string, delimiter: string): string[][] {
  const rows: string[][] = []
  let row: string[] = []
  let cell = ''
  let quotes = false
  let at = text.startsWith('\uFEFF') ? 1 : 0
  const endCell = () => {
    row.push(cell)
    cell = ''
    quotes = false
  }
  const endRow = () => {
    // A blank line is no row; one empty cell in quotes is.
    const blank = row.length === 0 && cell === '' && !quotes
    endCell()
    if (!blank) rows.push(row)
    row = []
  }
  while (at < text.length) {
    const char = text.charAt(at)
    const lineEnd = char === '\n' || char === '\r'
    if (quotes && !lineEnd && char !== delimiter) throw new BadCsv(`row ${rows.length + 1}: text after a closing quote`)
    if (char === '"' && cell === '') {
      ;[cell, at] = quoted(text, at + 1)
      quotes = true
      continue
    }
    if (char === delimiter) endCell()
    else if (lineEnd) endRow()
    else cell += char
    at += text.startsWith('\r\n', at) ? 2 : 1
  }
  if (row.length > 0 || cell !== '' || quotes) endRow()
  return rows
}

/** The value from behind the opening quote, and where its closing quote has been passed. */
function quoted(text: string, from: number): [string, number] {
  let value = ''
  for (let at = from; ; ) {
    const end = text.indexOf('"', at)
    if (end < 0) throw new BadCsv('a quote is never closed')
    value += text.slice(at, end)
    if (text[end + 1] !== '"') return [value, end + 1]
    value += '"'
    at = end + 2
  }
}

/** Every cell in quotes, as Salesforce writes results. */
export const writeCsv = (rows: string[][], delimiter: string, lineEnding: string): string =>
  rows.map(row => row.map(cell => `"${cell.replaceAll('"', '""')}"`).join(delimiter) + lineEnding).join('')
