/** OAuth 2.0 by sign-in, as a member of the family. What is sent and how answers are read is in oauth2-code.ts. */
import { bearer, shownEnd } from './bearer.ts'
import type { Kind } from './kind.ts'

export const oauth2Code: Kind = {
  name: 'oauth2-code',
  type: 'OAUTH2',
  fields: {},
  renewsFrom: 'refresh_token',
  shown: held => ({
    access_token: held.accessToken.reveal(),
    ...(held.refreshToken && { refresh_token: held.refreshToken.reveal() }),
    ...shownEnd(held),
    raw: held.raw,
    ...(held.given.client_id && {
      config_override: { client_id: held.given.client_id, client_secret: held.given.client_secret },
    }),
  }),
  ...bearer,
}
