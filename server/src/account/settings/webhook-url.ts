import { EgressError, Failure } from '../../errors.ts'
import type { Egress } from '../../seams.ts'

/**
 * The URL in its one spelling. Judged as it is written, where somebody can still correct it; the address it leads to is judged at every
 * delivery. Throws `webhook_url_refused`, also for http: unless the operator permits the host.
 */
export function acceptableWebhookUrl(egress: Pick<Egress, 'check'>, text: string, member: string): string {
  const url = new URL(text)
  const refuse = (message: string): never => {
    throw new Failure('webhook_url_refused', { issues: [{ code: 'custom', path: [member], message }] })
  }
  try {
    egress.check(url)
  } catch (error) {
    if (!(error instanceof EgressError)) throw error
    refuse(`${error.message}.`)
  }
  // What is not ASCII grows when it is written out.
  if (url.href.length > 2048) refuse('Longer than 2048 characters.')
  return url.href
}
