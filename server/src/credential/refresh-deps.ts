/** What a refresh is handed: the room's own parts, so that the simulation can put others in their place. */
import type { Log } from '../lib/log.ts'
import type { Provider } from '../provider/schema.ts'
import type { Clock, Egress } from '../seams.ts'
import type { Epoch } from './epoch.ts'
import type { Journal } from './journal.ts'
import type { Given } from './kinds/kind.ts'
import type { Client } from './kinds/oauth2-code.ts'
import type { CredentialStore, Successor } from './store.ts'
import type { Timing } from './timing.ts'
import type { IntentWatch } from './watch.ts'

export interface RefreshDeps {
  store: CredentialStore
  journal: Journal
  watch: IntentWatch
  egress: Pick<Egress, 'request' | 'check'>
  clock: Clock
  timing: Timing
  log: Log
  /** This process, for the row's reader. */
  node: string
  epoch: Epoch
  /** Has tokens ended that nobody will hold: a late answer of a deleted or reconnected grant. Resolves once that will outlast a crash. */
  revoke: (holder: Holder, successor: Successor) => Promise<void>
  /** This process is about to stop. */
  draining: () => boolean
}

/** Whose grant it is: what `integration/` knows and a credential does not. */
export interface Holder {
  provider: Provider
  client: Client
  /** What the developer set once for all connections. */
  settings?: Given
  /** The developer's own address of this API (the wire's `custom`), in the place of every other. */
  baseUrl?: string
}
