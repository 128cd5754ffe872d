// A small SOQL: enough of the language for real clients to browse, filter, sort and page, with Salesforce's errors
// for the rest. Text → Query by recursive descent, then Query → rows against a data source.
//
//   SELECT field [, Parent.Field] | COUNT() | COUNT(field) [alias] | FIELDS(ALL|STANDARD|CUSTOM)
//   FROM object [WHERE condition] [ORDER BY field [ASC|DESC] [NULLS FIRST|LAST], …] [LIMIT n] [OFFSET n]
//   conditions: = != <> < <= > >= LIKE, [NOT] IN (…), AND, OR, NOT, parentheses

import { toId18 } from './ids.ts'
import type { Field, ObjectType } from './schema.ts'
import { fieldOf, isNumeric, isTemporal, objectType } from './schema.ts'
import type { Row, Value } from './world.ts'

export type SoqlErrorCode = 'MALFORMED_QUERY' | 'INVALID_TYPE' | 'INVALID_FIELD'

export class SoqlError extends Error {
  readonly code: SoqlErrorCode
  constructor(code: SoqlErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export type Literal = { text: string | null; kind: 'string' | 'number' | 'boolean' | 'null' | 'date' }
export type Comparison = '=' | '!=' | '<' | '<=' | '>' | '>=' | 'LIKE'
export type Condition =
  | { op: 'and' | 'or'; all: Condition[] }
  | { op: 'not'; one: Condition }
  | { op: 'in' | 'notIn'; path: string; values: Literal[] }
  | { op: Comparison; path: string; value: Literal }
export type Query = {
  select: { kind: 'fields'; paths: string[] } | { kind: 'count' } | { kind: 'aggregate'; path: string; alias: string }
  from: string
  where: Condition | null
  orderBy: { path: string; descending: boolean; nullsLast: boolean }[]
  limit: number | null
  offset: number
}

// ── Text → Query ────────────────────────────────────────────────────────────────────────────────────────────────

type Token = { text: string; at: number; kind: 'word' | 'string' | 'number' | 'date' | 'symbol' | 'end' }

const LEXICON =
  /\s+|('(?:\\.|[^'\\])*')|(\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))?)|([+-]?\d+(?:\.\d+)?)|([A-Za-z_][\w.]*)|(<=|>=|!=|<>|[=<>(),])/y

function tokenise(text: string): Token[] {
  const tokens: Token[] = []
  LEXICON.lastIndex = 0
  while (LEXICON.lastIndex < text.length) {
    const at = LEXICON.lastIndex
    const match = LEXICON.exec(text)
    if (!match) throw malformed(text, at, `unexpected token: '${text.slice(at, at + 20).split(/\s/)[0]}'`)
    const [, string, date, number, word, symbol] = match
    if (string !== undefined) tokens.push({ kind: 'string', text: unquote(string), at })
    else if (date !== undefined) tokens.push({ kind: 'date', text: date, at })
    else if (number !== undefined) tokens.push({ kind: 'number', text: number, at })
    else if (word !== undefined) tokens.push({ kind: 'word', text: word, at })
    else if (symbol !== undefined) tokens.push({ kind: 'symbol', text: symbol === '<>' ? '!=' : symbol, at })
  }
  tokens.push({ kind: 'end', text: '<EOF>', at: text.length })
  return tokens
}

const ESCAPE: Record<string, string> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f' }
const unquote = (quoted: string) => quoted.slice(1, -1).replace(/\\(.)/g, (_, c: string) => ESCAPE[c] ?? c)

/** Salesforce shows where: the text around the spot, a caret, and one-based row and column. */
function located(text: string, at: number, message: string): string {
  const from = Math.max(0, at - 30)
  const line = text.slice(from, at + 30).replace(/\s/g, ' ')
  const before = text.slice(0, at).split('\n')
  const column = (before.at(-1)?.length ?? 0) + 1
  return `\n${line}\n${' '.repeat(at - from)}^\nERROR at Row:${before.length}:Column:${column}\n${message}`
}
const malformed = (text: string, at: number, message: string) =>
  new SoqlError('MALFORMED_QUERY', located(text, at, message))

const COMPARISONS = ['=', '!=', '<', '<=', '>', '>=', 'LIKE']
const CLAUSES = ['FROM', 'WHERE', 'ORDER', 'LIMIT', 'OFFSET', 'AND', 'OR', 'NOT', 'SELECT', 'GROUP', 'HAVING']
const MAX_NESTING = 50

export function parseSoql(text: string): Query {
  const tokens = tokenise(text)
  let next = 0
  const peek = (): Token => tokens[next] ?? { kind: 'end', text: '<EOF>', at: text.length }
  const take = (): Token => {
    const token = peek()
    next++
    return token
  }
  const unexpected = (token: Token) => malformed(text, token.at, `unexpected token: '${token.text}'`)
  const isWord = (word: string) => peek().kind === 'word' && peek().text.toUpperCase() === word
  const isSymbol = (symbol: string) => peek().kind === 'symbol' && peek().text === symbol
  const accept = (what: string): boolean => {
    const found = /^\w/.test(what) ? isWord(what) : isSymbol(what)
    if (found) next++
    return found
  }
  const expect = (what: string): void => {
    if (!accept(what)) throw unexpected(peek())
  }
  const name = (): string => {
    const token = take()
    if (token.kind !== 'word' || CLAUSES.includes(token.text.toUpperCase()) || token.text.endsWith('.')) {
      throw unexpected(token)
    }
    return token.text
  }
  const wholeNumber = (): number => {
    const token = take()
    if (token.kind !== 'number' || !/^\d+$/.test(token.text)) throw unexpected(token)
    return Number(token.text)
  }

  function selection(): Query['select'] {
    if (isWord('COUNT') && tokens[next + 1]?.text === '(') {
      next += 2
      if (accept(')')) return { kind: 'count' }
      const path = name()
      expect(')')
      return { kind: 'aggregate', path, alias: isWord('FROM') ? 'expr0' : name() }
    }
    const paths: string[] = []
    do {
      if (isWord('FIELDS') && tokens[next + 1]?.text === '(') {
        next += 2
        const which = name().toUpperCase()
        if (!['ALL', 'STANDARD', 'CUSTOM'].includes(which)) throw unexpected(peek())
        expect(')')
        paths.push(`FIELDS(${which})`)
      } else paths.push(name())
    } while (accept(','))
    return { kind: 'fields', paths }
  }

  function conditions(depth: number): Condition {
    const all = [condition(depth)]
    const joiner = isWord('AND') ? 'AND' : isWord('OR') ? 'OR' : null
    if (!joiner) return all[0] as Condition
    while (accept(joiner)) all.push(condition(depth))
    // SOQL has no precedence between AND and OR: mixing them needs parentheses.
    if (isWord('AND') || isWord('OR')) throw unexpected(peek())
    return { op: joiner === 'AND' ? 'and' : 'or', all }
  }

  function condition(depth: number): Condition {
    if (depth > MAX_NESTING) throw malformed(text, peek().at, 'the WHERE clause is nested too deeply')
    if (accept('NOT')) return { op: 'not', one: condition(depth + 1) }
    if (accept('(')) {
      const inner = conditions(depth + 1)
      expect(')')
      return inner
    }
    const path = name()
    if (accept('IN')) return { op: 'in', path, values: list() }
    if (accept('NOT')) {
      expect('IN')
      return { op: 'notIn', path, values: list() }
    }
    const operator = take()
    const op = operator.text.toUpperCase()
    if (!COMPARISONS.includes(op) || operator.kind === 'string') throw unexpected(operator)
    return { op: op as Comparison, path, value: literal() }
  }

  function list(): Literal[] {
    expect('(')
    const values = [literal()]
    while (accept(',')) values.push(literal())
    expect(')')
    return values
  }

  function literal(): Literal {
    const token = take()
    if (token.kind === 'string' || token.kind === 'number' || token.kind === 'date') {
      return { kind: token.kind, text: token.text }
    }
    const word = token.kind === 'word' ? token.text.toLowerCase() : ''
    if (word === 'null') return { kind: 'null', text: null }
    if (word === 'true' || word === 'false') return { kind: 'boolean', text: word }
    throw unexpected(token)
  }

  function order(): Query['orderBy'] {
    const keys: Query['orderBy'] = []
    do {
      const path = name()
      const descending = accept('DESC')
      if (!descending) accept('ASC')
      let nullsLast = false
      if (accept('NULLS')) {
        nullsLast = accept('LAST')
        if (!nullsLast) expect('FIRST')
      }
      keys.push({ path, descending, nullsLast })
    } while (accept(','))
    return keys
  }

  expect('SELECT')
  const select = selection()
  expect('FROM')
  const from = name()
  const where = accept('WHERE') ? conditions(0) : null
  let orderBy: Query['orderBy'] = []
  if (accept('ORDER')) {
    expect('BY')
    orderBy = order()
  }
  const limit = accept('LIMIT') ? wholeNumber() : null
  const offset = accept('OFFSET') ? wholeNumber() : 0
  if (offset > 2000) throw malformed(text, text.length, 'Maximum SOQL offset allowed is 2000')
  if (peek().kind !== 'end') throw unexpected(peek())
  return { select, from, where, orderBy, limit, offset }
}

// ── Query → rows ────────────────────────────────────────────────────────────────────────────────────────────────

export type Source = {
  rows: (type: ObjectType) => Row[]
  row: (type: ObjectType, id: string) => Row | undefined
}

export type Result =
  | { kind: 'rows'; type: ObjectType; rows: Row[]; paths: string[] }
  | { kind: 'count'; size: number }
  | { kind: 'aggregate'; alias: string; size: number }

/** One step of a path: the fields from the queried object to the value, as canonical names. */
type Path = { steps: { field: Field; type: ObjectType }[]; canonical: string }

export function runSoql(text: string, source: Source): Result {
  const query = parseSoql(text)
  const type = objectType(query.from)
  if (!type) {
    const at = new RegExp(`\\b${query.from}\\b`).exec(text)?.index ?? 0
    throw new SoqlError(
      'INVALID_TYPE',
      located(
        text,
        at,
        `sObject type '${query.from}' is not supported. If you are attempting to use a custom object, be sure to append the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names.`,
      ),
    )
  }
  const path = (name: string) => resolve(text, type, name)

  const paths = query.select.kind === 'fields' ? query.select.paths.flatMap(p => expand(text, type, p, query)) : []
  if (query.select.kind === 'aggregate') path(query.select.path)
  const test = query.where ? compile(query.where, path, source) : () => true
  const keys = query.orderBy.map(key => ({ ...key, path: path(key.path) }))

  let rows = source.rows(type).filter(test)
  if (query.select.kind === 'aggregate') {
    const counted = path(query.select.path)
    const size = rows.filter(row => valueAt(row, counted, source) !== null).length
    return { kind: 'aggregate', alias: query.select.alias, size }
  }
  if (keys.length > 0) {
    rows = rows.toSorted((a, b) => {
      for (const key of keys) {
        const [x, y] = [valueAt(a, key.path, source), valueAt(b, key.path, source)]
        if (x === null || y === null) {
          if (x === y) continue
          return (x === null) === key.nullsLast ? 1 : -1
        }
        const difference = compare(x, y)
        if (difference !== 0) return key.descending ? -difference : difference
      }
      return 0
    })
  }
  rows = rows.slice(query.offset, query.limit === null ? undefined : query.offset + query.limit)
  return query.select.kind === 'count' ? { kind: 'count', size: rows.length } : { kind: 'rows', type, rows, paths }
}

function expand(text: string, type: ObjectType, name: string, query: Query): string[] {
  const group = /^FIELDS\((\w+)\)$/.exec(name)?.[1]
  if (!group) return [resolve(text, type, name).canonical]
  if (group !== 'STANDARD' && (query.limit === null || query.limit > 200)) {
    throw new SoqlError(
      'MALFORMED_QUERY',
      'The SOQL FIELDS function must have a LIMIT of at most 200 for FIELDS(ALL) and FIELDS(CUSTOM)',
    )
  }
  const custom = (f: Field) => f.name.endsWith('__c')
  return type.fields.filter(f => group === 'ALL' || custom(f) === (group === 'CUSTOM')).map(f => f.name)
}

function resolve(text: string, from: ObjectType, name: string): Path {
  const parts = name.split('.')
  // `SELECT Account.Name FROM Account` names the object itself.
  if (parts.length > 1 && parts[0]?.toLowerCase() === from.name.toLowerCase()) parts.shift()
  const steps: Path['steps'] = []
  let type = from
  for (const [i, part] of parts.entries()) {
    const last = i === parts.length - 1
    const field = last
      ? fieldOf(type, part)
      : type.fields.find(f => f.relationshipName?.toLowerCase() === part.toLowerCase())
    const target = field?.referenceTo && !last ? objectType(field.referenceTo) : undefined
    if (!field || (!last && !target)) {
      const what = last
        ? `No such column '${part}' on entity '${type.name}'`
        : `Didn't understand relationship '${part}' in field path`
      throw new SoqlError(
        'INVALID_FIELD',
        located(
          text,
          Math.max(0, text.indexOf(name)),
          `${what}. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names.`,
        ),
      )
    }
    steps.push({ field, type })
    if (target) type = target
  }
  const canonical = steps.map((s, i) => (i === steps.length - 1 ? s.field.name : s.field.relationshipName)).join('.')
  return { steps, canonical }
}

function valueAt(row: Row, path: Path, source: Source): Value {
  let at: Row | undefined = row
  for (const [i, { field }] of path.steps.entries()) {
    const value: Value = at?.[field.name] ?? null
    if (i === path.steps.length - 1) return value
    const target = field.referenceTo ? objectType(field.referenceTo) : undefined
    at = target && typeof value === 'string' ? source.row(target, value) : undefined
  }
  return null
}

/** SOQL compares text without regard to case. */
const fold = (value: Value) => (typeof value === 'string' ? value.toLowerCase() : value)

function compare(a: Value, b: Value): number {
  const [x, y] = [fold(a), fold(b)]
  if (x === y) return 0
  if (x === null || y === null) return x === null ? -1 : 1
  return x < y ? -1 : 1
}

function compile(condition: Condition, path: (name: string) => Path, source: Source): (row: Row) => boolean {
  if ('all' in condition) {
    const tests = condition.all.map(c => compile(c, path, source))
    return condition.op === 'and' ? row => tests.every(t => t(row)) : row => tests.some(t => t(row))
  }
  if ('one' in condition) {
    const inner = compile(condition.one, path, source)
    return row => !inner(row)
  }
  const at = path(condition.path)
  const field = at.steps.at(-1)?.field as Field
  if ('values' in condition) {
    const wanted = condition.values.map(literal => typed(literal, field))
    const among = (row: Row) => wanted.some(w => same(valueAt(row, at, source), w, field))
    return condition.op === 'in' ? among : row => !among(row)
  }
  const { op } = condition
  const wanted = typed(condition.value, field)
  if (op === 'LIKE') {
    const pattern = String(wanted ?? '').toLowerCase()
    return row => isLike(String(valueAt(row, at, source) ?? '').toLowerCase(), pattern)
  }
  if (op === '=') return row => same(valueAt(row, at, source), wanted, field)
  if (op === '!=') return row => !same(valueAt(row, at, source), wanted, field)
  return row => {
    const value = comparable(valueAt(row, at, source), field)
    const against = comparable(wanted, field)
    if (value === null || against === null) return false
    const difference = compare(value, against)
    return op === '<' ? difference < 0 : op === '<=' ? difference <= 0 : op === '>' ? difference > 0 : difference >= 0
  }
}

const comparable = (value: Value, field: Field): Value =>
  field.type === 'datetime' && typeof value === 'string' ? Date.parse(value) : value

function same(value: Value, wanted: Value, field: Field): boolean {
  return compare(comparable(value, field), comparable(wanted, field)) === 0
}

/** A quoted number for a number field is an error in SOQL, not a coercion. */
function typed(literal: Literal, field: Field): Value {
  const { kind, text } = literal
  if (kind === 'null' || text === null) return null
  const wrong = (quotes: string) =>
    new SoqlError(
      'INVALID_FIELD',
      `value of filter criterion for field '${field.name}' must be of type ${field.type} and should ${quotes}be enclosed in quotes`,
    )
  if (isNumeric(field.type)) {
    if (kind !== 'number') throw wrong('not ')
    return Number(text)
  }
  if (field.type === 'boolean') {
    if (kind !== 'boolean') throw wrong('not ')
    return text === 'true'
  }
  if (isTemporal(field.type)) {
    if (kind !== 'date') throw wrong('not ')
    return text
  }
  if (kind !== 'string') throw wrong('')
  return field.type === 'id' || field.type === 'reference' ? (toId18(text) ?? text) : text
}

/** `%` any run, `_` one character. Backs up to the last `%` only, so the cost stays length × length. */
function isLike(text: string, pattern: string): boolean {
  let [t, p, star, resume] = [0, 0, -1, 0]
  while (t < text.length) {
    if (pattern[p] === '%') {
      star = p++
      resume = t
    } else if (p < pattern.length && (pattern[p] === '_' || pattern[p] === text[t])) {
      p++
      t++
    } else if (star >= 0) {
      p = star + 1
      t = ++resume
    } else return false
  }
  while (pattern[p] === '%') p++
  return p === pattern.length
}

/** Renders one row with the fields asked for, parents nested, each with its attributes. */
export function project(type: ObjectType, row: Row, paths: string[], version: string, source: Source): object {
  const shape = (of: ObjectType, from: Row, wanted: string[]): object => {
    const out: Record<string, unknown> = {
      attributes: { type: of.name, url: `/services/data/v${version}/sobjects/${of.name}/${from.Id}` },
    }
    const parents = new Map<string, string[]>()
    for (const path of wanted) {
      const dot = path.indexOf('.')
      if (dot < 0) out[path] = from[path] ?? null
      else {
        const parent = path.slice(0, dot)
        if (!parents.has(parent)) out[parent] = null
        parents.set(parent, [...(parents.get(parent) ?? []), path.slice(dot + 1)])
      }
    }
    for (const [parent, rest] of parents) {
      const field = of.fields.find(f => f.relationshipName === parent)
      const target = field?.referenceTo ? objectType(field.referenceTo) : undefined
      const id = field ? from[field.name] : undefined
      const parentRow = target && typeof id === 'string' ? source.row(target, id) : undefined
      if (target && parentRow) out[parent] = shape(target, parentRow, rest)
    }
    return out
  }
  return shape(type, row, paths)
}
