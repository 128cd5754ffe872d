/** Sites are on either side. */
import { salesforceHooks } from './salesforce.ts'

export const hooks = salesforceHooks(undefined)
