// What a resource below /services/data/vNN.0 is given and how it answers; rest.ts decides which one is meant.

import type { Call, Reply } from './http.ts'
import { restError } from './http.ts'
import { RecordError } from './records.ts'
import { type ObjectType, objectType } from './schema.ts'
import type { Org, Session, World } from './world.ts'

export type Context = { world: World; org: Org; session: Session; address: Call['address']; headers: Call['headers'] }

export type Request = Context & {
  version: string
  method: string
  /** Path segments after /services/data/vNN.0, decoded. */
  segments: string[]
  query: URLSearchParams
  /** The body as JSON; throws what Salesforce says of a body that is none. */
  body: () => unknown
  /** As it came; empty inside a composite. */
  raw: Buffer
}

export type Handlers = Partial<Record<'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', (request: Request) => Reply>>

export const ok = (body: unknown): Reply => ({ status: 200, json: body })
export const notFound = (): Reply => restError(404, 'NOT_FOUND', 'The requested resource does not exist')
export const base = (request: Request) => `/services/data/v${request.version}`

export function typeNamed(name: string | undefined): ObjectType {
  const type = objectType(name ?? '')
  if (!type) throw new RecordError(404, 'NOT_FOUND', 'The requested resource does not exist')
  return type
}

/** A body that must be an object, whatever is in it. */
export function objectOf(request: Request): Record<string, unknown> {
  const body = request.body()
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new RecordError(400, 'JSON_PARSER_ERROR', 'The request body must be a JSON object')
  }
  return body as Record<string, unknown>
}
