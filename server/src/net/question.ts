/**
 * A question that may be asked twice (`EgressRequest.repeatable`), answer read whole: over undici's pool, where the one before may have left
 * a connection. A sign-in asks an account's host two or three of them in a row, and each connection of its own costs two round trips to
 * a host on another continent, and both sides the sums of a TLS handshake.
 */
import type { Dispatcher } from 'undici'
import { EgressError } from '../errors.ts'
import type { EgressAnswer, EgressPhase, EgressRequest } from '../seams.ts'
import { decoded, headersOf } from './exchange.ts'

export function question(
  dispatcher: Pick<Dispatcher, 'dispatch'>,
  ask: EgressRequest,
  userAgent: string,
  phaseOf: (error: unknown) => EgressPhase,
): Promise<EgressAnswer> {
  const { origin, host, pathname, search } = ask.url
  const answer = Promise.withResolvers<EgressAnswer>()
  const pieces: Buffer[] = []
  let [status, size] = [0, 0]
  let headers: EgressAnswer['headers'] = {}
  let timer: NodeJS.Timeout | undefined
  const giveUp = (message: string, reason: EgressError['reason']) =>
    new EgressError('unanswered', `${host}: ${message}`, undefined, reason)
  const { connection: _, ...sent } = headersOf(ask, userAgent)
  dispatcher.dispatch(
    { origin, path: `${pathname}${search}`, method: ask.method, headers: sent, body: ask.body ?? null },
    {
      onRequestStart(controller) {
        const late = () => controller.abort(giveUp(`no whole answer within ${ask.deadlineMs} ms`, 'deadline'))
        timer = setTimeout(late, ask.deadlineMs)
      },
      onResponseStart(_controller, received, named) {
        status = received
        headers = named
      },
      onResponseData(controller, chunk) {
        size += chunk.length
        pieces.push(chunk)
        if (size > ask.maxBytes)
          controller.abort(giveUp(`the answer is longer than ${ask.maxBytes} bytes`, 'too_large'))
      },
      onResponseEnd() {
        clearTimeout(timer)
        answer.resolve(decoded({ statusCode: status, headers }, Buffer.concat(pieces), ask, host))
      },
      onResponseError(_controller, error) {
        clearTimeout(timer)
        if (error instanceof EgressError) return answer.reject(error)
        const { code, message } = error as NodeJS.ErrnoException
        const reason = code === 'UND_ERR_HEADERS_OVERFLOW' ? 'too_large' : undefined
        answer.reject(new EgressError(phaseOf(error), `${host}: no answer: ${code ?? message}`, error, reason))
      },
    },
  )
  return answer.promise
}
