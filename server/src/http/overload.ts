/**
 * Sheds load before everybody waits: when the event loop is behind by a tenth of a second and this very turn of it has already begun hundreds
 * of requests, the next ones are refused at once, with a moment to wait. Both at a time: a process that merely was not scheduled for a while
 * (a busy machine, a garbage collection) is late with little to do, and refuses nobody.
 */
import type { ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import { Failure } from '../errors.ts'
import { sendFailure } from './api.ts'

/** How often the loop is looked at; it is late by what lies beyond. */
const tickMs = 20
const lateMs = 100
const begunAtOnce = 250

export interface Overload {
  /** Of a request that has just arrived: whether it is one too many. Counts it. */
  isOver(): boolean
  close(): void
}

export function watchOverload(now: () => number = () => performance.now()): Overload {
  let ticked = now()
  let begun = 0
  const timer = setInterval(() => {
    ticked = now()
    begun = 0
  }, tickMs).unref()
  return {
    isOver: () => ++begun > begunAtOnce && now() - ticked > tickMs + lateMs,
    close: () => clearInterval(timer),
  }
}

/** Whoever watches over the server asks it just then. */
export const isWatching = (url: string): boolean => url === '/health' || url === '/ready' || url === '/metrics'

/** The shortest answer there is; the body, if one is coming, is not waited for. */
export const shed = (res: ServerResponse, requestId: string): void =>
  sendFailure(res, new Failure('overloaded', { headers: { 'Retry-After': '1', Connection: 'close' } }), requestId)
