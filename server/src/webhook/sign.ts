/** What a receiver can check a webhook by. Pure: the same message and instant give the same headers. */
import { createHmac, hash } from 'node:crypto'
import type { Secret } from '../lib/secret.ts'

export interface Message {
  /** The same for every attempt: what a receiver recognises a repetition by. */
  id: string
  body: string
}

/**
 * Two schemes side by side, over the same bytes. Standard Webhooks: HMAC-SHA-256 of `id.timestamp.body` by the key's decoded bytes, one
 * signature per key that still signs, so that a rotation is noticed by nobody. The wire contract's: by the current key's whole text; the
 * plain hash among them can be extended by whoever sees it, and is there for old clients alone.
 * `keys`: the current one first; at least one.
 */
export function signatures({ id, body }: Message, keys: Secret[], atSeconds: number): Record<string, string> {
  const current = keys[0]!.reveal()
  const standard = keys.map(key => `v1,${hmac(standardKey(key), `${id}.${atSeconds}.${body}`).toString('base64')}`)
  return {
    'webhook-id': id,
    'webhook-timestamp': String(atSeconds),
    'webhook-signature': standard.join(' '),
    'x-nango-hmac-sha256': hmac(current, body).toString('hex'),
    'x-nango-signature': hash('sha256', current + body, 'hex'),
  }
}

const standardKey = (key: Secret): Buffer => Buffer.from(key.reveal().replace(/^whsec_/, ''), 'base64')

const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text).digest()
