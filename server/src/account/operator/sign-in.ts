/** Who an operator is: setting up the first one, signing in, confirming, links. Each function is one thing a person does. */
import type { Role } from '@fairlead/contract'
import type { Actor, Audit } from '../../audit/audit.ts'
import { Failure } from '../../errors.ts'
import { randomToken } from '../../lib/id.ts'
import { Secret } from '../../lib/secret.ts'
import type { Clock, Db, Vault } from '../../seams.ts'
import type { KeyedHash } from '../pepper.ts'
import type { Identity, Oidc } from './oidc.ts'
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
  findBySubject,
  hasOperators,
  lockOperators,
  type Operator,
  openTotp,
  removeSessionsOf,
  setWayIn,
  takeInvitation,
  takeLink,
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

export const linkLookup = (keyedHash: KeyedHash, link: string) => keyedHash(`operator link ${link}`)

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

export async function acceptOperatorLink(
  deps: SignInDeps,
  given: { link: string; name: string | undefined; password: string },
  address: string,
): Promise<Operator> {
  const passwordHash = await hashPassword(given.password)
  const lookup = linkLookup(deps.keyedHash, given.link)
  return deps.db.transaction(tx => takeUpLink(deps, tx, lookup, { name: given.name, passwordHash }, address))
}

/** An invitation makes an operator; a link for an operator replaces the way in they had, turns two-factor off and ends every session. */
async function takeUpLink(
  { audit }: SignInDeps,
  tx: Db,
  lookup: Buffer,
  { name, ...way }: { name: string | undefined } & ({ passwordHash: string } | { subject: string }),
  address: string,
): Promise<Operator> {
  const link = await takeLink(tx, lookup)
  if (!link || (link.operator_id === null && link.email === null)) throw new Failure('link_invalid')
  if (link.operator_id === null)
    return join(audit, tx, { email: link.email!, name: name ?? link.email!, role: link.role!, ...way }, address)
  const operator = await findById(tx, link.operator_id)
  if (!operator) throw new Failure('link_invalid')
  await setWayIn(tx, operator.id, way)
  await removeSessionsOf(tx, operator.id)
  await audit(tx, operatorActor(operator, address), {
    environmentId: null,
    action: 'subject' in way ? 'operator.identity_linked' : 'operator.password_reset',
    target: operator.email,
  })
  return (await findById(tx, operator.id))!
}

async function join(
  audit: Audit,
  tx: Db,
  added: Parameters<typeof addOperator>[1],
  address: string,
): Promise<Operator> {
  const operator = await addOperator(tx, added)
  if (!operator) throw new Failure('link_invalid')
  await audit(tx, operatorActor(operator, address), {
    environmentId: null,
    action: 'operator.joined',
    target: operator.email,
    detail: { role: operator.role },
  })
  return operator
}

/**
 * The operator an identity belongs to. One that nobody knows comes in by a link an owner made, by an invitation to an address the provider
 * vouches for, or where whoever runs this server opened the door to a whole domain. An address alone opens no operator that is there
 * already: it may have changed hands (security checklist LK14).
 */
export async function signInWithIdentity(
  deps: SignInDeps,
  identity: Identity,
  link: Buffer | null,
  newcomers: Oidc['newcomers'],
  address: string,
): Promise<Operator> {
  const { db, audit } = deps
  const { subject, email, name } = identity
  const unknown = () =>
    new Failure('oidc_stranger', {
      message: `Nobody here signs in as ${email ?? 'this identity'}. Ask an owner for an invitation.`,
    })
  try {
    return await db.transaction(async tx => {
      await lockOperators(tx)
      const known = await findBySubject(tx, subject)
      if (known && link)
        throw new Failure('operator_exists', { message: `${known.email} signs in with this identity.` })
      if (known) return known
      if (link) return takeUpLink(deps, tx, link, { name, subject }, address)
      if (email === undefined || !(await hasOperators(tx))) throw unknown()
      if (!identity.isEmailVerified) throw new Failure('oidc_email_unverified')
      if (await findByEmail(tx, email)) throw new Failure('oidc_not_linked')
      const domain = email.slice(email.lastIndexOf('@') + 1)
      const role = (await takeInvitation(tx, email)) ?? newcomers.find(one => one.domain === domain)?.role
      if (!role) throw unknown()
      return join(audit, tx, { email, name: name ?? email, role, subject }, address)
    })
  } catch (error) {
    if (error instanceof Failure)
      await db.transaction(tx =>
        audit(tx, nobody(email ?? subject, address), {
          environmentId: null,
          action: 'sign_in.failed',
          target: email ?? subject,
          detail: { how: 'oidc', code: error.code },
        }),
      )
    throw error
  }
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
  how: 'password' | 'link' | 'setup' | 'oidc',
  confirmedAt: Date,
): Promise<void> =>
  db.transaction(async tx => {
    await addSession(tx, lookup, operator.id, confirmedAt)
    await audit(tx, operatorActor(operator, address), {
      environmentId: null,
      action: 'sign_in.succeeded',
      target: operator.email,
      detail: { how },
    })
  })
