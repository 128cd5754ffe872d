/** The trail with an end of its own: what is old may go, and what is left still proves that nothing else went. */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { type Actor, createAudit, pruneAudit, verify } from '../../src/audit/audit.ts'
import { sql } from '../../src/db/sql.ts'
import { testDatabase } from '../support/database.ts'

const chain = (text: string) => createHmac('sha256', 'the pepper').update(text).digest()
const actor: Actor = { kind: 'key', id: '1', name: 'backend', address: null }

async function trail(t: { after(work: () => Promise<void>): void }) {
  const { db } = await testDatabase(t)
  const audit = createAudit(chain)
  const add = (target: string) =>
    db.transaction(tx => audit(tx, actor, { environmentId: null, action: 'thing.made', target }))
  for (let n = 0; n < 20; n++) await add(`old-${n}`)
  const targets = async () =>
    (await db.query<{ target: string }>(sql`select target from audit order by sequence`)).map(row => row.target)
  return { db, add, targets }
}

test('what is old goes, the rest verifies, and that it went is written down', async t => {
  const { db, add, targets } = await trail(t)
  await pruneAudit(db, chain, 30)
  assert.equal((await targets()).length, 20, 'nothing is old yet')
  // Zero days: everything until now.
  await pruneAudit(db, chain, 0)
  const [entry, ...none] = await db.query<{ action: string; detail: object }>(sql`select action, detail from audit`)
  assert.deepEqual([entry, none], [{ action: 'audit.pruned', detail: { up_to: 20, older_than_days: 0 } }, []])
  for (const target of ['new-1', 'new-2', 'new-3']) await add(target)
  const verdict = await verify(db, chain)
  assert.ok(verdict.intact)
  assert.equal(verdict.rows, 4)
})

test('nobody but a server may say where the chain begins', async t => {
  const { db, add } = await trail(t)
  await pruneAudit(db, chain, 0)
  for (const target of ['kept', 'unwanted', 'newest']) await add(target)
  assert.ok((await verify(db, chain)).intact)

  await assert.rejects(db.query(sql`delete from audit where target = 'unwanted'`), /only added to/)
  await assert.rejects(db.query(sql`truncate audit`), /only added to/)
  await assert.rejects(db.query(sql`update audit set target = 'x'`), /only added to/)

  // Somebody who can do anything to the database, and does not have the pepper, moves the beginning behind what is to be forgotten.
  await db.query(sql`alter table audit disable trigger user`)
  await db.query(sql`
    update audit_start set sequence = a.sequence, hash = a.hash from audit a where a.target = 'unwanted'`)
  await db.query(sql`delete from audit where sequence <= (select sequence from audit_start)`)
  assert.equal((await verify(db, chain)).intact, false)
  // Or takes the beginning away.
  await db.query(sql`delete from audit_start`)
  assert.deepEqual(await verify(db, chain), { intact: false, rows: 0, broken_at: 1 })
})

test('it is verified while old rows go', async t => {
  const { db, add } = await trail(t)
  const verdicts = Promise.all(Array.from({ length: 10 }, () => verify(db, chain)))
  await pruneAudit(db, chain, 0)
  await add('after')
  for (const verdict of await verdicts) assert.ok(verdict.intact)
})
