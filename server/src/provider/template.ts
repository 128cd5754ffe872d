/**
 * The template language of provider data, closed on purpose: tokens, alternatives and a dozen functions. No loops, no conditions,
 * no property access: a path is a key of one flat map, so `${constructor}` is merely a name nobody defined.
 *
 *   template    = text with `${ expression }`
 *   expression  = path | function "(" template { "," template } ")" | function
 *   alternative = template " || " template      the first whose tokens all resolve
 */
import { createHash, createHmac, randomBytes, sign } from 'node:crypto'

export class TemplateError extends Error {}

/** Well written, and not known here. */
export class UnknownFunction extends TemplateError {}

type Part = string | { path: string } | { instant: RegExpExecArray } | { call: string; args: Part[][] }
export type Template = Part[][]

/** Path → value. Paths read `connectionConfig.hostname`, `credentials.x`, `clientId`. */
export type Values = ReadonlyMap<string, string>

const functions: Record<string, { arity: number; run: (args: string[]) => string }> = {
  base64: { arity: 1, run: ([text]) => Buffer.from(text!).toString('base64') },
  sha256Hex: { arity: 1, run: ([text]) => createHash('sha256').update(text!).digest('hex') },
  sha256Base64: { arity: 1, run: ([text]) => createHash('sha256').update(text!).digest('base64') },
  hmacSha1Hex: { arity: 2, run: ([message, key]) => hmac('sha1', message!, key!, 'hex') },
  hmacSha1Base64: { arity: 2, run: ([message, key]) => hmac('sha1', message!, key!, 'base64') },
  hmacSha256Hex: { arity: 2, run: ([message, key]) => hmac('sha256', message!, key!, 'hex') },
  hmacSha256Base64: { arity: 2, run: ([message, key]) => hmac('sha256', message!, key!, 'base64') },
  ed25519Sign: { arity: 2, run: ([message, key]) => sign(null, Buffer.from(message!), key!).toString('base64') },
  random: { arity: 0, run: () => randomBytes(16).toString('hex') },
}

const hmac = (hash: string, message: string, key: string, encoding: 'hex' | 'base64'): string =>
  createHmac(hash, key).update(message).digest(encoding)

const unitMs: Record<string, number> = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }

/** `now`, `now:FORMAT`, `now+N:unit:FORMAT`. Without a format: seconds since the epoch. */
const instant = /^now(?:\+(\d{1,9}):(ms|s|m|h|d)(?:econds?|inutes?|ours?|ays?)?)?(?::(.+))?$/s

function now([, amount, unit, format]: RegExpExecArray): string {
  const at = new Date(Date.now() + Number(amount ?? 0) * (unitMs[unit ?? 's'] ?? 1e3))
  if (format === undefined || format === 'X' || format === 'unix') return String(Math.floor(at.getTime() / 1000))
  if (format === 'x') return String(at.getTime())
  if (/^iso$/i.test(format)) return at.toISOString()
  const [, YYYY, MM, DD, HH, mm, ss, SSS] = /^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)\.(\d+)Z$/.exec(at.toISOString())!
  const parts: Record<string, string> = { YYYY: YYYY!, MM: MM!, DD: DD!, HH: HH!, mm: mm!, ss: ss!, SSS: SSS! }
  return format.replace(/\[([^\]]*)\]|YYYY|MM|DD|HH|mm|SSS|ss/g, (token, literal) => literal ?? parts[token]!)
}

/** Throws TemplateError with a sentence that names the fault. */
export function parseTemplate(source: string): Template {
  return source.split(' || ').map(alternative => parseParts(alternative))
}

function parseParts(source: string): Part[] {
  const parts: Part[] = []
  let at = 0
  while (at < source.length) {
    const open = source.indexOf('${', at)
    if (open < 0) {
      parts.push(source.slice(at))
      break
    }
    if (open > at) parts.push(source.slice(at, open))
    const close = closingBrace(source, open + 2)
    parts.push(parseExpression(source.slice(open + 2, close)))
    at = close + 1
  }
  return parts
}

function closingBrace(source: string, from: number): number {
  for (let at = from, depth = 1; at < source.length; at++) {
    if (source[at] === '{') depth++
    if (source[at] === '}' && --depth === 0) return at
  }
  throw new TemplateError(`"\${" without "}" in "${source}"`)
}

function parseExpression(source: string): Part {
  const text = source.trim()
  const when = instant.exec(text)
  if (when) return { instant: when }
  const call = /^([A-Za-z0-9]+)\((.*)\)$/s.exec(text)
  const name = call?.[1] ?? text
  if (call || (Object.hasOwn(functions, name) && functions[name]!.arity === 0)) {
    const known = Object.hasOwn(functions, name) ? functions[name] : undefined
    if (!known) throw new UnknownFunction(`unknown function "${name}"; there are ${Object.keys(functions).join(', ')}`)
    const args = call?.[2] ? splitArguments(call[2]) : []
    if (args.length !== known.arity) throw new TemplateError(`${name} takes ${known.arity} argument(s)`)
    return { call: name, args: args.map(parseParts) }
  }
  if (!/^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/.test(text)) throw new TemplateError(`"\${${text}}" is not a path`)
  return { path: text }
}

/** Splits at commas that are not inside a nested token. */
function splitArguments(source: string): string[] {
  const args: string[] = ['']
  let depth = 0
  for (const char of source) {
    if (char === '{' || char === '(') depth++
    if (char === '}' || char === ')') depth--
    if (char === ',' && depth === 0) args.push('')
    else args[args.length - 1] += char
  }
  return args.map(arg => arg.trim())
}

function render(parts: Part[], values: Values, insert: (value: string, at: number) => string): string | undefined {
  let out = ''
  for (const part of parts) {
    if (typeof part === 'string') {
      out += part
      continue
    }
    const value = valueAt(part, values)
    if (value === undefined || value === '') return undefined
    out += insert(value, out.length)
  }
  return out
}

function valueAt(part: Exclude<Part, string>, values: Values): string | undefined {
  if ('path' in part) return values.get(part.path)
  return 'instant' in part ? now(part.instant) : callFunction(part.call, part.args, values)
}

function callFunction(name: string, args: Part[][], values: Values): string | undefined {
  const rendered = args.map(arg => render(arg, values, value => value))
  return rendered.some(arg => arg === undefined) ? undefined : functions[name]!.run(rendered as string[])
}

function firstResolved(
  source: string,
  values: Values,
  insert: (value: string, at: number) => string,
): string | undefined {
  for (const parts of parseTemplate(source)) {
    const text = render(parts, values, insert)
    if (text !== undefined) return text
  }
  return undefined
}

/** Undefined when no alternative resolves. */
export const expand = (source: string, values: Values): string | undefined =>
  firstResolved(source, values, value => value)

/**
 * Expands a URL. A value that begins the URL brings its own scheme and host and is taken as it is (`${connectionConfig.instance_url}/x`);
 * any other is percent-encoded, so it can fill a host label, a path segment or a query value and never add or remove one.
 */
export function expandUrl(source: string, values: Values): URL | undefined {
  const text = firstResolved(source, values, (value, at) =>
    at === 0 ? value.replace(/\/+$/, '') : encodeURIComponent(value.toWellFormed()),
  )
  // Dots survive the encoding, and a segment of nothing else would take away the one before it (WHATWG URL, path state).
  if (text === undefined || /\/(\.|%2e){1,2}(?=[/?#]|$)/i.test(text)) return undefined
  return URL.parse(text) ?? undefined
}
