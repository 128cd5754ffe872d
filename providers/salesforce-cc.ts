/** Client credentials: whichever side the org logs in on, by its address. */
import { salesforceHooks } from './salesforce.ts'

export const hooks = salesforceHooks(undefined)
