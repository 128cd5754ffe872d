/** Client credentials: whichever side the org logs in on, by its address. Its app has a user to run as, which no project can name. */
import { salesforceHooks } from './salesforce.ts'

const { appProject: _, ...common } = salesforceHooks(undefined)

export const hooks = common
