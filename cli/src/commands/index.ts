/** Every command, once, in the order help shows them. */
import type { Command } from '../command.ts'
import { activity } from './activity.ts'
import { connect } from './connect.ts'
import { connections } from './connections.ts'
import { encryption } from './encryption.ts'
import { integrations } from './integrations.ts'
import { providers } from './providers.ts'
import { revocations } from './revocations.ts'
import { settings } from './settings.ts'
import { status } from './status.ts'
import { webhooks } from './webhooks.ts'

export const commands: Command[] = [
  ...status,
  ...connect,
  ...connections,
  ...activity,
  ...revocations,
  ...integrations,
  ...providers,
  ...settings,
  ...webhooks,
  ...encryption,
]
