/**
 * Rotation of data keys, under load. The retired key seals nothing from the moment the new one stands in the table; what it sealed is
 * sealed anew in the background, row by row, each a compare-and-set, so a reader always finds a value it can open and a writer is never
 * undone. Nothing remembers how far it got: the rows still under a retired key are what is left, whoever continues. Which tables those
 * are is told by the rooms that own them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../errors.ts'
import type { Log } from '../lib/log.ts'
import type { Db, SealedPlace, Vault } from '../seams.ts'
import type { Ring } from './ring.ts'
import { destroyKey, forgottenKeys, inTurn, type KeyStore, type WrappedKey } from './store.ts'

/** A column of sealed values; made by the store of the room that owns it. Keys are ids of data keys. */
export interface SealedColumn {
  count(keys: Buffer[]): Promise<number>
  /**
   * At most `limit` rows sealed with this key, in the order of `place.row`, after the one named. Asked from the beginning each time,
   * PostgreSQL would step over every row that was moved already: ten times slower after 100,000.
   */
  sealedWith(key: Buffer, after: string | null, limit: number): Promise<SealedRow[]>
}

export interface SealedRow {
  place: SealedPlace
  sealed: Buffer
  /** Compare-and-set: writes only where the row still holds what was read, and touches nothing but the sealed value. */
  replace(resealed: Buffer): Promise<unknown>
}

export interface Progress {
  kekId: string
  /** Of the environment and of the installation. */
  keys: WrappedKey[]
  /** Rows still under a retired one of these. */
  rowsLeft: number
}

export interface Rotation {
  /** New data keys for the environment and the installation; the rest happens in the background. */
  start(environment: number): Promise<Progress>
  progress(environment: number): Promise<Progress>
  /** Seals anew what is still under a retired key: on start, after a rotation, and every now and then, as its process may have died. */
  sweep(): Promise<void>
  close(): Promise<void>
}

interface Deps {
  db: Db
  store: KeyStore
  ring: Ring
  vault: Vault
  columns: SealedColumn[]
  log: Log
  /** For how long a key that is retired, and under which nothing stands any more, still opens. */
  keepDays: number
}

/** Small, so that another process may take over soon and stopping waits for little. */
const batchRows = 100
const busyMs = 200

export function createRotation({ db, store, ring, vault, columns, log, keepDays }: Deps): Rotation {
  let closing = false
  let wanted = false
  let running: Promise<void> | undefined

  async function rowsUnder(keys: Buffer[]): Promise<number> {
    if (keys.length === 0) return 0
    const counts = await Promise.all(columns.map(column => column.count(keys)))
    return counts.reduce((sum, count) => sum + count)
  }

  /** `moved`: how many left their retired key, by us or by somebody else. `last`: null at the end. */
  async function batch(column: SealedColumn, key: Buffer, after: string | null) {
    let moved = 0
    const rows = await column.sealedWith(key, after, batchRows)
    for (const { place, sealed, replace } of rows)
      try {
        await replace(await vault.withKeys(() => vault.seal(vault.open(sealed, place), place)))
        moved++
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== 'sealed_value_unreadable') throw error
        // Nobody can read it, and one damaged row must not keep the others where they are.
        log.error(
          { ...place, reason: String(error.cause) },
          'a sealed value cannot be opened and keeps its retired key',
        )
      }
    return { moved, last: rows.at(-1)?.place.row ?? null }
  }

  /** Once through the column. */
  async function scan(column: SealedColumn, key: Buffer): Promise<number> {
    let moved = 0
    let after: string | null = null
    while (!closing) {
      const done: Awaited<ReturnType<typeof batch>> | undefined = await inTurn(db, () => batch(column, key, after))
      // Another process is at it. It may end, or know of fewer retired keys than we do.
      if (!done) {
        await sleep(busyMs)
        continue
      }
      moved += done.moved
      after = done.last
      if (after === null) break
    }
    return moved
  }

  async function pass(): Promise<void> {
    await ring.load()
    // As the ring has it: what this process seals with is never among them.
    const retired = ring.retired()
    if (retired.length === 0) return
    // Until there is nothing to move: a process that has not heard of the rotation may have written behind us.
    for (const column of columns) for (const key of retired) while ((await scan(column, key)) > 0) {}
    for (const id of await forgottenKeys(db, keepDays)) if ((await rowsUnder([id])) === 0) await destroyKey(db, id)
  }

  const rotation: Rotation = {
    async start(environment) {
      await ring.rewrap()
      for (const one of [0, environment]) await ring.replace(one)
      const progress = await rotation.progress(environment)
      log.info({ environment, rows: progress.rowsLeft }, 'new data keys; what the old ones sealed is sealed anew')
      rotation.sweep().catch(error => log.warn({ reason: String(error) }, 'sealing anew stopped; it is taken up again'))
      return progress
    },

    async progress(environment) {
      const keys = (await store.list()).filter(key => key.environment === environment || key.environment === 0)
      const retired = keys.filter(key => key.retiredAt).map(key => key.id)
      return { kekId: ring.kekId, keys, rowsLeft: await rowsUnder(retired) }
    },

    sweep() {
      wanted = true
      running ??= (async () => {
        try {
          for (; wanted && !closing; await pass()) wanted = false
        } finally {
          running = undefined
        }
      })()
      return running
    },

    async close() {
      closing = true
      await running?.catch(() => {})
    },
  }
  return rotation
}
