/** Every command, once, in the order help shows them. */
import type { Command } from '../command.ts'
import { connect } from './connect.ts'
import { connections } from './connections.ts'
import { encryption } from './encryption.ts'
import { integrations } from './integrations.ts'
import { providers } from './providers.ts'
import { revocations } from './revocations.ts'
import { status } from './status.ts'

export const commands: Command[] = [
  ...status,
  ...connect,
  ...connections,
  ...revocations,
  ...integrations,
  ...providers,
  ...encryption,
]
