/** Every kind there is, once. */
import type { Provider } from '../../provider/schema.ts'
import { apiKey } from './api-key.ts'
import { basic } from './basic.ts'
import { jwt } from './jwt.ts'
import type { Kind, KindName } from './kind.ts'
import { none } from './none.ts'
import { oauth1 } from './oauth1.ts'
import { oauth2Client } from './oauth2-client.ts'
import { oauth2Code } from './oauth2-member.ts'
import { twoStep } from './two-step.ts'

const all = [oauth2Code, oauth2Client, oauth1, apiKey, basic, jwt, twoStep, none]

const byName = Object.fromEntries(all.map(kind => [kind.name, kind])) as Record<KindName, Kind>
const byType = new Map(all.map(kind => [kind.type, kind]))

export const kindNamed = (name: KindName): Kind => byName[name]

/** Undefined: connections of this provider cannot be made here. */
export const kindOf = ({ auth_mode }: Pick<Provider, 'auth_mode'>): Kind | undefined => byType.get(auth_mode)
