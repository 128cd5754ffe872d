/**
 * `proxy.body` of provider data: members every JSON body to this provider must have. The one exception to "bodies are never changed";
 * they are put in as text behind the opening brace, so that what the caller wrote stays as it is, to the last digit of its numbers.
 */
import type { IncomingMessage } from 'node:http'
import type { Call } from '../activity/activity.ts'
import type { Live } from '../connection/live.ts'
import { credentialValues } from '../credential/present.ts'
import { Failure } from '../errors.ts'
import { expand, type Values } from '../provider/template.ts'
import { type Head, headerOf } from './headers.ts'
import { up } from './record.ts'

/** A body is read whole to be added to. */
const longest = 1024 * 1024

/** Whether this call has a JSON body that something is added to, or none and gets one. */
export function takesMembers({ provider }: Live, method: string, head: Head): boolean {
  if (!provider.proxy?.body) return false
  const type = headerOf(head, 'content-type')
  if (type !== undefined)
    return /^application\/(?:[\w.-]+\+)?json\b/i.test(type) && headerOf(head, 'content-encoding') === undefined
  const isEmpty =
    headerOf(head, 'transfer-encoding') === undefined && Number(headerOf(head, 'content-length') ?? 0) === 0
  return isEmpty && /^(?:POST|PUT|PATCH)$/.test(method)
}

/** The call's body with the members the caller left out. What is no JSON object is the provider's to judge. */
export async function bodyWithMembers(live: Live, req: IncomingMessage, recorded: Call): Promise<Buffer> {
  const pieces: Buffer[] = []
  let size = 0
  // The caller's connection outlives a body that is too long: the refusal goes down on it.
  for await (const piece of req.iterator({ destroyOnReturn: false })) {
    size += piece.length
    if (size > longest) throw new Failure('proxy_body_too_large')
    pieces.push(piece)
    up(recorded, piece)
  }
  const body = Buffer.concat(pieces)
  const members = resolved(live.provider.proxy!.body, credentialValues(live.credential)) as Record<string, unknown>
  return body.length === 0 ? Buffer.from(JSON.stringify(members)) : withMembers(body, members)
}

function withMembers(body: Buffer, members: Record<string, unknown>): Buffer {
  let written: unknown
  try {
    written = JSON.parse(body.toString('utf8'))
  } catch {
    return body
  }
  if (typeof written !== 'object' || written === null || Array.isArray(written)) return body
  const added = Object.entries(members).filter(([name]) => !Object.hasOwn(written, name))
  if (added.length === 0) return body
  const text = JSON.stringify(Object.fromEntries(added)).slice(1, -1)
  const inside = body.indexOf('{') + 1
  return Buffer.concat([
    body.subarray(0, inside),
    Buffer.from(Object.keys(written).length > 0 ? `${text},` : text),
    body.subarray(inside),
  ])
}

/** Templates filled in at any depth; a member whose template does not resolve is left out. */
function resolved(value: unknown, values: Values): unknown {
  if (typeof value === 'string') return expand(value, values)
  if (Array.isArray(value)) return value.map(one => resolved(one, values)).filter(one => one !== undefined)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, one]) => {
      const filled = resolved(one, values)
      return filled === undefined ? [] : [[name, filled]]
    }),
  )
}
