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
import { egressPhaseOf } from '../net/egress.ts'
import type { Egress } from '../seams.ts'
import { type Coding, codingOf, decodedHeaders, plainBody } from './coding.ts'
import { downstreamHeaders, downstreamTrailers } from './headers.ts'
import type { Target } from './target.ts'

export interface Ask {
  method: string
  target: Target
  headers: string[]
  /** A Buffer can be sent again; a stream cannot. */
  body: Buffer | Readable | null
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
  res.on('drain', () => down.upstream?.resume())
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
    let pieces: Buffer[] = []
    let size = 0
    let moving = false
    let coding: Coding | undefined
    let decoder: Transform | undefined

    const settle = (outcome?: Held | Failure) => {
      down.upstream = undefined
      resolve(outcome)
    }
    const begin = (status: number, received: Held['headers'], statusText: string) => {
      coding = ask.decompress ? codingOf(status, received) : undefined
      const headers = coding ? decodedHeaders(received) : received
      sendHead(res, { status, headers, statusText })
      // The head of an answer whose body takes its time (server-sent events) leaves at once; one whose body came along leaves with it.
      queueMicrotask(() => moving || res.flushHeaders())
    }
    const pass = (chunk: Buffer) => {
      moving = true
      count(call, chunk)
      // Made for the first piece: an answer without a body (HEAD, 304) is not a broken one.
      if (coding && !decoder) decoder = decoding(coding, down)
      if (!(decoder ?? res).write(chunk)) down.upstream?.pause()
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
          const headers = ask.rewrite ? ask.rewrite(received, status) : received
          if (holds(status, headers))
            held = { status, headers, statusText: statusText ?? '', body: Buffer.alloc(0), decompress: ask.decompress }
          else begin(status, headers, statusText ?? '')
        },
        onResponseData(_c, chunk) {
          if (!held) return pass(chunk)
          pieces.push(chunk)
          size += chunk.length
          if (size > maxHeld) release()
        },
        onResponseEnd(_c, trailers) {
          if (held) return settle({ ...held, body: Buffer.concat(pieces) })
          moving = true
          // An empty object when there were none, which is nearly always.
          if (trailers && Object.keys(trailers).length > 0) res.addTrailers(downstreamTrailers(trailers))
          // A decoder ends the response after its last piece.
          if (decoder) decoder.end()
          else res.end()
          settle()
        },
        onResponseError(_c, error) {
          if (!res.headersSent) return settle(upstreamFailure(error))
          // Part of the answer is out; cutting the connection is the only honest way to say that the rest is missing.
          if (!res.destroyed) call.outcome = 'cut'
          res.destroy()
          settle()
        },
      },
    )
  })
}

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
  const held = whole.decompress ? decoded(whole) : whole
  sendHead(res, held)
  res.end(held.body)
}

/** RFC 9112 §4: a reason phrase may hold any byte from 0x80; Node writes Latin-1, undici read it as UTF-8. */
function sendHead(res: ServerResponse, { status, statusText, headers }: Omit<Held, 'body' | 'decompress'>): void {
  const reason = /[^\x20-\x7e]/.test(statusText) ? Buffer.from(statusText).toString('latin1') : statusText
  res.writeHead(status, reason, downstreamHeaders(headers))
}

function upstreamFailure(error: Error): Failure {
  const phase = egressPhaseOf(error)
  if (phase === 'refused') return new Failure('egress_refused', { cause: error })
  if (phase === 'unsent') return new Failure('upstream_unreachable', { cause: error })
  const timedOut = /TIMEOUT/.test(String((error as NodeJS.ErrnoException).code))
  return new Failure(timedOut ? 'upstream_timeout' : 'upstream_failed', { cause: error })
}
