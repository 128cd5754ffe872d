/**
 * One exchange with a provider, streamed both ways through undici's `dispatch`: no buffer but the one in flight, the slower side
 * sets the pace, and a side that goes away takes the other with it.
 */
import type { ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { Call } from '../activity/activity.ts'
import { keep } from '../activity/bodies.ts'
import { Failure } from '../errors.ts'
import { egressPhaseOf } from '../net/egress.ts'
import type { Egress } from '../seams.ts'
import { downstreamHeaders, downstreamTrailers } from './headers.ts'
import type { Target } from './target.ts'

export interface Ask {
  method: string
  target: Target
  headers: string[]
  /** A Buffer can be sent again; a stream cannot. */
  body: Buffer | Readable | null
}

/** An answer whose body is held back because it may mean "this token has ended". */
export interface Held {
  status: number
  statusText: string
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}

/** The most that is held back to be read; a longer answer is no error message and streams on. */
const maxHeld = 64 * 1024

/**
 * Sends `ask` and streams the answer to `res`; resolves when all of it is through. When `holds` says so, a short answer is not sent but
 * returned, for the caller to judge. Throws a Failure while nothing has been answered; later the response is cut instead. `call` counts
 * what comes through.
 */
export function forward(
  egress: Egress,
  ask: Ask,
  res: ServerResponse,
  call: Call,
  holds: (status: number, headers: Held['headers']) => boolean,
): Promise<Held | undefined> {
  return new Promise((resolve, reject) => {
    let controller: Dispatcher.DispatchController | undefined
    let held: Held | undefined
    let pieces: Buffer[] = []
    let size = 0
    let moving = false

    const onClose = () => {
      if (!res.writableFinished) controller?.abort(new Error('the caller went away'))
    }
    const onDrain = () => controller?.resume()
    const settle = (result: () => void) => {
      res.off('close', onClose)
      res.off('drain', onDrain)
      result()
    }
    res.on('close', onClose)
    res.on('drain', onDrain)

    const begin = (status: number, headers: Held['headers'], statusText: string) => {
      sendHead(res, { status, headers, statusText })
      // The head of an answer whose body takes its time (server-sent events) leaves at once; one whose body came along leaves with it.
      queueMicrotask(() => moving || res.flushHeaders())
    }
    const pass = (chunk: Buffer) => {
      moving = true
      count(call, chunk)
      if (!res.write(chunk)) controller?.pause()
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
        onRequestStart(c) {
          controller = c
          if (res.destroyed) c.abort(new Error('the caller went away'))
        },
        onResponseStart(_c, status, headers, statusText) {
          if (status < 200) return
          if (holds(status, headers)) held = { status, headers, statusText: statusText ?? '', body: Buffer.alloc(0) }
          else begin(status, headers, statusText ?? '')
        },
        onResponseData(_c, chunk) {
          if (!held) return pass(chunk)
          pieces.push(chunk)
          size += chunk.length
          if (size > maxHeld) release()
        },
        onResponseEnd(_c, trailers) {
          if (held) {
            const answer = { ...held, body: Buffer.concat(pieces) }
            return settle(() => resolve(answer))
          }
          moving = true
          if (trailers) res.addTrailers(downstreamTrailers(trailers))
          res.end()
          settle(() => resolve(undefined))
        },
        onResponseError(_c, error) {
          if (res.headersSent) {
            // Part of the answer is out; cutting the connection is the only honest way to say that the rest is missing.
            if (!res.destroyed) call.outcome = 'cut'
            res.destroy()
            return settle(() => resolve(undefined))
          }
          settle(() => reject(upstreamFailure(error)))
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

export function sendHeld(held: Held, res: ServerResponse, call: Call): void {
  count(call, held.body)
  sendHead(res, held)
  res.end(held.body)
}

/** RFC 9112 §4: a reason phrase may hold any byte from 0x80; Node writes Latin-1, undici read it as UTF-8. */
function sendHead(res: ServerResponse, { status, statusText, headers }: Omit<Held, 'body'>): void {
  res.writeHead(status, Buffer.from(statusText).toString('latin1'), downstreamHeaders(headers))
}

function upstreamFailure(error: Error): Failure {
  const phase = egressPhaseOf(error)
  if (phase === 'refused') return new Failure('egress_refused', { cause: error })
  if (phase === 'unsent') return new Failure('upstream_unreachable', { cause: error })
  const timedOut = /TIMEOUT/.test(String((error as NodeJS.ErrnoException).code))
  return new Failure(timedOut ? 'upstream_timeout' : 'upstream_failed', { cause: error })
}
