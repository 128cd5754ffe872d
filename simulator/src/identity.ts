// Who a token belongs to, and what an OpenID client asks for:
//   GET /id/{orgId}/{userId}                      identity URL
//   GET /services/oauth2/userinfo                 OpenID Connect userinfo
//   GET /.well-known/openid-configuration         discovery, anonymous
//   GET /id/keys                                  JWKS, anonymous
// Failures here are plain text with 403 or 404, not JSON and not 401 (fact sheet §2.7).

import { createHash, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import type { Address } from './hosts.ts'
import { baseOf, ownBase } from './hosts.ts'
import type { Call, Reply } from './http.ts'
import { presentedToken } from './http.ts'
import { toId18 } from './ids.ts'
import { identityUrl, liveSession, useSession } from './tokens.ts'
import type { Session, World } from './world.ts'
import { now, orgOf } from './world.ts'

const refused = (status: number, text: string): Reply => ({ status, text, type: 'text/plain;charset=UTF-8' })

/** Identity also takes the token as a parameter; jsforce sends `?format=json&oauth_token=`. */
function bearer(world: World, call: Call): Session | Reply {
  const parameter = call.query.get('oauth_token') ?? call.query.get('access_token')
  const presented = parameter ?? presentedToken(call)
  if (presented === 'missing') return refused(403, 'Missing_OAuth_Token')
  const session = liveSession(world, presented)
  if (!session) return refused(403, 'Bad_OAuth_Token')
  const { site } = call.address
  if (site.kind === 'org' && site.org.key !== session.org) return refused(403, 'Wrong_Org')
  useSession(world, session)
  return session
}

export function identity(world: World, call: Call): Reply {
  const session = bearer(world, call)
  if ('status' in session) return session
  const [, orgId = '', userId = ''] = /^\/id\/([^/]+)\/([^/]+)$/.exec(call.path) ?? []
  const org = orgOf(world, session)
  if (toId18(orgId) !== org.id) return refused(403, 'Wrong_Org')
  if (toId18(userId) !== session.user.id) return refused(404, 'Bad_Id')
  return { status: 200, json: describePerson(world, call.address, session) }
}

function describePerson(world: World, address: Address, session: Session) {
  const { user } = session
  const org = orgOf(world, session)
  const id = identityUrl(world, address, user)
  return {
    id,
    asserted_user: true,
    user_id: user.id,
    organization_id: org.id,
    username: user.username,
    nick_name: user.username.split('@')[0],
    display_name: `${user.firstName} ${user.lastName}`,
    email: user.email,
    email_verified: true,
    first_name: user.firstName,
    last_name: user.lastName,
    timezone: 'America/Los_Angeles',
    photos: photos(baseOf(address, org)),
    addr_street: null,
    addr_city: null,
    addr_state: null,
    addr_country: 'US',
    addr_zip: null,
    mobile_phone: null,
    mobile_phone_verified: false,
    is_lightning_login_user: false,
    status: { created_date: null, body: null },
    urls: urls(baseOf(address, org), org.id, user.id),
    active: user.active,
    user_type: 'STANDARD',
    language: 'en_US',
    locale: 'en_US',
    utcOffset: -28_800_000,
    last_modified_date: org.createdDate,
    is_app_installed: true,
  }
}

export function userinfo(world: World, call: Call): Reply {
  const session = bearer(world, call)
  if ('status' in session) return session
  const { user } = session
  const org = orgOf(world, session)
  const base = baseOf(call.address, org)
  return {
    status: 200,
    json: {
      sub: identityUrl(world, call.address, user),
      user_id: user.id,
      organization_id: org.id,
      preferred_username: user.username,
      nickname: user.username.split('@')[0],
      name: `${user.firstName} ${user.lastName}`,
      email: user.email,
      email_verified: true,
      given_name: user.firstName,
      family_name: user.lastName,
      zoneinfo: 'America/Los_Angeles',
      photos: photos(base),
      profile: `${base}/${user.id}`,
      picture: photos(base).picture,
      address: { country: 'US' },
      urls: urls(base, org.id, user.id),
      active: user.active,
      user_type: 'STANDARD',
      language: 'en_US',
      locale: 'en_US',
      utcOffset: -28_800_000,
      updated_at: org.createdDate,
      is_app_installed: true,
    },
  }
}

const photos = (base: string) => ({ picture: `${base}/profilephoto/005/F`, thumbnail: `${base}/profilephoto/005/T` })

/** `{version}` stays literal: the client fills it in. */
function urls(base: string, orgId: string, userId: string) {
  const data = `${base}/services/data/v{version}`
  return {
    enterprise: `${base}/services/Soap/c/{version}/${orgId.slice(0, 15)}`,
    metadata: `${base}/services/Soap/m/{version}/${orgId.slice(0, 15)}`,
    partner: `${base}/services/Soap/u/{version}/${orgId.slice(0, 15)}`,
    rest: `${data}/`,
    sobjects: `${data}/sobjects/`,
    search: `${data}/search/`,
    query: `${data}/query/`,
    recent: `${data}/recent/`,
    tooling_soap: `${base}/services/Soap/T/{version}/${orgId.slice(0, 15)}`,
    tooling_rest: `${data}/tooling/`,
    profile: `${base}/${userId}`,
    feeds: `${data}/chatter/feeds`,
    groups: `${data}/chatter/groups`,
    users: `${data}/chatter/users`,
    feed_items: `${data}/chatter/feed-items`,
    feed_elements: `${data}/chatter/feed-elements`,
    custom_domain: base,
  }
}

/** Shape as captured from live hosts in 2026 (fact sheet §2.1), without the keys no client may depend on. */
export function discovery(_world: World, call: Call): Reply {
  const issuer = ownBase(call.address)
  return {
    status: 200,
    json: {
      issuer,
      authorization_endpoint: `${issuer}/services/oauth2/authorize`,
      token_endpoint: `${issuer}/services/oauth2/token`,
      revocation_endpoint: `${issuer}/services/oauth2/revoke`,
      userinfo_endpoint: `${issuer}/services/oauth2/userinfo`,
      jwks_uri: `${issuer}/id/keys`,
      introspection_endpoint: `${issuer}/services/oauth2/introspect`,
      end_session_endpoint: `${issuer}/services/auth/idp/oidc/logout`,
      frontchannel_logout_supported: true,
      frontchannel_logout_session_supported: false,
      scopes_supported: ['api', 'refresh_token', 'offline_access', 'full', 'id', 'profile', 'email', 'openid', 'web'],
      response_types_supported: ['code'],
      grant_types_supported: ['authorization_code', 'refresh_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
      token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
      code_challenge_methods_supported: ['S256'],
      display_values_supported: ['page', 'popup', 'touch'],
      claims_supported: [
        'active',
        'email',
        'email_verified',
        'family_name',
        'given_name',
        'name',
        'organization_id',
        'sub',
      ],
    },
  }
}

/** Made on first use: most runs never ask for an id_token, and a key takes a moment. */
let signingKey: ReturnType<typeof makeKey> | undefined
const makeKey = () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return { privateKey, jwk: createPublicKey(privateKey).export({ format: 'jwk' }), kid: 'simulator-1' }
}
const theKey = () => {
  signingKey ??= makeKey()
  return signingKey
}

export function keys(): Reply {
  const { jwk, kid } = theKey()
  return { status: 200, json: { keys: [{ ...jwk, kid, alg: 'RS256', use: 'sig' }] } }
}

export function idToken(world: World, address: Address, session: Session, nonce: string | null): string {
  const seconds = Math.floor(now(world) / 1000)
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const digest = createHash('sha256').update(session.token).digest()
  const claims = {
    iss: ownBase(address),
    aud: session.app.clientId,
    sub: identityUrl(world, address, session.user),
    // OpenID Connect Core §3.1.3.6: the left half of the access token's hash.
    at_hash: digest.subarray(0, 16).toString('base64url'),
    iat: seconds,
    exp: seconds + 120,
    ...(nonce === null ? {} : { nonce }),
  }
  const input = `${part({ alg: 'RS256', kid: theKey().kid, typ: 'JWT' })}.${part(claims)}`
  return `${input}.${sign('sha256', Buffer.from(input), theKey().privateKey).toString('base64url')}`
}
