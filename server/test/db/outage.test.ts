/** What is used again while the database is away, and what never is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOutage } from '../../src/db/outage.ts'
import { Failure } from '../../src/errors.ts'

const away = () => Promise.reject(new Failure('database_unavailable'))

test('whoever has something has it while the database is away, and asks it once a second', async () => {
  let now = 0
  let asked = 0
  const { bridged } = createOutage(() => now)
  const read = () => {
    asked++
    return away()
  }
  assert.equal(await bridged('kept', read), 'kept')
  assert.equal(bridged('kept', read), 'kept', 'at once')
  assert.equal(asked, 1)
  now = 1_001
  assert.equal(await bridged('kept', async () => 'new'), 'new')
  assert.equal(await bridged('kept', async () => 'newer'), 'newer', 'it is back')
})

test('a database that keeps its callers waiting is away as well, and what it says in the end is not lost', async () => {
  const { bridged } = createOutage()
  let answer: (said: string) => void = assert.fail
  const reading = new Promise<string>(resolve => {
    answer = resolve
  })
  assert.equal(await bridged('kept', () => reading), 'kept')
  answer('late')
  assert.equal(await reading, 'late')
})

test('whoever has nothing gets the failure, and any other failure is everybody’s', async () => {
  const { bridged } = createOutage()
  await assert.rejects(async () => bridged(undefined, away), { code: 'database_unavailable' })
  await assert.rejects(async () => bridged('kept', () => Promise.reject(new Failure('unknown_connection'))), {
    code: 'unknown_connection',
  })
})
