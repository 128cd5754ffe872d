/**
 * What only Salesforce needs, for its every definition. This one is production's, which is also that of Developer Edition and of
 * playgrounds: everything that logs in at login.salesforce.com.
 */
import { appFaults, appProject, rangesIn } from '../salesforce/app-project.ts'
import { explain } from '../salesforce/errors.ts'
import { loginOf, readHost } from '../salesforce/hosts.ts'
import { zip } from '../salesforce/zip.ts'
import type { Facts, Hooks } from '../server/src/provider/hooks.ts'
import type { Provider } from '../server/src/provider/schema.ts'

/** Which log-in a definition is for; undefined: whichever its account has. */
type Login = 'production' | 'sandbox' | undefined

/** A definition that an operator pointed at the simulator also takes the names the simulator is reached at. */
const localhost = (provider: Provider): boolean =>
  (provider.allowed_hosts ?? []).some(host => host.endsWith('.localhost'))

const text = (fact: unknown): string | undefined => (typeof fact === 'string' && fact !== '' ? fact : undefined)

/** Where the org is, as far as it is known: what the token response said, else what somebody gave. */
function addressOf({ instance_url, hostname }: Facts): string | undefined {
  const host = text(hostname)
  return text(instance_url) ?? (host === undefined ? undefined : `https://${host}`)
}

/** The side of a definition that is for both, by the address of the account. */
function loginAt(address: string | undefined): Login {
  const read = address === undefined ? undefined : readHost(address, { localhost: true })
  return read?.ok ? loginOf(read.host.kind) : undefined
}

/** The External Client App. Not of definitions with another grant: their apps have settings of their own. */
export const appProjectHook: NonNullable<Hooks['appProject']> = ({ callback, refreshIps, ...wanted }) => {
  const app = { ...wanted, callbacks: [callback], refreshRanges: rangesIn(refreshIps) }
  const faults = appFaults(app)
  return faults.length > 0 ? { faults } : { archive: zip(appProject(app)) }
}

export const salesforceHooks = (login: Login): Hooks => ({
  ...(login && { serves: `salesforce ${login}` }),

  readFact(provider, name, typed) {
    if (name !== 'hostname') return undefined
    const read = readHost(typed, { localhost: localhost(provider) })
    return read.ok ? { facts: { hostname: read.host.host } } : { fault: read.fault }
  },

  appProject: appProjectHook,

  explain({ where, error, description, config, redirectUri, exits }) {
    const org = addressOf(config)
    return explain({ where, error, description }, { login: login ?? loginAt(org), org, callback: redirectUri, exits })
  },
})

export const hooks = salesforceHooks('production')
