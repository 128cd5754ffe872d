import type { Role } from '@fairlead/contract'
import { type Sql, sql } from '../../db/sql.ts'
import { Secret } from '../../lib/secret.ts'
import type { Db, Vault } from '../../seams.ts'
import type { SealedColumn } from '../../vault/rotate.ts'

export interface Operator {
  id: number
  email: string
  name: string
  role: Role
  password_hash: string | null
  totp_on: boolean
  totp_step: number
  oidc_subject: string | null
  signed_in_at: Date | null
}

const totpPlace = (id: number) => ({ table: 'operator', column: 'totp_sealed', environment: 0, row: String(id) })

const select = ({ text, values }: Sql): Sql => ({
  text: `select id, email, name, role, password_hash, totp_on, totp_step, oidc_subject, signed_in_at from operator ${text}`,
  values,
})

export const listOperators = (db: Db): Promise<Operator[]> => db.query<Operator>(select(sql`order by id`))

export async function hasOperators(db: Db): Promise<boolean> {
  const [row] = await db.query<{ some: boolean }>(sql`select exists (select from operator) as some`)
  return row!.some
}

export async function findByEmail(db: Db, email: string): Promise<Operator | undefined> {
  const [row] = await db.query<Operator>(select(sql`where email = ${email}`))
  return row
}

export async function findById(db: Db, id: number): Promise<Operator | undefined> {
  const [row] = await db.query<Operator>(select(sql`where id = ${id}`))
  return row
}

export async function findBySubject(db: Db, subject: string): Promise<Operator | undefined> {
  const [row] = await db.query<Operator>(select(sql`where oidc_subject = ${subject}`))
  return row
}

/** Held until the transaction ends, so that of two who change who there is, the later sees what the earlier did. */
export const lockOperators = (tx: Db): Promise<object[]> =>
  tx.query(sql`select pg_advisory_xact_lock(hashtext('fairlead operators'))`)

/** Undefined when the address is taken. */
export async function addOperator(
  tx: Db,
  {
    email,
    name,
    role,
    passwordHash = null,
    subject = null,
  }: { email: string; name: string; role: Role; passwordHash?: string | null; subject?: string | null },
): Promise<Operator | undefined> {
  const [row] = await tx.query<Operator>(sql`
    insert into operator (email, name, role, password_hash, oidc_subject)
    values (${email}, ${name}, ${role}, ${passwordHash}, ${subject})
    on conflict (email) do nothing
    returning id, email, name, role, password_hash, totp_on, totp_step, oidc_subject, signed_in_at`)
  return row
}

export const setRole = (tx: Db, id: number, role: Role): Promise<object[]> =>
  tx.query(sql`update operator set role = ${role} where id = ${id}`)

export const setPassword = (tx: Db, id: number, hash: string): Promise<object[]> =>
  tx.query(sql`update operator set password_hash = ${hash} where id = ${id}`)

/** The one way in from now on. The other way, and a code with it, goes. */
export const setWayIn = (
  tx: Db,
  id: number,
  { passwordHash = null, subject = null }: { passwordHash?: string | null; subject?: string | null },
): Promise<object[]> =>
  tx.query(sql`
    update operator set password_hash = ${passwordHash}, oidc_subject = ${subject}, totp_on = false, totp_sealed = null
    where id = ${id}`)

export const deleteOperator = (tx: Db, id: number): Promise<object[]> =>
  tx.query(sql`delete from operator where id = ${id}`)

// two-factor

export async function sealTotp({ db, vault }: { db: Db; vault: Vault }, id: number, secret: Secret): Promise<void> {
  const sealed = await vault.withKeys(() => vault.seal(secret.reveal(), totpPlace(id)))
  await db.query(sql`update operator set totp_sealed = ${sealed}, totp_on = false where id = ${id}`)
}

export async function openTotp({ db, vault }: { db: Db; vault: Vault }, id: number): Promise<Secret | undefined> {
  const [row] = await db.query<{ totp_sealed: Buffer | null }>(sql`select totp_sealed from operator where id = ${id}`)
  const sealed = row?.totp_sealed
  return sealed ? new Secret(await vault.withKeys(() => vault.open(sealed, totpPlace(id)))) : undefined
}

/** True for the first who brings a code of this step: no code works twice. */
export async function useStep(db: Db, id: number, step: number): Promise<boolean> {
  const rows = await db.query(
    sql`update operator set totp_step = ${step} where id = ${id} and totp_step < ${step} returning id`,
  )
  return rows.length > 0
}

export const turnTotp = (tx: Db, id: number, on: boolean): Promise<object[]> =>
  tx.query(sql`
    update operator set totp_on = ${on}, totp_sealed = case when ${on} then totp_sealed end where id = ${id}`)

export const sealedTotp = (db: Db): SealedColumn => ({
  async count(keys) {
    const [row] = await db.query<{ rows: number }>(
      sql`select count(*)::int as rows from operator where totp_key = any (${keys}::bytea[])`,
    )
    return row!.rows
  },
  async sealedWith(key, after, limit) {
    const rows = await db.query<{ id: number; sealed: Buffer }>(sql`
      select id, totp_sealed as sealed from operator
      where totp_key = ${key} and id > coalesce(${after}::int, 0) order by id limit ${limit}`)
    return rows.map(({ id, sealed }) => ({
      place: totpPlace(id),
      sealed,
      replace: resealed =>
        db.query(sql`update operator set totp_sealed = ${resealed} where id = ${id} and totp_sealed = ${sealed}`),
    }))
  },
})

// sessions

/** Without a sign of life for so long, and after so long whatever happens, it has ended (OWASP ASVS 7.3). */
const idleHours = 12
const absoluteDays = 7
export const confirmedMinutes = 5

export interface Session {
  operator_id: number
  email: string
  name: string
  role: Role
  confirmed_at: Date
  /** Within the last five minutes. */
  confirmed: boolean
  environment_id: number | null
  environment_uuid: string | null
  seen_recently: boolean
}

/** `confirmedAt`: when its owner last showed who they are. */
export const addSession = (tx: Db, lookup: Buffer, operatorId: number, confirmedAt: Date): Promise<object[]> =>
  tx.query(sql`
    with signed_in as (update operator set signed_in_at = clock_timestamp() where id = ${operatorId})
    insert into operator_session (lookup, operator_id, confirmed_at, ends_at)
    values (${lookup}, ${operatorId}, least(${confirmedAt}, clock_timestamp()), clock_timestamp() + ${absoluteDays} * interval '1 day')`)

/** With the environment of this name, if there is one. */
export async function findSession(db: Db, lookup: Buffer, environment: string | null): Promise<Session | undefined> {
  const [row] = await db.query<Session>(sql`
    select s.operator_id, o.email, o.name, o.role, s.confirmed_at,
      s.confirmed_at > clock_timestamp() - ${confirmedMinutes} * interval '1 minute' as confirmed,
      e.id as environment_id, e.uuid as environment_uuid,
      s.seen_at > clock_timestamp() - interval '1 minute' as seen_recently
    from operator_session s join operator o on o.id = s.operator_id left join environment e on e.name = ${environment}
    where s.lookup = ${lookup} and s.ends_at > clock_timestamp()
      and s.seen_at > clock_timestamp() - ${idleHours} * interval '1 hour'`)
  return row
}

export const touchSession = (db: Db, lookup: Buffer): Promise<object[]> =>
  db.query(sql`update operator_session set seen_at = clock_timestamp() where lookup = ${lookup}`)

/** What it showed holds for the new name of the session; the old one is dead. */
export const renewSession = (tx: Db, from: Buffer, to: Buffer): Promise<object[]> =>
  tx.query(sql`
    update operator_session set lookup = ${to}, confirmed_at = clock_timestamp(), seen_at = clock_timestamp()
    where lookup = ${from}`)

export const removeSession = (db: Db, lookup: Buffer): Promise<object[]> =>
  db.query(sql`delete from operator_session where lookup = ${lookup}`)

export const removeSessionsOf = (tx: Db, operatorId: number): Promise<object[]> =>
  tx.query(sql`delete from operator_session where operator_id = ${operatorId}`)

// links

const linkDays = 7

export interface Link {
  email: string | null
  role: Role | null
  operator_id: number | null
}

export async function addLink(
  tx: Db,
  lookup: Buffer,
  {
    email = null,
    role = null,
    operatorId = null,
  }: { email?: string | null; role?: Role | null; operatorId?: number | null },
): Promise<Date> {
  const [row] = await tx.query<{ ends_at: Date }>(sql`
    insert into operator_link (lookup, email, role, operator_id, ends_at)
    values (${lookup}, ${email}, ${role}, ${operatorId}, clock_timestamp() + ${linkDays} * interval '1 day')
    returning ends_at`)
  return row!.ends_at
}

/** Once. */
export async function takeLink(tx: Db, lookup: Buffer): Promise<Link | undefined> {
  const [row] = await tx.query<Link>(sql`
    delete from operator_link where lookup = ${lookup} and ends_at > clock_timestamp()
    returning email, role, operator_id`)
  return row
}

/** The invitation of an address, without its link: whoever asks has shown that the address is theirs. Once. */
export async function takeInvitation(tx: Db, email: string): Promise<Role | undefined> {
  const [row] = await tx.query<{ role: Role }>(sql`
    delete from operator_link where email = ${email} and ends_at > clock_timestamp() returning role`)
  return row?.role
}

/** Of an address or an operator, earlier ones: the newest link is the one that works. And whatever has ended. */
export const dropLinks = (tx: Db, email: string | null, operatorId: number | null): Promise<object[]> =>
  tx.query(sql`
    delete from operator_link where ends_at < clock_timestamp() or email = ${email} or operator_id = ${operatorId}`)

/** Those that make the first operator have neither. */
export const dropSetupLinks = (tx: Db): Promise<object[]> =>
  tx.query(sql`delete from operator_link where email is null and operator_id is null`)

// sign-ins at the identity provider

export interface Handshake {
  /** Of the link that was brought along. */
  link: Buffer | null
  confirms: boolean
}

const handshakeMinutes = 10

export const addHandshake = (db: Db, lookup: Buffer, { link, confirms }: Handshake): Promise<object[]> =>
  db.query(sql`
    insert into operator_handshake (lookup, link, confirms, ends_at)
    values (${lookup}, ${link}, ${confirms}, clock_timestamp() + ${handshakeMinutes} * interval '1 minute')`)

/** Once. */
export async function takeHandshake(db: Db, lookup: Buffer): Promise<Handshake | undefined> {
  const [row] = await db.query<Handshake>(sql`
    delete from operator_handshake where lookup = ${lookup} and ends_at > clock_timestamp() returning link, confirms`)
  return row
}

// failures

const windowMinutes = 15
/** From one address for one e-mail; for one e-mail from everywhere; from one address for everybody. */
const most = { pair: 10, email: 50, address: 100 }

/**
 * Counts an attempt as failed. Not allowed: there were too many in the last quarter of an hour; `first` says that this one is the first to be
 * turned away. Attempts on one e-mail take turns, so none slips through between another's look and its count.
 */
export const attempt = (db: Db, email: string, address: string): Promise<{ allowed: boolean; first: boolean }> =>
  db.transaction(async tx => {
    await tx.query(sql`select pg_advisory_xact_lock(hashtext(${`sign-in ${email}`}))`)
    const [row] = await tx.query<{ pair: number; email: number; address: number }>(sql`
      select count(*) filter (where email = ${email} and address = ${address})::int as pair,
        count(*) filter (where email = ${email})::int as email, count(*) filter (where address = ${address})::int as address
      from sign_in_failure
      where at > clock_timestamp() - ${windowMinutes} * interval '1 minute' and (email = ${email} or address = ${address})`)
    const full = (['pair', 'email', 'address'] as const).filter(what => row![what] >= most[what])
    // One more is written down, so that the next does not count as the first.
    const first = full.some(what => row![what] === most[what])
    if (full.length === 0 || first)
      await tx.query(sql`insert into sign_in_failure (email, address) values (${email}, ${address})`)
    return { allowed: full.length === 0, first }
  })

export const clearFailures = (db: Db, email: string, address: string): Promise<object[]> =>
  db.query(sql`delete from sign_in_failure where email = ${email} and address = ${address}`)

export const pruneOperators = (db: Db): Promise<object[]> =>
  db.query(sql`
    with failures as (delete from sign_in_failure where at < clock_timestamp() - interval '1 hour'),
      handshakes as (delete from operator_handshake where ends_at < clock_timestamp())
    delete from operator_session where ends_at < clock_timestamp()
      or seen_at < clock_timestamp() - ${idleHours} * interval '1 hour'`)
