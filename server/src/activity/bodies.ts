/**
 * The bodies of a call, for integrations that ask for it: the first 8 KB of each, when it is text, without what is or looks like a secret.
 * Redaction is by names, shapes and known values and cannot know everything, and what is left are a customer's records: therefore the
 * result is sealed, kept for a day, and read only by a key that may read credentials, who could ask the provider itself.
 */
import { brotliDecompressSync, constants, gunzipSync, inflateSync } from 'node:zlib'
import type { Secret } from '../lib/secret.ts'
import { redactBody } from '../net/redact.ts'

/** One body as it passes. */
export interface Body {
  type: string | undefined
  encoding: string | undefined
  pieces: Buffer[]
  kept: number
  /** Of the whole body. */
  bytes: number
}

export interface Bodies {
  request: Body
  answer: Body
  /** Everything of ours that may be repeated in either: the caller's key, the tokens. */
  secrets: (Secret | string | undefined)[]
}

/** As it is kept and read. */
export interface ShownBody {
  type: string
  text: string
  /** There was more of it. */
  truncated: boolean
}

export interface ShownBodies {
  request: ShownBody | null
  answer: ShownBody | null
}

const mostText = 8 * 1024
/** Twice what is shown, so that what begins before the cut is seen whole. */
const mostKept = 2 * mostText

const textual = /^(?:text\/|application\/(?:[\w.+-]*[+.-])?(?:json|xml|x-www-form-urlencoded|graphql|ndjson)\b)/i

const newBody = (): Body => ({ type: undefined, encoding: undefined, pieces: [], kept: 0, bytes: 0 })

export const newBodies = (): Bodies => ({ request: newBody(), answer: newBody(), secrets: [] })

/** Copies what is needed of `piece`: the rest of the buffer it stands in may be as large as a socket reads at once. */
export function keep(body: Body, piece: Buffer): void {
  body.bytes += piece.length
  const room = mostKept - body.kept
  if (room <= 0) return
  const copy = Buffer.from(piece.subarray(0, room))
  body.pieces.push(copy)
  body.kept += copy.length
}

/** Nothing of an attempt that was not the last. */
export function restart(body: Body): void {
  body.pieces = []
  body.kept = 0
  body.bytes = 0
}

export function shownBodies({ request, answer, secrets }: Bodies): ShownBodies | undefined {
  const known = secrets.flatMap(secret => (secret ? [typeof secret === 'string' ? secret : secret.reveal()] : []))
  const both = { request: shown(request, known), answer: shown(answer, known) }
  return both.request || both.answer ? both : undefined
}

function shown(body: Body, known: string[]): ShownBody | null {
  const type = body.type?.split(';')[0]?.trim().toLowerCase().slice(0, 100) ?? ''
  if (body.bytes === 0 || !textual.test(type)) return null
  const plain = decoded(body)
  const whole = plain?.toString('utf8')
  // UTF-16 and what only says that it is text: no rule below would recognise anything in it.
  if (whole === undefined || whole.includes('\0') || whole.includes('\ufffd'.repeat(4))) return null
  const text = redactBody(whole, type, known)
  return { type, text: text.slice(0, mostText), truncated: text.length > mostText || body.bytes > body.kept }
}

/** The beginning of what was compressed: its end may be missing. */
function decoded({ pieces, encoding }: Body): Buffer | undefined {
  const bytes = Buffer.concat(pieces)
  const coding = encoding?.trim().toLowerCase() ?? ''
  try {
    if (coding === '' || coding === 'identity') return bytes
    const partial = { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: 1024 * 1024 }
    const plain =
      coding === 'gzip' || coding === 'x-gzip'
        ? gunzipSync(bytes, partial)
        : coding === 'deflate'
          ? inflateSync(bytes, partial)
          : coding === 'br'
            ? brotliDecompressSync(bytes, { ...partial, finishFlush: constants.BROTLI_OPERATION_FLUSH })
            : undefined
    return plain?.subarray(0, mostKept)
  } catch {
    return undefined
  }
}
