/**
 * What only Salesforce needs, for its every definition. This one is production's, which is also that of Developer Edition and of
 * playgrounds: everything that logs in at login.salesforce.com.
 */

import {
  loginOfIdentity,
  missingScopes,
  organizationQuery,
  readOrganization,
  readVersions,
  sameId,
} from '../salesforce/account.ts'
import { appFaults, appProject, rangesIn } from '../salesforce/app-project.ts'
import { examine } from '../salesforce/doctor.ts'
import { explain } from '../salesforce/errors.ts'
import { loginOf, readHost } from '../salesforce/hosts.ts'
import { acknowledgement, readOutbound } from '../salesforce/outbound.ts'
import { zip } from '../salesforce/zip.ts'
import type { Elsewhere, Facts, Hooks } from '../server/src/provider/hooks.ts'
import type { Provider } from '../server/src/provider/schema.ts'

/** Which log-in a definition is for; undefined: whichever its account has. */
type Login = 'production' | 'sandbox' | undefined

/** A definition that an operator pointed at the simulator also takes the names the simulator is reached at. */
const localhost = (provider: Provider): boolean =>
  (provider.allowed_hosts ?? []).some(host => host.endsWith('.localhost'))

const signsIn = (provider: Provider): boolean => provider.auth_mode === 'OAUTH2'

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

/**
 * A sandbox's user names are those of production and the sandbox's name behind them. Only where the production name is known can one tell:
 * any user name may end in anything.
 */
const sideOfUsername = (username: string | undefined, email: string | undefined): Login =>
  username && email && username.toLowerCase().startsWith(`${email.toLowerCase()}.`) ? 'sandbox' : undefined

const elsewhere = (at: 'production' | 'sandbox', config: Facts): Elsewhere => {
  const address = addressOf(config)
  const read = address === undefined ? undefined : readHost(new URL(address).hostname, { localhost: true })
  const error = at === 'sandbox' ? 'sandbox_on_production' : 'production_on_sandbox'
  const context = { login: at, org: address, callback: '', exits: [] }
  return {
    serves: serving(at),
    cause: explain({ where: 'reconnect', error, description: '' }, context),
    // The same org again, at its own address.
    params: read?.ok && !read.host.generic && !read.host.site ? { hostname: read.host.host } : {},
  }
}

const serving = (at: 'production' | 'sandbox'): string => `salesforce ${at}`

export const salesforceHooks = (login: Login): Hooks => ({
  ...(login && { serves: serving(login) }),

  readFact(provider, name, typed) {
    if (name !== 'hostname') return undefined
    const read = readHost(typed, { localhost: localhost(provider) })
    if (!read.ok) return { fault: read.fault }
    const { host, prefix } = read.host
    return { facts: { hostname: host, ...(prefix && { site_path: prefix }) } }
  },

  appProject: appProjectHook,

  beforeSignIn({ config, loginHint, email }) {
    if (!login) return undefined
    const host = text(config.hostname)
    const at = host === undefined ? sideOfUsername(loginHint, email) : loginAt(`https://${host}`)
    return at && at !== login ? elsewhere(at, config) : undefined
  },

  async checkAccount({ provider, config, told, api, scopesRequested, scopesGranted }) {
    const versions = await api('/services/data')
    const version = versions?.status === 200 ? readVersions(versions.body)[0] : undefined
    const asked = version && (await api(`/services/data/v${version}/query?q=${encodeURIComponent(organizationQuery)}`))
    const organization = asked && asked.status === 200 ? readOrganization(asked.body) : undefined
    const at = organization
      ? loginOf(organization.kind)
      : (loginOfIdentity(told.id) ?? loginAt(text(config.instance_url)))
    if (login && at && at !== login) return { kind: 'elsewhere', elsewhere: elsewhere(at, config) }
    return {
      kind: 'belongs',
      missingScopes: missingScopes(scopesRequested, scopesGranted, signsIn(provider)),
      facts: {
        ...(version && { api_version: version }),
        ...(organization && { organization_kind: organization.kind, instance_name: organization.instance }),
      },
    }
  },

  examine(patient) {
    const { config, provider, redirectUri } = patient
    const org = text(config.instance_url)
    return examine({
      ...patient,
      ...{ login: login ?? loginAt(org), org, callback: redirectUri },
      hostname: text(config.hostname),
      organizationId: text(config.organization_id),
      apiVersion: text(config.api_version),
      signsIn: signsIn(provider),
    })
  },

  explain({ where, error, description, config, redirectUri, exits }) {
    const org = addressOf(config)
    return explain({ where, error, description }, { login: login ?? loginAt(org), org, callback: redirectUri, exits })
  },

  async readWebhook({ config, body }) {
    const read = await readOutbound(body)
    if (!read.ok) return { kind: 'unreadable', fault: read.fault }
    const { organizationId, actionId, notifications } = read.message
    const org = text(config.organization_id)
    if (!org || !sameId(org, organizationId)) return { kind: 'stranger' }
    return {
      kind: 'read',
      messages: notifications.map(({ id, record }) => ({
        id: id.slice(0, 15),
        payload: { organization_id: organizationId, action_id: actionId, notification_id: id, record },
      })),
      answer: acknowledgement,
    }
  },
})

export const hooks = salesforceHooks('production')
