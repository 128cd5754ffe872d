/**
 * OAuth 2.0 client credentials (RFC 6749 §4.4): the account's own client, given by its owner. There is no refresh token; the grant is asked
 * for again, which costs nothing and uses nothing up.
 */
import { Secret } from '../../lib/secret.ts'
import { endpointFrom, tokenUrlOf } from '../../provider/endpoint.ts'
import { bearer, refusedByStatus, shownEnd, usualLifeMs } from './bearer.ts'
import { signJwt } from './jwt.ts'
import { type Exchange, filledTexts, type Given, givenValues, type Kind, missing, type Obtaining } from './kind.ts'
import { readTokenAnswer, tokenRequest } from './oauth2-code.ts'

export const oauth2Client: Kind = {
  name: 'oauth2-client',
  type: 'OAUTH2_CC',
  fields: {
    client_id: { title: 'Client ID', order: 1 },
    client_secret: { title: 'Client secret', secret: true, optional: true, order: 2 },
    client_private_key: { title: 'Private key', secret: true, optional: true, hidden: true, order: 3 },
    client_certificate: { title: 'Certificate', optional: true, hidden: true, order: 4 },
  },
  renewsFrom: 'given',
  obtain,
  shown: held => ({ token: held.accessToken.reveal(), ...shownEnd(held), ...held.given, raw: held.raw }),
  ...bearer,
}

function* obtain(from: Obtaining): Exchange {
  const { provider, config, scopes, wallNow } = from
  // The developer may have set the client once for all connections.
  const given = { ...from.settings, ...from.given }
  const values = givenValues({ ...from, client: { id: '', secret: null } })
  const url = endpointFrom(provider, tokenUrlOf(provider) ?? '', values)
  if (!url) throw missing(provider, 'token_url')
  const params = {
    ...filledTexts(provider.token_params ?? {}, values),
    grant_type: 'client_credentials',
    ...(scopes.length > 0 && { scope: scopes.join(provider.scope_separator ?? ' ') }),
    ...(provider.token_request_auth_method === 'private_key_jwt' && assertion(given, url, wallNow)),
  }
  const client = {
    id: given.client_id ?? '',
    secret: given.client_secret && !('client_assertion' in params) ? new Secret(given.client_secret) : null,
  }
  // What was filled in here is not to be read as a template once more.
  const request = tokenRequest({ ...provider, token_params: {} }, client, params, config)
  const answer = yield { method: 'POST', url, ...request }
  const read = refusedByStatus(readTokenAnswer(provider, answer.status, answer.body, wallNow))
  if (read.kind !== 'tokens') return read
  // Where the provider can be asked, it is.
  const lifeMs = read.tokens.lifeMs ?? (provider.introspection_url ? undefined : usualLifeMs)
  return { kind: 'tokens', tokens: { ...read.tokens, refreshToken: undefined, lifeMs } }
}

/** RFC 7523 §2.2: the client proves itself with its key, and the secret stays at home. */
const assertion = (given: Given, url: URL, wallNow: number) => ({
  client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  client_assertion: signJwt({
    protocol: 'RSA',
    key: given.client_private_key ?? '',
    header: {},
    payload: { iss: given.client_id, sub: given.client_id, aud: `${url.origin}${url.pathname}` },
    lifeMs: 120_000,
    wallNow,
  }),
})
