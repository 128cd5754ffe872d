/**
 * A page that was built beforehand (pages/build.ts): one HTML file and the files it names, under a strict policy. The HTML is never
 * stored; the files carry their content's hash in their name, are stored for good and lie here compressed already.
 */
import { readdir, readFile } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import type { Context } from 'hono'
import { Failure } from '../errors.ts'
import { sha256 } from '../lib/id.ts'

export interface BuiltPage {
  /** `ancestors`: the origins that may frame it; none unless given. */
  html(c: Context, ancestors?: string[]): Promise<Response>
  /** A file of `assets/`, in the coding the caller takes. */
  asset(c: Context, name: string): Promise<Response>
}

const types: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.json': 'application/json',
  '.woff2': 'font/woff2',
}

interface File {
  bytes: Buffer<ArrayBuffer>
  etag: string
}

interface Files {
  html: File
  /** By name; compressed ones with `.br` and `.gz` at the end. */
  assets: Map<string, File>
}

const policy = (ancestors: string[], framesOwn: boolean): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    // A customer's logo is kept in the settings and comes as data, so that no page asks a third party for it.
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    ...(framesOwn ? ["frame-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
    "object-src 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
    `frame-ancestors ${ancestors.length > 0 ? ancestors.join(' ') : "'none'"}`,
  ].join('; ')

/** `framesOwn`: it shows other pages of ours in frames. */
export function builtPage(folder: string, { framesOwn = false } = {}): BuiltPage {
  let read: Promise<Files> | undefined
  /** On the first request and then from memory. What is not built yet is looked for again. */
  const files = (): Promise<Files> => {
    read ??= readBuilt(folder).catch(error => {
      read = undefined
      throw new Failure('page_not_built', { cause: error })
    })
    return read
  }

  return {
    async html(c, ancestors = []) {
      const { html } = await files()
      return new Response(html.bytes, {
        headers: {
          'Content-Type': 'text/html; charset=utf-8',
          'Content-Security-Policy': policy(ancestors, framesOwn),
          'Cache-Control': 'no-store',
          'Referrer-Policy': 'no-referrer',
          'X-Content-Type-Options': 'nosniff',
          // RFC 6797 §7.2: over TLS alone, which ends before this process. The header says so to nobody but whoever sent it.
          ...(c.req.header('x-forwarded-proto') === 'https' && { 'Strict-Transport-Security': 'max-age=31536000' }),
        },
      })
    },

    async asset(c, name) {
      const { assets } = await files()
      const type = types[extname(name)]
      const plain = assets.get(name)
      if (!type || !plain) throw new Failure('not_found')
      const coding = codingsOf(c.req.header('accept-encoding')).find(one => assets.has(`${name}.${one.suffix}`))
      const { bytes, etag } = coding ? assets.get(`${name}.${coding.suffix}`)! : plain
      const headers = {
        'Content-Type': type,
        'Cache-Control': 'public, max-age=31536000, immutable',
        ETag: etag,
        Vary: 'Accept-Encoding',
        'X-Content-Type-Options': 'nosniff',
        'Cross-Origin-Resource-Policy': 'same-origin',
      }
      if (c.req.header('if-none-match')?.includes(etag)) return new Response(null, { status: 304, headers })
      return new Response(bytes, { headers: { ...headers, ...(coding && { 'Content-Encoding': coding.name }) } })
    },
  }
}

const codings = [
  { name: 'br', suffix: 'br' },
  { name: 'gzip', suffix: 'gz' },
]

/** RFC 9110 §12.5.3, as far as two codings need it: what is named without `q=0` is taken, the smaller one first. */
const codingsOf = (header = ''): typeof codings => {
  const taken = header
    .toLowerCase()
    .split(',')
    .map(entry => entry.replaceAll(' ', ''))
    .filter(entry => !/;q=0(\.0*)?$/.test(entry))
    .map(entry => entry.split(';')[0])
  return codings.filter(({ name }) => taken.includes(name))
}

async function readBuilt(folder: string): Promise<Files> {
  const file = async (path: string): Promise<File> => {
    const bytes = await readFile(path)
    return { bytes, etag: `"${sha256(bytes).toString('base64url').slice(0, 22)}"` }
  }
  const paths = (await readdir(join(folder, 'assets'))).map(name => join(folder, 'assets', name))
  const assets = await Promise.all(paths.map(async path => [basename(path), await file(path)] as const))
  return { html: await file(join(folder, 'index.html')), assets: new Map(assets) }
}
