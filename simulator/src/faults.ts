// Breaking things on purpose: a queue of faults, each waiting for the next N requests it matches. A fault acts either
// before the request is processed (nothing changed) or after (the change is committed, only the answer is lost);
// that difference is what a broker's refresh has to survive.

import type { Reply } from './http.ts'
import { BadInput } from './world.ts'

export const endpoints = [
  'authorize',
  'pages',
  'token',
  'introspect',
  'revoke',
  'userinfo',
  'identity',
  'discovery',
  'versions',
  'rest',
  'other',
] as const
export type Endpoint = (typeof endpoints)[number]

export type FaultMatch = {
  endpoint?: Endpoint | '*'
  /** Only token requests of this grant_type. */
  grantType?: string
  /** Only paths containing this. */
  path?: string
  /** Only this org's hosts; requests to login. and test. do not match. */
  org?: string
  /** How many matching requests; default 1. */
  times?: number
  when?: 'before' | 'after'
}
export type DelayInput = FaultMatch & { ms: number }
export type DropInput = FaultMatch & {
  /** Send the head and half of the body first. */
  midway?: boolean
}
export type FailInput = FaultMatch & {
  status: number
  body?: unknown
  contentType?: string
  headers?: Record<string, string>
}

/** An OAuth error: at authorize on the callback, or on a page of Salesforce; elsewhere as JSON. */
export type RefuseInput = Omit<FaultMatch, 'endpoint' | 'when'> & {
  endpoint: 'authorize' | 'token' | 'introspect' | 'revoke'
  error: string
  description?: string
  /** The callback never hears of it. */
  onPage?: boolean
}

export type Fault = {
  id: number
  kind: 'delay' | 'drop' | 'fail' | 'refuse'
  endpoint: Endpoint | '*'
  grantType: string | null
  path: string | null
  org: string | null
  left: number
  when: 'before' | 'after'
  ms: number
  midway: boolean
  reply: Reply | null
  refuse: { error: string; description: string; onPage: boolean } | null
}

export type Faults = { queue: Fault[]; lastId: number }
export const noFaults = (): Faults => ({ queue: [], lastId: 0 })

function add(faults: Faults, input: FaultMatch, rest: Pick<Fault, 'kind' | 'when'> & Partial<Fault>): { id: number } {
  const endpoint = input.endpoint ?? '*'
  if (endpoint !== '*' && !endpoints.includes(endpoint)) {
    throw new BadInput(`endpoint must be one of *, ${endpoints.join(', ')}`)
  }
  const times = input.times ?? 1
  if (!Number.isInteger(times) || times < 1) throw new BadInput('times must be a whole number from 1')
  const id = ++faults.lastId
  faults.queue.push({
    id,
    endpoint,
    grantType: input.grantType ?? null,
    path: input.path ?? null,
    org: input.org ?? null,
    left: times,
    ms: 0,
    midway: false,
    reply: null,
    refuse: null,
    ...rest,
  })
  return { id }
}

export function addDelay(faults: Faults, input: DelayInput): { id: number } {
  if (!(input.ms >= 0 && input.ms <= 3_600_000)) throw new BadInput('ms must be between 0 and 3600000')
  return add(faults, input, { kind: 'delay', when: input.when ?? 'after', ms: input.ms })
}

export const addDrop = (faults: Faults, input: DropInput): { id: number } =>
  add(faults, input, { kind: 'drop', when: input.when ?? 'after', midway: input.midway ?? false })

export function addFail(faults: Faults, input: FailInput): { id: number } {
  if (!Number.isInteger(input.status) || input.status < 200 || input.status > 599) {
    throw new BadInput('status must be between 200 and 599')
  }
  const headers = input.headers ?? {}
  const textual = typeof input.body === 'string'
  const type = input.contentType ?? (textual ? 'text/html; charset=UTF-8' : 'application/json;charset=UTF-8')
  const reply: Reply =
    input.body === undefined
      ? { status: input.status, headers }
      : textual
        ? { status: input.status, headers, text: input.body as string, type }
        : { status: input.status, headers, json: input.body, type }
  return add(faults, input, { kind: 'fail', when: input.when ?? 'before', reply })
}

export function addRefuse(faults: Faults, input: RefuseInput): { id: number } {
  const { error, description = '', onPage = false } = input
  if (!['authorize', 'token', 'introspect', 'revoke'].includes(input.endpoint)) {
    throw new BadInput('endpoint must be one of authorize, token, introspect, revoke')
  }
  if (typeof error !== 'string' || error === '') throw new BadInput('error must be a text')
  return add(faults, input, { kind: 'refuse', when: 'before', refuse: { error, description, onPage } })
}

export type Incident = { delayBefore: number; delayAfter: number; decisive: Fault | null }

/** Takes every delay that matches, and the first drop or fail. */
export function takeFaults(
  faults: Faults,
  request: { endpoint: Endpoint; grantType: string | null; path: string; org: string | null },
): Incident {
  const incident: Incident = { delayBefore: 0, delayAfter: 0, decisive: null }
  for (const fault of faults.queue) {
    if (fault.endpoint !== '*' && fault.endpoint !== request.endpoint) continue
    if (fault.grantType !== null && fault.grantType !== request.grantType) continue
    if (fault.path !== null && !request.path.includes(fault.path)) continue
    if (fault.org !== null && fault.org !== request.org) continue
    if (fault.kind === 'delay') {
      if (fault.when === 'before') incident.delayBefore += fault.ms
      else incident.delayAfter += fault.ms
    } else {
      if (incident.decisive) continue
      incident.decisive = fault
    }
    fault.left--
  }
  faults.queue = faults.queue.filter(fault => fault.left > 0)
  return incident
}
