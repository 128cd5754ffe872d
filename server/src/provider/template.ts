/**
 * The template language of provider data, closed on purpose: tokens, alternatives and five functions. No loops, no conditions,
 * no property access: a path is a key of one flat map, so `${constructor}` is merely a name nobody defined.
 *
 *   template    = text with `${ expression }`
 *   expression  = path | function "(" template { "," template } ")" | function
 *   alternative = template " || " template      the first whose tokens all resolve
 */
import { createHash, createHmac, randomBytes } from 'node:crypto'

export class TemplateError extends Error {}

type Part = string | { path: string } | { call: string; args: Part[][] }
export type Template = Part[][]

/** Path → value. Paths read `connectionConfig.hostname`, `credentials.x`, `clientId`. */
export type Values = ReadonlyMap<string, string>

const functions: Record<string, { arity: number; run: (args: string[]) => string }> = {
  base64: { arity: 1, run: ([text]) => Buffer.from(text!).toString('base64') },
  sha256Hex: { arity: 1, run: ([text]) => createHash('sha256').update(text!).digest('hex') },
  sha256Base64: { arity: 1, run: ([text]) => createHash('sha256').update(text!).digest('base64') },
  hmacSha1Hex: { arity: 2, run: ([message, key]) => createHmac('sha1', key!).update(message!).digest('hex') },
  random: { arity: 0, run: () => randomBytes(16).toString('hex') },
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
  const call = /^([A-Za-z0-9]+)\((.*)\)$/s.exec(text)
  const name = call?.[1] ?? text
  if (call || (Object.hasOwn(functions, name) && functions[name]!.arity === 0)) {
    const known = Object.hasOwn(functions, name) ? functions[name] : undefined
    if (!known) throw new TemplateError(`unknown function "${name}"; there are ${Object.keys(functions).join(', ')}`)
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
    const value = 'path' in part ? values.get(part.path) : callFunction(part.call, part.args, values)
    if (value === undefined || value === '') return undefined
    out += insert(value, out.length)
  }
  return out
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
