import type { ExplainedCause } from '@fairlead/contract'
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

export const createExplain =
  ({ catalogue, redirectUri, exits }: Deps): Explain =>
  async (provider, met, config) =>
    catalogue.hooks(provider).explain?.({ provider, ...met, config, redirectUri, exits: await exits() })
