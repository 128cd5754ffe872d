/** An API that asks nobody who they are. The connection is there for its facts. */
import { Secret } from '../../lib/secret.ts'
import { asGiven } from './as-given.ts'
import type { Kind } from './kind.ts'

export const none: Kind = {
  name: 'none',
  type: 'NONE',
  fields: {},
  obtain: () => asGiven(new Secret('')),
  shown: () => ({}),
  values: () => ({}),
}
