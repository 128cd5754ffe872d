/** Every command, once, in the order help shows them. */
import type { Command } from '../command.ts'
import { activity } from './activity.ts'
import { connect } from './connect.ts'
import { connections } from './connections.ts'
import { doctor } from './doctor.ts'
import { encryption } from './encryption.ts'
import { endUsers } from './end-users.ts'
import { integrations } from './integrations.ts'
import { keys } from './keys.ts'
import { maintenance } from './maintenance.ts'
import { providers } from './providers.ts'
import { proxied } from './proxy.ts'
import { revocations } from './revocations.ts'
import { running } from './run.ts'
import { salesforce } from './salesforce.ts'
import { settings } from './settings.ts'
import { status } from './status.ts'
import { transfer } from './transfer.ts'
import { webhooks } from './webhooks.ts'

export const commands: Command[] = [
  ...running,
  ...status,
  ...connect,
  ...connections,
  ...endUsers,
  ...doctor,
  ...proxied,
  ...activity,
  ...revocations,
  ...integrations,
  ...providers,
  ...salesforce,
  ...settings,
  ...webhooks,
  ...keys,
  ...encryption,
  ...transfer,
  ...maintenance,
]
