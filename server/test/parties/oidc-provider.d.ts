/** The little of `oidc-provider` these tests use; the package brings no types. */
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http'

  export interface Context {
    path: string
    method: string
    status: number
    headers: Record<string, string | undefined>
    body: unknown
    /** Undefined outside the provider's own routes. */
    oidc?: { route?: string; params?: Record<string, string | undefined>; client?: { clientId: string } }
  }

  interface Grant {
    addOIDCScope(scope: string): void
    save(): Promise<string>
  }

  interface InteractionDetails {
    prompt: { name: string; details: { missingOIDCScope?: string[] } }
    params: { client_id: string; scope?: string }
    session?: { accountId: string }
  }

  export class Provider {
    constructor(issuer: string, configuration: object)
    readonly AccessToken: { find(token: string): Promise<{ destroy(): Promise<void> } | undefined> }
    readonly Grant: new (of: {
      accountId: string
      clientId: string
    }) => Grant
    callback(): (req: IncomingMessage, res: ServerResponse) => void
    use(middleware: (ctx: Context, next: () => Promise<void>) => Promise<void>): void
    on(event: 'grant.error' | 'authorization.error' | 'server_error', heard: (ctx: Context, error: Error) => void): this
    on(event: 'grant.success', heard: (ctx: Context) => void): this
    on(event: 'grant.revoked', heard: (ctx: Context, grantId: string) => void): this
    interactionDetails(req: IncomingMessage, res: ServerResponse): Promise<InteractionDetails>
    interactionFinished(
      req: IncomingMessage,
      res: ServerResponse,
      result: object,
      options: { mergeWithLastSubmission: boolean },
    ): Promise<void>
  }
}
