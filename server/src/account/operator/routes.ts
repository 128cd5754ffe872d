/**
 * Sign-in to the dashboard and the people who may. Owns /operator/… and /operators. Whoever is signed in calls every other room's routes with
 * the same cookie (caller.ts); here are only those that are about the session itself.
 */
import {
  acceptLink,
  beginOidc,
  beginTwoFactor,
  changeOperator,
  changePassword,
  confirm,
  disableTwoFactor,
  enableTwoFactor,
  finishOidc,
  getStanding,
  inviteOperator,
  listOperators as listRoute,
  type OperatorStanding,
  type OperatorView,
  removeOperator,
  resetOperator,
  setUp,
  signIn,
  signOut,
} from '@fairlead/contract'
import type { Context, MiddlewareHandler } from 'hono'
import { parse } from 'hono/utils/cookie'
import { Failure } from '../../errors.ts'
import { api, incomingOf } from '../../http/api.ts'
import { sameBytes } from '../../lib/id.ts'
import { Secret } from '../../lib/secret.ts'
import { isoZulu, minutes } from '../../lib/time.ts'
import type { Callers } from '../caller.ts'
import { listEnvironments } from '../store.ts'
import { flowOf, newFlowCookie, type Oidc } from './oidc.ts'
import { hashPassword } from './password.ts'
import { addressOf, askedOf, type Operators, refuseOtherSites } from './session.ts'
import {
  acceptOperatorLink,
  beginSession,
  checkPassword,
  confirmOperator,
  linkLookup,
  newLink,
  operatorActor,
  type SignInDeps,
  setUpFirst,
  signInWithIdentity,
  signInWithPassword,
} from './sign-in.ts'
import {
  addHandshake,
  confirmedMinutes,
  deleteOperator,
  findById,
  hasOperators,
  listOperators,
  lockOperators,
  type Operator,
  openTotp,
  removeSessionsOf,
  renewSession,
  type Session,
  sealTotp,
  setPassword,
  setRole,
  takeHandshake,
  turnTotp,
  useStep,
} from './store.ts'
import { newTotpSecret, stepOf, totpUri } from './totp.ts'

interface Deps extends SignInDeps {
  operators: Operators
  url: string
  /** Where the server listens. */
  host: string
  /** Undefined: passwords alone. */
  oidc: Oidc | undefined
  callers: Pick<Callers, 'countAddress'>
}

const loopback = new Set(['localhost', '127.0.0.1', '[::1]', '::1', '::ffff:127.0.0.1'])

export function operatorRoutes(deps: Deps) {
  const { db, audit, operators, url, clock, oidc, callers, keyedHash } = deps
  const app = api()

  /** In front of everything here that changes something, signed in or not. */
  app.use('/operator/*', async (c, next) => {
    if (c.req.method !== 'GET') refuseOtherSites(askedOf(c), url)
    await next()
  })

  /** `security` names the roles that may; none: all. */
  const signedIn = <Route extends { security?: Record<string, string[]>[] }>(
    route: Route,
  ): Route & { middleware: MiddlewareHandler<{ Variables: { session: Session } }> } => ({
    ...route,
    middleware: async (c, next) => {
      const session = await operators.signedIn(askedOf(c))
      const roles = route.security?.[0]?.operator ?? []
      if (roles.length > 0 && !roles.includes(session.role))
        throw new Failure('forbidden', { message: `Only an ${roles.join(' or ')} may do this.` })
      c.set('session', session)
      await next()
    },
  })

  const standingOf = async (
    c: Context,
    operator: Operator | undefined,
    confirmedAt?: Date,
  ): Promise<OperatorStanding> => {
    const setup = !operator && !(await hasOperators(db))
    return {
      state: operator ? 'signed_in' : setup ? 'setup' : 'signed_out',
      setup_here: setup && isHere(c, deps),
      operator: operator ? view(operator) : null,
      identity_provider: oidc?.name ?? null,
      environments: operator ? (await listEnvironments(db)).map(({ name }) => name) : [],
      confirmed_until: confirmedAt ? isoZulu(new Date(confirmedAt.getTime() + minutes(confirmedMinutes))) : null,
    }
  }

  /** A new session for this browser; the one it had ends, so that nothing planted before survives the sign-in. */
  const begin = async (
    c: Context,
    operator: Operator,
    how: Parameters<typeof beginSession>[4],
    confirmedAt = new Date(clock.wall()),
  ) => {
    await operators.end(askedOf(c))
    const { lookup, setCookie } = operators.newToken()
    await beginSession(deps, lookup, operator, addressOf(c), how, confirmedAt)
    c.header('Set-Cookie', setCookie, { append: true })
    return standingOf(c, operator, confirmedAt)
  }

  app.openapi(getStanding, async c => {
    c.header('Cache-Control', 'no-store')
    if (operators.tokenOf(askedOf(c)) === undefined) return c.json(await standingOf(c, undefined), 200)
    try {
      const session = await operators.signedIn(askedOf(c))
      const operator = await findById(db, session.operator_id)
      return c.json(await standingOf(c, operator, session.confirmed ? session.confirmed_at : undefined), 200)
    } catch (error) {
      if (error instanceof Failure && error.code === 'not_signed_in') return c.json(await standingOf(c, undefined), 200)
      throw error
    }
  })

  app.openapi(setUp, async c => {
    const { link, email, name, password } = c.req.valid('json')
    const operator = await setUpFirst(deps, { link, email, name, password }, isHere(c, deps), addressOf(c))
    return c.json(await begin(c, operator, 'setup'), 200)
  })

  app.openapi(signIn, async c => {
    const { email, password, code } = c.req.valid('json')
    return c.json(
      await begin(c, await signInWithPassword(deps, { email, password, code }, addressOf(c)), 'password'),
      200,
    )
  })

  app.openapi(acceptLink, async c => {
    const { link, name, password } = c.req.valid('json')
    return c.json(await begin(c, await acceptOperatorLink(deps, { link, name, password }, addressOf(c)), 'link'), 200)
  })

  app.openapi(signOut, async c => {
    c.header('Set-Cookie', await operators.end(askedOf(c)))
    c.header('Clear-Site-Data', '"cache"')
    return c.json(await standingOf(c, undefined), 200)
  })

  /** Whoever showed again who they are gets a new token with it: the old one may have been read off this machine. */
  const renewed = async (c: Context, operator: Operator) => {
    const from = operators.lookup(operators.tokenOf(askedOf(c)) ?? '')
    const { lookup, setCookie } = operators.newToken()
    await renewSession(db, from, lookup)
    c.header('Set-Cookie', setCookie, { append: true })
    return standingOf(c, operator, new Date(clock.wall()))
  }

  const confirmed = async (c: Context, operator: Operator) => {
    await db.transaction(tx =>
      audit(tx, operatorActor(operator, addressOf(c)), {
        environmentId: null,
        action: 'sign_in.confirmed',
        target: operator.email,
      }),
    )
    return renewed(c, operator)
  }

  app.openapi(signedIn(confirm), async c => {
    const operator = await confirmOperator(deps, c.get('session').operator_id, c.req.valid('json'), addressOf(c))
    return c.json(await confirmed(c, operator), 200)
  })

  const secure = url.startsWith('https:')
  const flowName = `${secure ? '__Host-' : ''}fairlead_oidc`
  const flowCookie = (value: string, maxAge: number) =>
    `${flowName}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${maxAge}${secure ? '; Secure' : ''}`

  app.openapi(beginOidc, async c => {
    const { link, confirms = false } = c.req.valid('json')
    if (!oidc) throw new Failure('oidc_off')
    callers.countAddress('sign_in', incomingOf(c))
    if (confirms) await operators.signedIn(askedOf(c))
    const cookie = newFlowCookie()
    const flow = flowOf(keyedHash, cookie)
    const location = await oidc.authorizeUrl(flow, confirms)
    await addHandshake(db, keyedHash(flow.state), { link: link ? linkLookup(keyedHash, link) : null, confirms })
    c.header('Set-Cookie', flowCookie(cookie, 600))
    return c.json({ location }, 200)
  })

  /** The page the provider came back to asks this, from our own origin: the session's cookie comes along, and the address is clean again. */
  app.openapi(finishOidc, async c => {
    if (!oidc) throw new Failure('oidc_off')
    callers.countAddress('sign_in', incomingOf(c))
    const query = new URLSearchParams(c.req.valid('json').query)
    const cookie = parse(c.req.header('cookie') ?? '')[flowName]
    const flow = flowOf(keyedHash, cookie ?? '')
    const isOurs = cookie !== undefined && sameBytes(Buffer.from(flow.state), Buffer.from(query.get('state') ?? ''))
    const handshake = isOurs ? await takeHandshake(db, keyedHash(flow.state)) : undefined
    if (!handshake) throw new Failure('oidc_ended')
    c.header('Set-Cookie', flowCookie('', 0))
    const { link, confirms } = handshake
    const session = confirms ? await operators.signedIn(askedOf(c)) : undefined
    const identity = await oidc.identityOf(flow, query, confirms)
    if (session) {
      const operator = await known(session.operator_id)
      if (operator.oidc_subject !== identity.subject)
        throw new Failure('oidc_stranger', { message: 'This is another identity than the one you are signed in with.' })
      return c.json({ ...(await confirmed(c, operator)), confirms }, 200)
    }
    const operator = await signInWithIdentity(deps, identity, link, oidc.newcomers, addressOf(c))
    const standing = await begin(c, operator, 'oidc', identity.authenticatedAt ?? new Date(0))
    return c.json({ ...standing, confirms }, 200)
  })

  app.openapi(signedIn(changePassword), async c => {
    const { current, password } = c.req.valid('json')
    const operator = await checkPassword(deps, c.get('session').operator_id, current, addressOf(c))
    const hash = await hashPassword(password)
    await db.transaction(async tx => {
      await setPassword(tx, operator.id, hash)
      await removeSessionsOf(tx, operator.id)
      await audit(tx, operatorActor(operator, addressOf(c)), {
        environmentId: null,
        action: 'operator.password_changed',
        target: operator.email,
      })
    })
    return c.json(await begin(c, operator, 'password'), 200)
  })

  app.openapi(signedIn(beginTwoFactor), async c => {
    const { operator_id } = c.get('session')
    const operator = await checkPassword(deps, operator_id, c.req.valid('json').password, addressOf(c))
    if (operator.totp_on) throw new Failure('two_factor_on')
    const secret = new Secret(newTotpSecret())
    await sealTotp(deps, operator.id, secret)
    return c.json({ secret: secret.reveal(), uri: totpUri(secret.reveal(), operator.email) }, 200)
  })

  app.openapi(signedIn(enableTwoFactor), async c => {
    const { operator_id } = c.get('session')
    const operator = await findById(db, operator_id)
    const secret = await openTotp(deps, operator_id)
    const step = secret && stepOf(secret.reveal(), c.req.valid('json').code, clock.wall())
    if (!operator || step === undefined || !(await useStep(db, operator_id, step))) throw new Failure('sign_in_failed')
    await db.transaction(async tx => {
      await turnTotp(tx, operator_id, true)
      await audit(tx, operatorActor(operator, addressOf(c)), {
        environmentId: null,
        action: 'operator.two_factor_on',
        target: operator.email,
      })
    })
    return c.json(await renewed(c, { ...operator, totp_on: true }), 200)
  })

  app.openapi(signedIn(disableTwoFactor), async c => {
    const operator = await confirmOperator(deps, c.get('session').operator_id, c.req.valid('json'), addressOf(c))
    await db.transaction(async tx => {
      await turnTotp(tx, operator.id, false)
      await audit(tx, operatorActor(operator, addressOf(c)), {
        environmentId: null,
        action: 'operator.two_factor_off',
        target: operator.email,
      })
    })
    return c.json(await renewed(c, { ...operator, totp_on: false }), 200)
  })

  app.openapi(signedIn(listRoute), async c => c.json({ operators: (await listOperators(db)).map(view) }, 200))

  const known = async (id: number): Promise<Operator> => {
    const operator = await findById(db, id)
    if (!operator) throw new Failure('not_found', { message: 'There is no such operator.' })
    return operator
  }

  const bySession = (c: Context<{ Variables: { session: Session } }>) => {
    const { operator_id, name, confirmed } = c.get('session')
    // Whoever may come in is as good as a key.
    if (!confirmed) throw new Failure('confirmation_required')
    return operatorActor({ id: operator_id, name }, addressOf(c))
  }

  const linkView = ({ link, endsAt }: { link: Secret; endsAt: Date }) => ({
    link: `${url}/app/link#${link.reveal()}`,
    ends_at: isoZulu(endsAt),
  })

  app.openapi(signedIn(inviteOperator), async c => {
    const { email, role } = c.req.valid('json')
    const by = bySession(c)
    if ((await listOperators(db)).some(operator => operator.email === email)) throw new Failure('operator_exists')
    return c.json(linkView(await newLink(deps, by, { email, role })), 200)
  })

  app.openapi(signedIn(resetOperator), async c => {
    const by = bySession(c)
    return c.json(linkView(await newLink(deps, by, { operator: await known(c.req.valid('param').id) })), 200)
  })

  app.openapi(signedIn(changeOperator), async c => {
    const { id } = c.req.valid('param')
    const { role } = c.req.valid('json')
    const by = bySession(c)
    const changed = await db.transaction(async tx => {
      await lockOperators(tx)
      const operator = await known(id)
      if (role !== 'owner') await keepAnOwner(operator)
      await setRole(tx, id, role)
      await audit(tx, by, {
        environmentId: null,
        action: 'operator.role_changed',
        target: operator.email,
        detail: { from: operator.role, to: role },
      })
      return { ...operator, role }
    })
    return c.json(view(changed), 200)
  })

  app.openapi(signedIn(removeOperator), async c => {
    const { id } = c.req.valid('param')
    const by = bySession(c)
    await db.transaction(async tx => {
      await lockOperators(tx)
      const operator = await known(id)
      await keepAnOwner(operator)
      await deleteOperator(tx, id)
      await audit(tx, by, { environmentId: null, action: 'operator.removed', target: operator.email })
    })
    return c.json({ success: true as const }, 200)
  })

  async function keepAnOwner(losing: Operator): Promise<void> {
    const others = (await listOperators(db)).filter(({ id, role }) => role === 'owner' && id !== losing.id)
    if (losing.role === 'owner' && others.length === 0) throw new Failure('last_owner')
  }

  return app
}

const view = (operator: Operator): OperatorView => ({
  id: operator.id,
  email: operator.email,
  name: operator.name,
  role: operator.role,
  has_password: operator.password_hash !== null,
  has_identity: operator.oidc_subject !== null,
  two_factor: operator.totp_on,
  signed_in_at: operator.signed_in_at && isoZulu(operator.signed_in_at),
})

/**
 * Whether this browser is on this machine and nothing stands in between, by everything we can see: the server listens on loopback alone, is
 * not said to be reached from elsewhere, was called by a loopback name (a page that rebinds its name is not), and no proxy left its mark.
 */
function isHere(c: Context, { host, url }: { host: string; url: string }): boolean {
  const forwarded = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'via']
  const called = URL.parse(`http://${c.req.header('host') ?? ''}`)?.hostname ?? ''
  return (
    loopback.has(host) &&
    loopback.has(new URL(url).hostname) &&
    loopback.has(called) &&
    loopback.has(addressOf(c)) &&
    forwarded.every(name => c.req.header(name) === undefined)
  )
}
