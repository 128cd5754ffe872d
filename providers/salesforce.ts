/**
 * What only Salesforce needs, for its every definition. This one is production's, which is also that of Developer Edition and of
 * playgrounds: everything that logs in at login.salesforce.com.
 */
import { readHost } from '../salesforce/hosts.ts'
import type { Hooks } from '../server/src/provider/hooks.ts'
import type { Provider } from '../server/src/provider/schema.ts'

/** Which log-in a definition is for; undefined: whichever its account has. */
type Login = 'production' | 'sandbox' | undefined

/** A definition that an operator pointed at the simulator also takes the names the simulator is reached at. */
const localhost = (provider: Provider): boolean =>
  (provider.allowed_hosts ?? []).some(host => host.endsWith('.localhost'))

export const salesforceHooks = (login: Login): Hooks => ({
  ...(login && { serves: `salesforce ${login}` }),

  readFact(provider, name, typed) {
    if (name !== 'hostname') return undefined
    const read = readHost(typed, { localhost: localhost(provider) })
    return read.ok ? { facts: { hostname: read.host.host } } : { fault: read.fault }
  },
})

export const hooks = salesforceHooks('production')
