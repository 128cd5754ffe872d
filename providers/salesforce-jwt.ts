/** JWT bearer: whichever side the org logs in on. Its address also says whom the assertion is for. */
import { audienceOf, readHost } from '../salesforce/hosts.ts'
import type { Hooks } from '../server/src/provider/hooks.ts'
import { salesforceHooks } from './salesforce.ts'

const { appProject: _, ...common } = salesforceHooks(undefined)

export const hooks: Hooks = {
  ...common,
  readFact(provider, name, typed) {
    const read = common.readFact?.(provider, name, typed)
    const host = read && 'facts' in read && read.facts.hostname
    const org = host ? readHost(host, { localhost: true }) : undefined
    return org?.ok ? { facts: { hostname: org.host.host, audience: audienceOf(org.host) } } : read
  },
}
