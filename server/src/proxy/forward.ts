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
  const { target, method, headers, body } = ask
  return new Promise(resolve => {
    const options = { origin: target.origin, path: target.path, method: method as Dispatcher.HttpMethod, headers, body }
    egress.dispatcher.dispatch(options, new Exchange(ask, down, call, holds, resolve))
  })
}

/** What undici calls while it goes on. A class, because a dozen closures for each call were a fifth of what a call leaves behind. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #ask: Ask
  readonly #down: Downstream
  readonly #call: Call
  readonly #holds: (status: number, headers: Held['headers']) => boolean
  readonly #resolve: (outcome: Held | Failure | undefined) => void
  #answer: Heard | undefined
  /** The head of an answer that is held back, and its body so far. */
  #held: Omit<Held, 'body'> | undefined
  #pieces: Buffer[] | undefined
  #size = 0
  /** The head is written and has not left: a short piece that comes along leaves with it. */
  #leaving = false
  #first: Buffer | undefined
  #coding: Coding | undefined
  #decoder: Transform | undefined

  constructor(
    ask: Ask,
    down: Downstream,
    call: Call,
    holds: (status: number, headers: Held['headers']) => boolean,
    resolve: (outcome: Held | Failure | undefined) => void,
  ) {
    this.#ask = ask
    this.#down = down
    this.#call = call
    this.#holds = holds
    this.#resolve = resolve
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#down.upstream = controller
    if (this.#down.res.destroyed) controller.abort(new Error('the caller went away'))
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    received: Held['headers'],
    statusText = '',
  ): void {
    if (status < 200) return
    const { rewrite, decompress } = this.#ask
    this.#answer = heard(received)
    const headers = rewrite ? rewrite(received, status) : received
    if (this.#holds(status, headers)) {
      this.#held = { status, headers, statusText, decompress, repeatsToken: false }
      this.#pieces = []
    } else this.#begin(status, headers, statusText)
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    hear(this.#answer!, chunk)
    if (!this.#pieces) {
      this.#pass(chunk)
      return
    }
    this.#pieces.push(chunk)
    this.#size += chunk.length
    if (this.#size > maxHeld) this.#release(this.#held!, this.#pieces)
  }

  onResponseEnd(_controller: Dispatcher.DispatchController, trailers: Held['headers'] | undefined): void {
    const { res } = this.#down
    const repeatsToken = () => repeats(this.#answer!, this.#ask.token.reveal())
    if (this.#held) {
      this.#settle({ ...this.#held, body: Buffer.concat(this.#pieces!), repeatsToken: repeatsToken() })
      return
    }
    // An empty object when there were none, which is nearly always.
    if (trailers && Object.keys(trailers).length > 0) res.addTrailers(downstreamTrailers(trailers))
    // A decoder ends the response after its last piece.
    if (this.#decoder) this.#decoder.end()
    else if (this.#first) endWith(res, this.#first)
    else res.end()
    this.#leaving = false
    this.#first = undefined
    this.#call.repeatsToken = repeatsToken()
    this.#settle(undefined)
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const { res } = this.#down
    if (!res.headersSent) {
      this.#settle(upstreamFailure(error))
      return
    }
    // Part of the answer is out or was to be; cutting the connection is the only honest way to say that the rest is missing.
    if (!res.destroyed) this.#call.outcome = 'cut'
    res.destroy()
    this.#settle(undefined)
  }

  #settle(outcome: Held | Failure | undefined): void {
    this.#down.upstream = undefined
    this.#resolve(outcome)
  }

  #begin(status: number, received: Held['headers'], statusText: string): void {
    this.#coding = this.#ask.decompress ? codingOf(status, received) : undefined
    const headers = this.#coding ? decodedHeaders(received) : received
    sendHead(this.#down.res, { status, headers, statusText }, this.#call)
    this.#leaving = true
    queueMicrotask(() => this.#leave())
  }

  /** The head of an answer whose body takes its time (server-sent events) leaves at once. */
  #leave(): void {
    if (this.#first) this.#write(this.#first)
    else if (this.#leaving) this.#down.res.flushHeaders()
    this.#leaving = false
  }

  #pass(chunk: Buffer): void {
    count(this.#call, chunk)
    if (this.#leaving && !this.#first && !this.#coding && chunk.length <= inOneWrite) {
      this.#first = chunk
      return
    }
    if (this.#first) this.#write(this.#first)
    this.#write(chunk)
  }

  #write(chunk: Buffer): void {
    this.#leaving = false
    this.#first = undefined
    const down = this.#down
    // Made for the first piece: an answer without a body (HEAD, 304) is not a broken one.
    if (this.#coding) this.#decoder ??= decoding(this.#coding, down)
    if ((this.#decoder ?? down.res).write(chunk)) return
    down.upstream?.pause()
    if (!this.#decoder) down.res.once('drain', () => down.upstream?.resume())
  }

  /** It grew too long to be held: what was kept goes down, and the rest streams. */
  #release({ status, headers, statusText }: Omit<Held, 'body'>, pieces: Buffer[]): void {
    this.#held = undefined
    this.#pieces = undefined
    this.#begin(status, headers, statusText)
    for (const piece of pieces) this.#pass(piece)
  }
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
