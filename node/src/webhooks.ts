/** Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA-256 of `id.timestamp.body`, one signature per key that still signs. */
import type { AuthWebhook, ForwardWebhook, OwnWebhook } from '@fairlead/contract'

export type WebhookEvent = AuthWebhook | ForwardWebhook | OwnWebhook

/** Those of fetch, or Node's. */
export type ReceivedHeaders = Headers | Record<string, string | string[] | undefined>

/** Not from Fairlead, or not what it sent, or too old. Answer 400 and do nothing else. */
export class WebhookRefused extends Error {
  override readonly name = 'WebhookRefused'
}

/** Older or newer than this, it is somebody's recording. */
const toleranceSeconds = 5 * 60

export async function verifyWebhook(
  body: string | Uint8Array,
  headers: ReceivedHeaders,
  signingKey: string,
): Promise<WebhookEvent> {
  const header = (name: string): string => {
    const value = headers instanceof Headers ? headers.get(name) : headers[name]
    if (typeof value !== 'string' || value === '') throw new WebhookRefused(`The header ${name} is missing.`)
    return value
  }
  const id = header('webhook-id')
  const timestamp = header('webhook-timestamp')
  const signatures = header('webhook-signature').split(' ')
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > toleranceSeconds)
    throw new WebhookRefused('The timestamp is more than five minutes away from now.')

  const secret = bytesOf(signingKey.replace(/^whsec_/, ''))
  if (!secret?.length) throw new TypeError('A signing key reads whsec_ and base64.')
  const key = await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
  const received = typeof body === 'string' ? new TextEncoder().encode(body) : body
  const before = new TextEncoder().encode(`${id}.${timestamp}.`)
  const signed = new Uint8Array(before.length + received.length)
  signed.set(before)
  signed.set(received, before.length)
  for (const one of signatures) {
    const given = one.startsWith('v1,') ? bytesOf(one.slice(3)) : undefined
    // Compares in constant time.
    if (given && (await crypto.subtle.verify('HMAC', key, given, signed)))
      return JSON.parse(new TextDecoder().decode(received)) as WebhookEvent
  }
  throw new WebhookRefused('No signature is made with this key over this body.')
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(base64), char => char.charCodeAt(0))
  } catch {
    return undefined
  }
}
