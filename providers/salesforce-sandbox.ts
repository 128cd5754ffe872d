/** Sandboxes and scratch orgs: everything that logs in at test.salesforce.com. */
import { salesforceHooks } from './salesforce.ts'

export const hooks = salesforceHooks('sandbox')
