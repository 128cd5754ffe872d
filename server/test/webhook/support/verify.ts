/** Verification written from the Standard Webhooks specification and the wire contract, sharing nothing with the server. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

interface Sent {
  headers: IncomingHttpHeaders
  body: string
}

/** True when any of the signatures is by this key and the timestamp is within five minutes. */
export function verifiesStandard({ headers, body }: Sent, key: string, nowSeconds = Date.now() / 1000): boolean {
  const id = String(headers['webhook-id'])
  const timestamp = String(headers['webhook-timestamp'])
  if (!/^\d+$/.test(timestamp) || Math.abs(nowSeconds - Number(timestamp)) > 300) return false
  const bytes = Buffer.from(key.slice('whsec_'.length), 'base64')
  const expected = createHmac('sha256', bytes).update(`${id}.${timestamp}.${body}`).digest()
  return String(headers['webhook-signature'])
    .split(' ')
    .filter(one => one.startsWith('v1,'))
    .map(one => Buffer.from(one.slice(3), 'base64'))
    .some(given => given.length === expected.length && timingSafeEqual(given, expected))
}

/** Both helpers of the existing clients: over the raw body, and over what they parsed and wrote out again. */
export function verifiesWire({ headers, body }: Sent, key: string): boolean {
  const hmac = createHmac('sha256', key).update(body).digest('hex')
  const plain = createHash('sha256')
    .update(`${key}${JSON.stringify(JSON.parse(body))}`)
    .digest('hex')
  return headers['x-nango-hmac-sha256'] === hmac && headers['x-nango-signature'] === plain
}
