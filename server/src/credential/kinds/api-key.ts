/** A key as it was given. Where it goes, a header or the query, provider data says with `${apiKey}`. */
import { Secret } from '../../lib/secret.ts'
import { asGiven } from './as-given.ts'
import type { Kind } from './kind.ts'

export const apiKey: Kind = {
  name: 'api-key',
  type: 'API_KEY',
  fields: { apiKey: { title: 'API key', secret: true } },
  obtain: ({ given }) => asGiven(new Secret(given.apiKey ?? '')),
  shown: ({ given }) => ({ ...given }),
  values: ({ given }) => ({ apiKey: given.apiKey ?? '' }),
}
