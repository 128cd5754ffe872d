/** Who an operator is: setting up the first one, signing in, confirming, links. Each function is one thing a person does. */
import type { Role } from '@fairlead/contract'
import type { Actor, Audit } from '../../audit/audit.ts'
import { Failure } from '../../errors.ts'
import { randomToken } from '../../lib/id.ts'
import { Secret } from '../../lib/secret.ts'
import type { Clock, Db, Vault } from '../../seams.ts'
import type { KeyedHash } from '../pepper.ts'
import { hashPassword, passwordMatches } from './password.ts'
import {
  addLink,
  addOperator,
  addSession,
  attempt,
  clearFailures,
  dropLinks,
  dropSetupLinks,
  findByEmail,
  findById,
  hasOperators,
  lockOperators,
  type Operator,
  openTotp,
  removeSessionsOf,
  setPassword,
  takeLink,
  turnTotp,
  useStep,
} from './store.ts'
import { stepOf } from './totp.ts'

export interface SignInDeps {
  db: Db
  vault: Vault
  keyedHash: KeyedHash
  clock: Pick<Clock, 'wall'>
  audit: Audit
}

export const operatorActor = (operator: { id: number; name: string }, address: string | null): Actor => ({
  kind: 'operator',
  id: String(operator.id),
  name: operator.name,
  address,
})

const nobody = (email: string, address: string): Actor => ({ kind: 'operator', id: '', name: email, address })

const linkLookup = (keyedHash: KeyedHash, link: string) => keyedHash(`operator link ${link}`)

/** A link for the first operator; undefined when there is one. Every server that starts meanwhile makes its own, and all of them work. */
export async function newSetupLink({
  db,
  keyedHash,
}: Pick<SignInDeps, 'db' | 'keyedHash'>): Promise<Secret | undefined> {
  if (await hasOperators(db)) return undefined
  const link = randomToken(256)
  await addLink(db, linkLookup(keyedHash, link), { role: 'owner' })
  return new Secret(link)
}

/** The first operator. `link` may be left out by who sits at this machine. Of two at once, one. */
export async function setUpFirst(
  { db, keyedHash, audit }: SignInDeps,
  given: { link: string | undefined; email: string; name: string; password: string },
  here: boolean,
  address: string,
): Promise<Operator> {
  const passwordHash = await hashPassword(given.password)
  return db.transaction(async tx => {
    await lockOperators(tx)
    if (await hasOperators(tx)) throw new Failure('setup_done')
    const link = given.link === undefined ? undefined : await takeLink(tx, linkLookup(keyedHash, given.link))
    const opens = link !== undefined && link.email === null && link.operator_id === null
    if (!opens && (given.link !== undefined || !here)) throw new Failure('setup_link_required')
    const operator = await addOperator(tx, { ...given, role: 'owner', passwordHash })
    await dropSetupLinks(tx)
    await audit(tx, operatorActor(operator!, address), {
      environmentId: null,
      action: 'operator.set_up',
      target: given.email,
    })
    return operator!
  })
}

/** The operator with this password, and this code where one is needed. Failures are counted before anything is looked at. */
export async function signInWithPassword(
  deps: SignInDeps,
  given: { email: string; password: string; code: string | undefined },
  address: string,
): Promise<Operator> {
  const { db, audit } = deps
  await counted(deps, given.email, address)
  const operator = await findByEmail(db, given.email)
  if (!(await passwordMatches(given.password, operator?.password_hash ?? null)) || !operator) {
    await db.transaction(tx =>
      audit(tx, nobody(given.email, address), { environmentId: null, action: 'sign_in.failed', target: given.email }),
    )
    throw new Failure('sign_in_failed')
  }
  await checkCode(deps, operator, given.code)
  await clearFailures(db, given.email, address)
  return operator
}

/** Throws `sign_in_rate_limited`. Each attempt counts as failed until it has succeeded, so that a hundred at once are a hundred. */
async function counted({ db, audit }: SignInDeps, email: string, address: string): Promise<void> {
  const { allowed, first } = await attempt(db, email, address)
  if (allowed) return
  if (first)
    await db.transaction(tx =>
      audit(tx, nobody(email, address), { environmentId: null, action: 'sign_in.limited', target: email }),
    )
  throw new Failure('sign_in_rate_limited', { headers: { 'Retry-After': '900' } })
}

async function checkCode(deps: SignInDeps, operator: Operator, code: string | undefined): Promise<void> {
  if (!operator.totp_on) return
  if (code === undefined) throw new Failure('code_required')
  const secret = await openTotp(deps, operator.id)
  const step = secret && stepOf(secret.reveal(), code, deps.clock.wall())
  if (step === undefined || !(await useStep(deps.db, operator.id, step))) throw new Failure('sign_in_failed')
}

/** Shows again who is there; counted like a sign-in, because whoever found an open laptop would guess here. */
export async function confirmOperator(
  deps: SignInDeps,
  operatorId: number,
  given: { password: string; code?: string | undefined },
  address: string,
): Promise<Operator> {
  const operator = await findById(deps.db, operatorId)
  if (!operator) throw new Failure('not_signed_in')
  return signInWithPassword(deps, { email: operator.email, password: given.password, code: given.code }, address)
}

/** The password alone, where a code cannot be asked for: while two-factor is being set up. */
export async function checkPassword(
  deps: SignInDeps,
  operatorId: number,
  password: string,
  address: string,
): Promise<Operator> {
  const operator = await findById(deps.db, operatorId)
  if (!operator) throw new Failure('not_signed_in')
  await counted(deps, operator.email, address)
  if (!(await passwordMatches(password, operator.password_hash))) throw new Failure('sign_in_failed')
  await clearFailures(deps.db, operator.email, address)
  return operator
}

/** An invitation makes an operator; a link for an operator replaces the password, turns two-factor off and ends every session. */
export async function acceptOperatorLink(
  { db, keyedHash, audit }: SignInDeps,
  given: { link: string; name: string | undefined; password: string },
  address: string,
): Promise<Operator> {
  const passwordHash = await hashPassword(given.password)
  return db.transaction(async tx => {
    const link = await takeLink(tx, linkLookup(keyedHash, given.link))
    if (!link || (link.operator_id === null && link.email === null)) throw new Failure('link_invalid')
    if (link.operator_id !== null) {
      const operator = await findById(tx, link.operator_id)
      if (!operator) throw new Failure('link_invalid')
      await setPassword(tx, operator.id, passwordHash)
      await turnTotp(tx, operator.id, false)
      await removeSessionsOf(tx, operator.id)
      await audit(tx, operatorActor(operator, address), {
        environmentId: null,
        action: 'operator.password_reset',
        target: operator.email,
      })
      return { ...operator, totp_on: false }
    }
    const operator = await addOperator(tx, {
      email: link.email!,
      name: given.name ?? link.email!,
      role: link.role!,
      passwordHash,
    })
    if (!operator) throw new Failure('link_invalid')
    await audit(tx, operatorActor(operator, address), {
      environmentId: null,
      action: 'operator.joined',
      target: operator.email,
      detail: { role: operator.role },
    })
    return operator
  })
}

/** For the page /app/link; the newest one works. */
export async function newLink(
  { db, keyedHash, audit }: SignInDeps,
  by: Actor,
  whom: { email: string; role: Role } | { operator: Operator },
): Promise<{ link: Secret; endsAt: Date }> {
  const link = randomToken(256)
  return db.transaction(async tx => {
    const invited = 'email' in whom ? whom : null
    const operatorId = 'operator' in whom ? whom.operator.id : null
    await dropLinks(tx, invited?.email ?? null, operatorId)
    const endsAt = await addLink(tx, linkLookup(keyedHash, link), { ...invited, operatorId })
    await audit(tx, by, {
      environmentId: null,
      action: invited ? 'operator.invited' : 'operator.link_made',
      target: 'operator' in whom ? whom.operator.email : whom.email,
      ...(invited && { detail: { role: invited.role } }),
    })
    return { link: new Secret(link), endsAt }
  })
}

/** The row of a session just begun, and its audit entry. */
export const beginSession = (
  { db, audit }: Pick<SignInDeps, 'db' | 'audit'>,
  lookup: Buffer,
  operator: Operator,
  address: string,
  how: 'password' | 'link' | 'setup',
): Promise<void> =>
  db.transaction(async tx => {
    await addSession(tx, lookup, operator.id)
    await audit(tx, operatorActor(operator, address), {
      environmentId: null,
      action: 'sign_in.succeeded',
      target: operator.email,
      detail: { how },
    })
  })
