/** Opens every sealed value of a database, so that "it is all there" is known and not hoped. */
import { Failure } from '../errors.ts'
import type { Vault } from '../seams.ts'
import type { SealedColumn } from '../vault/rotate.ts'
import type { KeyStore } from '../vault/store.ts'

const batchRows = 1_000

export interface Opened {
  opened: number
  /** Where one does not open. */
  unreadable: string[]
}

export async function openEverySecret(
  { keys, vault, columns }: { keys: KeyStore; vault: Vault; columns: SealedColumn[] },
  progress: (opened: number) => void,
): Promise<Opened> {
  const result: Opened = { opened: 0, unreadable: [] }
  for (const { id } of await keys.list())
    for (const column of columns)
      for (let after: string | null = null; ; ) {
        const rows = await column.sealedWith(id, after, batchRows)
        for (const { sealed, place } of rows)
          try {
            await vault.withKeys(() => vault.open(sealed, place))
            result.opened++
          } catch (error) {
            if (!(error instanceof Failure)) throw error
            result.unreadable.push(`${place.table}.${place.column} of ${place.row}`)
          }
        after = rows.at(-1)?.place.row ?? null
        progress(result.opened)
        if (rows.length < batchRows) break
      }
  return result
}
