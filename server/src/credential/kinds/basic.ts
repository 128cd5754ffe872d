/** User and password (RFC 7617). Either may be empty: many providers put a key in one of them. */
import { Secret } from '../../lib/secret.ts'
import { asGiven } from './as-given.ts'
import type { Kind } from './kind.ts'

export const basic: Kind = {
  name: 'basic',
  type: 'BASIC',
  fields: {
    username: { title: 'User name', optional: true, order: 1 },
    password: { title: 'Password', secret: true, optional: true, order: 2 },
  },
  obtain: ({ given }) => asGiven(new Secret(given.password ?? '')),
  shown: ({ given }) => ({ username: '', password: '', ...given }),
  values: ({ given }) => ({ username: given.username ?? '', password: given.password ?? '' }),
  authorization: ({ given }) =>
    `Basic ${Buffer.from(`${given.username ?? ''}:${given.password ?? ''}`).toString('base64')}`,
}
