import type { ExplainedCause } from '@fairlead/contract'
import { createCache } from '../lib/cache.ts'
import { minutes } from '../lib/time.ts'
import type { Catalogue } from './catalogue.ts'
import type { ConnectionConfig } from './endpoint.ts'
import type { Said } from './hooks.ts'
import type { Provider } from './schema.ts'

/** What a provider's error means, where its hooks can say. */
export type Explain = (
  provider: Provider,
  met: Pick<Said, 'where' | 'error' | 'description'>,
  config: ConnectionConfig,
) => Promise<ExplainedCause | undefined>

interface Deps {
  catalogue: Pick<Catalogue, 'hooks'>
  redirectUri: string
  /** The addresses this server's requests leave by. */
  exits(): Promise<string[]>
}

export function createExplain({ catalogue, redirectUri, exits }: Deps): Explain {
  // A list of a thousand connections in trouble asks for each of them, and names are looked up for it.
  const known = createCache<Promise<string[]>>({ max: 1, maxAgeMs: minutes(1) })
  const recent = () => {
    const asked = known.get('exits')
    if (asked) return asked
    const asking = exits()
    known.set('exits', asking)
    return asking
  }
  return async (provider, met, config) => {
    const { explain } = catalogue.hooks(provider)
    return explain?.({ provider, ...met, config, redirectUri, exits: await recent() })
  }
}
