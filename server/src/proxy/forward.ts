/**
 * One exchange with a provider, streamed both ways through undici's `dispatch`: no buffer but the one in flight, the slower side
 * sets the pace, and a side that goes away takes the other with it.
 */
import type { ServerResponse } from 'node:http'
import type { Readable, Transform } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { Call } from '../activity/activity.ts'
import { keep } from '../activity/bodies.ts'
import { Failure } from '../errors.ts'
import type { Secret } from '../lib/secret.ts'
import { egressPhaseOf } from '../net/egress.ts'
import type { Egress } from '../seams.ts'
import { type Coding, codingOf, decodedHeaders, plainBody } from './coding.ts'
import { downstreamHeaders, downstreamTrailers } from './headers.ts'
import { type Heard, hear, heard, repeats } from './repeated.ts'
import type { Target } from './target.ts'

export interface Ask {
  method: string
  target: Target
  headers: string[]
  /** A Buffer can be sent again; a stream cannot. */
  body: Buffer | Readable | null
  /** What it carries, to be looked for in the answer. */
  token: Secret
  /** What the caller shall read of the answer's headers, when that is not what the provider wrote. */
  rewrite: ((headers: Held['headers'], status: number) => Held['headers']) | undefined
  /** The wire contract's Decompress: the body goes down without its content coding. */
  decompress: boolean
}

/** An answer whose body is held back because it may mean "this token has ended". */
export interface Held {
  status: number
  statusText: string
  headers: Record<string, string | string[] | undefined>
  body: Buffer
  /** It goes down without its content coding. */
  decompress: boolean
  /** It holds the token it was asked with. */
  repeatsToken: boolean
}

/** The most that is held back to be read; a longer answer is no error message and streams on. */
const maxHeld = 64 * 1024

/** The caller's side of a call. One for all of its attempts: a listener costs more than asking who is sending just now. */
export interface Downstream {
  res: ServerResponse
  upstream: Dispatcher.DispatchController | undefined
}

/** Takes the pace from the caller, and takes the provider's side down with the caller's. */
export function downstream(res: ServerResponse): Downstream {
  const down: Downstream = { res, upstream: undefined }
  res.on('close', () => {
    if (!res.writableFinished) down.upstream?.abort(new Error('the caller went away'))
  })
  return down
}

/**
 * Sends `ask` and streams the answer to the caller; resolves when all of it is through. When `holds` says so, a short answer is not sent
 * but handed back, for the caller of this function to judge; and so is the Failure to get one. Once something has been sent, the
 * response is cut instead. `call` counts what comes through.
 */
export function forward(
  egress: Egress,
  ask: Ask,
  down: Downstream,
  call: Call,
  holds: (status: number, headers: Held['headers']) => boolean,
): Promise<Held | Failure | undefined> {
  const { res } = down
  return new Promise(resolve => {
    let held: Held | undefined
    let answer: Heard | undefined
    let pieces: Buffer[] = []
    let size = 0
    /** The head is written and has not left: a short piece that comes along leaves with it. */
    let leaving = false
    let first: Buffer | undefined
    let coding: Coding | undefined
    let decoder: Transform | undefined

    const settle = (outcome?: Held | Failure) => {
      down.upstream = undefined
      resolve(outcome)
    }
    const begin = (status: number, received: Held['headers'], statusText: string) => {
      coding = ask.decompress ? codingOf(status, received) : undefined
      const headers = coding ? decodedHeaders(received) : received
      sendHead(res, { status, headers, statusText }, call)
      leaving = true
      queueMicrotask(leave)
    }
    /** The head of an answer whose body takes its time (server-sent events) leaves at once. */
    const leave = () => {
      if (first) write(first)
      else if (leaving) res.flushHeaders()
      leaving = false
    }
    const pass = (chunk: Buffer) => {
      count(call, chunk)
      if (leaving && !first && !coding && chunk.length <= inOneWrite) {
        first = chunk
        return
      }
      if (first) write(first)
      write(chunk)
    }
    const write = (chunk: Buffer) => {
      leaving = false
      first = undefined
      // Made for the first piece: an answer without a body (HEAD, 304) is not a broken one.
      if (coding && !decoder) decoder = decoding(coding, down)
      if ((decoder ?? res).write(chunk)) return
      down.upstream?.pause()
      if (!decoder) res.once('drain', () => down.upstream?.resume())
    }
    /** It grew too long to be held: send what was kept and stream the rest. */
    const release = () => {
      const { status, headers, statusText } = held!
      held = undefined
      begin(status, headers, statusText)
      for (const piece of pieces) pass(piece)
      pieces = []
    }

    egress.dispatcher.dispatch(
      {
        origin: ask.target.origin,
        path: ask.target.path,
        method: ask.method as Dispatcher.HttpMethod,
        headers: ask.headers,
        body: ask.body,
      },
      {
        onRequestStart(controller) {
          down.upstream = controller
          if (res.destroyed) controller.abort(new Error('the caller went away'))
        },
        onResponseStart(_c, status, received, statusText) {
          if (status < 200) return
          answer = heard(received)
          const headers = ask.rewrite ? ask.rewrite(received, status) : received
          if (holds(status, headers))
            held = {
              ...{ status, headers, statusText: statusText ?? '', body: Buffer.alloc(0), decompress: ask.decompress },
              repeatsToken: false,
            }
          else begin(status, headers, statusText ?? '')
        },
        onResponseData(_c, chunk) {
          hear(answer!, chunk)
          if (!held) return pass(chunk)
          pieces.push(chunk)
          size += chunk.length
          if (size > maxHeld) release()
        },
        onResponseEnd(_c, trailers) {
          const repeatsToken = () => repeats(answer!, ask.token.reveal())
          if (held) return settle({ ...held, body: Buffer.concat(pieces), repeatsToken: repeatsToken() })
          // An empty object when there were none, which is nearly always.
          if (trailers && Object.keys(trailers).length > 0) res.addTrailers(downstreamTrailers(trailers))
          // A decoder ends the response after its last piece.
          if (decoder) decoder.end()
          else if (first) endWith(res, first)
          else res.end()
          leaving = false
          first = undefined
          call.repeatsToken = repeatsToken()
          settle()
        },
        onResponseError(_c, error) {
          if (!res.headersSent) return settle(upstreamFailure(error))
          // Part of the answer is out or was to be; cutting the connection is the only honest way to say that the rest is missing.
          if (!res.destroyed) call.outcome = 'cut'
          res.destroy()
          settle()
        },
      },
    )
  })
}

/** Node puts a head and a string into one write, a head and bytes into two for one system call. Latin-1 has every byte. */
const endWith = (res: ServerResponse, body: Buffer): void => void res.end(body.toString('latin1'), 'latin1')

/** Node writes strings of this size, head included, without another copy. */
const inOneWrite = 8 * 1024

/** What is passed on counts, not what was held back and judged. */
function count(call: Call, chunk: Buffer): void {
  call.bytesDown += chunk.length
  if (call.bodies) keep(call.bodies.answer, chunk)
}

/** Pieces written to it go down decoded. What cannot be decoded cuts the response: its head promised a body without a coding. */
function decoding(coding: Coding, down: Downstream): Transform {
  const decoder = coding.stream()
  decoder.on('drain', () => down.upstream?.resume())
  decoder.on('error', error => {
    down.upstream?.abort(error)
    down.res.destroy()
  })
  decoder.pipe(down.res)
  return decoder
}

/** A short answer decoded at once; one that cannot be goes down as it came. */
function decoded(held: Held): Held {
  const body = plainBody(held)
  return body && codingOf(held.status, held.headers) ? { ...held, headers: decodedHeaders(held.headers), body } : held
}

export function sendHeld(whole: Held, res: ServerResponse, call: Call): void {
  count(call, whole.body)
  call.repeatsToken = whole.repeatsToken
  const held = whole.decompress ? decoded(whole) : whole
  sendHead(res, held, call)
  endWith(res, held.body)
}

/** RFC 9112 §4: a reason phrase may hold any byte from 0x80; Node writes Latin-1, undici read it as UTF-8. */
function sendHead(
  res: ServerResponse,
  { status, statusText, headers }: Pick<Held, 'status' | 'statusText' | 'headers'>,
  { requestId }: Call,
): void {
  const reason = /[^\x20-\x7e]/.test(statusText) ? Buffer.from(statusText).toString('latin1') : statusText
  res.writeHead(status, reason, downstreamHeaders(headers, requestId))
}

function upstreamFailure(error: Error): Failure {
  const phase = egressPhaseOf(error)
  if (phase === 'refused') return new Failure('egress_refused', { cause: error })
  if (phase === 'unsent') return new Failure('upstream_unreachable', { cause: error })
  const timedOut = /TIMEOUT/.test(String((error as NodeJS.ErrnoException).code))
  return new Failure(timedOut ? 'upstream_timeout' : 'upstream_failed', { cause: error })
}
