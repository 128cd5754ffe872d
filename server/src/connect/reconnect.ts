/**
 * Signing in again to an account that is here. Everything that stands on its grant gets the new one, because one row holds a grant and
 * they share the row. Also for an end user who connects the same account once more, at a provider that keeps only so many grants.
 */
import type { ConnectAccount } from '@fairlead/contract'
import { type Connection, findConnectionById, grantsOf, moveConnections } from '../connection/store.ts'
import { baseUrlOf } from '../credential/ask.ts'
import { accountOf } from '../credential/facts.ts'
import { automatedFacts } from '../credential/kinds/oauth2-code.ts'
import type { Holder } from '../credential/refresh-deps.ts'
import { buryCredential, retireReplaced } from '../credential/revocation/store.ts'
import {
  endAccess,
  fingerprintOf,
  type HeldGrant,
  holderOfSuccessor,
  lockGrants,
  type NewCredential,
  readConfig,
  replaceGrant,
  type StoreDeps,
  type StoredGrant,
} from '../credential/store.ts'
import { Failure } from '../errors.ts'
import type { Integration } from '../integration/store.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Provider } from '../provider/schema.ts'
import type { Db } from '../seams.ts'
import type { Session } from './store.ts'

export interface Target {
  connection: Connection
  config: ConnectionConfig
}

/** The connection a session signs in to again; undefined when it makes new ones. */
export async function targetOf(db: Db, { reconnects }: Pick<Session, 'reconnects'>): Promise<Target | undefined> {
  if (reconnects === null) return undefined
  const connection = await findConnectionById(db, reconnects)
  const config = connection && (await readConfig(db, connection.credentialId))
  // The session ends with its connection; this is the moment in between.
  if (!connection || !config) throw new Failure('unknown_connect_session_token')
  return { connection, config }
}

/** What somebody gave when the account was connected, as opposed to what the provider told. */
export function givenFacts(provider: Provider, config: ConnectionConfig): ConnectionConfig {
  const automated = automatedFacts(provider)
  return Object.fromEntries(Object.entries(config).filter(([name]) => !automated.has(name)))
}

/** Where the account is: the host of its API. */
export const addressOf = (provider: Provider, config: ConnectionConfig): string | undefined =>
  baseUrlOf(provider, config)?.host

/** An account in the words of its provider's data: label and value, to be read by people. */
export function describeAccount(provider: Provider, config: ConnectionConfig): [label: string, value: string][] {
  const address = addressOf(provider, config)
  return [
    ...(address ? [['Address', address] as [string, string]] : []),
    ...(provider.identity ?? []).map((name): [string, string] => [
      provider.connection_config?.[name]?.title ?? name,
      typeof config[name] === 'string' ? config[name] : 'not told',
    ]),
  ]
}

/** The same for a program; its label is what stands first. */
export function accountView(provider: Provider, config: ConnectionConfig): ConnectAccount | null {
  const details = describeAccount(provider, config).map(([label, value]) => ({ label, value }))
  return details[0] ? { label: details[0].value, details } : null
}

export type SignedInAgain =
  /** `proven`: by what the provider told, it is the account it was. */
  | { kind: 'replaced'; stored: StoredGrant; proven: boolean }
  /** Ended while its owner signed in. */
  | { kind: 'gone' }
  | { kind: 'another_account'; held: ConnectionConfig }
  | { kind: 'no_refresh_token' }
  /** The refresh token that came is an old one, whose successor is here. */
  | { kind: 'superseded' }
  /** The caller did not want this row after all. */
  | { kind: 'unsuited' }

/**
 * RECONNECT, in the caller's transaction. Nothing is written unless it answers `replaced`. `suits` is asked of the locked row, and
 * `anotherAccount` whether it may become somebody else's.
 */
export async function signInAgain(
  deps: StoreDeps,
  holder: Holder,
  integration: Integration,
  credentialId: string,
  added: NewCredential,
  suits: (held: HeldGrant) => boolean | Promise<boolean> = () => true,
  anotherAccount: (held: HeldGrant) => boolean | Promise<boolean> = () => false,
): Promise<SignedInAgain> {
  const { db } = deps
  const print = fingerprintOf(deps.keyedHash, credentialId, added)
  const { held, owner } = await lockGrants(db, integration.id, credentialId, print)
  if (!held) return { kind: 'gone' }
  if (!(await suits(held))) return { kind: 'unsuited' }
  const account = accountOf(holder.provider, held.config)
  if (account !== null && account !== added.account && !(await anotherAccount(held)))
    return { kind: 'another_account', held: held.config }
  if (held.tokenFp && !print) return { kind: 'no_refresh_token' }

  // The provider gave the grant it had given before: there is nothing to end.
  if (owner === held.id) {
    const tokenVersion = await replaceGrant(deps, held.id, added)
    return { kind: 'replaced', stored: { id: held.id, tokenVersion }, proven: true }
  }
  if (!owner && (await holderOfSuccessor(db, integration.id, print))) return { kind: 'superseded' }

  const before = await retireReplaced(deps, db, holder, integration, held.id)
  const now = owner ?? held.id
  const tokenVersion = await replaceGrant(deps, now, added)
  if (before?.reveal() === added.tokens.accessToken.reveal()) await endAccess(db, now)
  if (owner) {
    await moveConnections(db, held.id, owner)
    await buryCredential(db, held.id)
  }
  const proven = account !== null && account === added.account
  return { kind: 'replaced', stored: { id: now, tokenVersion }, proven }
}

/**
 * The grant that an end user's further sign-in to the same account may take the place of, so that grants do not pile up where the provider
 * keeps only so many. Not one that is paused, and not one with scopes the new sign-in lacks: other connections stand on it.
 */
export async function takePlaceOfOlder(
  deps: StoreDeps,
  holder: Holder,
  integration: Integration,
  endUserId: string,
  added: NewCredential,
): Promise<StoredGrant | undefined> {
  if (holder.provider.grants_per_user === undefined || !added.account) return undefined
  const [older] = await grantsOf(deps.db, integration, endUserId, added.account)
  if (!older) return undefined
  const suits = ({ paused, scopesGranted }: HeldGrant) =>
    !paused && scopesGranted.every(scope => added.scopesGranted.includes(scope))
  const again = await signInAgain(deps, holder, integration, older.credentialId, added, suits)
  return again.kind === 'replaced' ? again.stored : undefined
}
