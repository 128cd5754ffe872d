/** A call's record, from its arrival to its end. Every function here is on the path of every call: members are set, nothing is computed. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { EnvironmentCaller } from '../account/caller.ts'
import type { Activity, Call } from '../activity/activity.ts'
import { keep, restart } from '../activity/bodies.ts'
import type { Live } from '../connection/live.ts'
import type { Credential } from '../credential/store.ts'
import { Secret } from '../lib/secret.ts'
import type { Held } from './forward.ts'
import { type Head, headerOf } from './headers.ts'
import type { Target } from './target.ts'

/** All members at once, so that every record has one shape. `environmentId` 0: nobody is known to have called. */
export const arrived = (req: IncomingMessage, now: number, requestId: string): Call => ({
  requestId,
  environmentId: 0,
  apiKeyId: null,
  integration: '',
  connection: '',
  method: req.method ?? '',
  path: '',
  host: undefined,
  status: undefined,
  outcome: 'answered',
  error: undefined,
  bytesUp: 0,
  bytesDown: 0,
  arrivedAt: now,
  sentAt: undefined,
  answeredAt: undefined,
  endedAt: now,
  retries: 0,
  refreshed: false,
  repeatsToken: false,
  bodies: undefined,
})

/** Who calls, and what for. From here on the call is recorded, whatever becomes of it. */
export function identified(
  call: Call,
  caller: EnvironmentCaller,
  {
    key,
    integrationKey,
    connectionId,
    rest,
  }: { key: string; integrationKey: string; connectionId: string; rest: string },
): void {
  call.environmentId = caller.environment.id
  call.apiKeyId = caller.kind === 'key' ? caller.keyId : null
  // A key in the wrong place names nothing, and is not to be kept.
  call.integration = integrationKey.includes(key) ? '' : integrationKey
  call.connection = connectionId.includes(key) ? '' : connectionId
  call.path = rest
}

/** The names it was asked by, as strings that live on: those of a request are hashed anew by every Map they are looked up in. */
export function located(call: Call, { integration, connection }: Live): void {
  call.integration = integration.key
  call.connection = connection.connectionId
}

/** Its bodies are to be kept, if there is room. */
export function capture(
  { activity }: { activity: Activity },
  call: Call,
  head: Head,
  key: string,
  { credential, integration }: Live,
): void {
  call.bodies = activity.keepBodies()
  if (!call.bodies) return
  call.bodies.secrets.push(key, ...secretsOf(credential), integration.clientSecret ?? undefined)
  call.bodies.request.type = headerOf(head, 'content-type')
  call.bodies.request.encoding = headerOf(head, 'content-encoding')
}

/** Everything of a credential that a kept body must not show. */
export const secretsOf = ({ accessToken, refreshToken, given }: Credential): (Secret | undefined)[] => [
  accessToken,
  refreshToken,
  // A word of two letters would blank out half of every body.
  ...Object.values(given).flatMap(value => (value.length > 3 ? [new Secret(value)] : [])),
]

/** A piece of the caller's body. */
export function up(call: Call, piece: Buffer): void {
  call.bytesUp += piece.length
  if (call.bodies) keep(call.bodies.request, piece)
}

/** It is handed to the provider, perhaps not for the first time. */
export function sending(call: Call, { origin, path }: Target, now: number): void {
  call.host = origin.slice(origin.indexOf('//') + 2)
  call.path = path
  call.sentAt = now
  call.answeredAt = undefined
}

/** The provider's answer began; perhaps it is not the last. */
export function begun(call: Call, status: number, headers: Held['headers'], now: number): void {
  call.status = status
  call.answeredAt = now
  if (!call.bodies) return
  restart(call.bodies.answer)
  call.bodies.answer.type = String(headers['content-type'] ?? '')
  call.bodies.answer.encoding = String(headers['content-encoding'] ?? '')
}

export function ended(call: Call, req: IncomingMessage, res: ServerResponse, now: number): Call {
  call.endedAt = now
  // Destroyed is also a response that is through.
  const gone = (res.destroyed && !res.writableFinished) || (req.destroyed && !req.complete)
  if (call.outcome === 'answered' && gone) call.outcome = 'aborted'
  // What a host answered is not what the caller got, when an attempt was under way again.
  if (!res.headersSent) call.status = undefined
  return call
}
