/**
 * Backup and restore. A backup is one moment of the whole database while it goes on serving; what was sealed in it stays sealed as it is,
 * and the whole is sealed once more (envelope.ts), because names, addresses and paths stand in plain columns.
 *
 * A restore reads the file twice: the first time to the end, so that nothing is written unless every byte is as it was; then in one
 * transaction, so that a restore that is killed has written nothing either.
 */
import { createReadStream } from 'node:fs'
import { open as openFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { everything, openReader, openWriter, type Reader, type Table, type Writer } from '../db/copy.ts'
import { migrate, migrationNames, migrationsFolder } from '../db/migrate.ts'
import type { Address } from '../db/open.ts'
import { Failure } from '../errors.ts'
import { type Frame, frame, frames, type Manifest } from './content.ts'
import { type Keys, open, seal } from './envelope.ts'

export interface Counted {
  tables: Record<string, number>
  rows: number
}

/** After each table: rows so far. */
export type Progress = (table: string, rows: number) => void

/** Writes to `path`, which must not be there yet, or, for `-`, to standard output. */
export async function backUp(
  source: Address,
  keys: Keys,
  path: string,
  progress: Progress,
): Promise<Counted & { bytes: number }> {
  const reader = await openReader(source)
  try {
    const counted: Counted = { tables: {}, rows: 0 }
    const sealed = seal(keys, contentOf(reader, counted, progress))
    const bytes = path === '-' ? await writeOut(sealed) : await writeWhole(path, sealed)
    return { ...counted, bytes }
  } finally {
    await reader.close()
  }
}

async function* contentOf(reader: Reader, counted: Counted, progress: Progress): AsyncGenerator<Buffer> {
  const manifest: Manifest = {
    taken_at: new Date().toISOString(),
    migrations: await reader.migrations(),
    tables: await reader.tables(),
    sequences: await reader.sequences(),
  }
  yield frame('m', JSON.stringify(manifest))
  for (const [number, table] of manifest.tables.entries()) {
    yield frame('t', number)
    const rows = reader.rows(table, everything)
    for await (const piece of rows) yield frame('d', piece)
    yield frame('e', rows.rowCount)
    counted.tables[table.name] = rows.rowCount
    counted.rows += rows.rowCount
    progress(table.name, counted.rows)
  }
  yield frame('z', '')
}

async function writeOut(pieces: AsyncIterable<Buffer>): Promise<number> {
  let bytes = 0
  for await (const piece of pieces) {
    bytes += piece.length
    if (!process.stdout.write(piece)) await new Promise(resolve => process.stdout.once('drain', resolve))
  }
  return bytes
}

/** Whole under its name, or not there; on disk when this resolves. */
async function writeWhole(path: string, pieces: AsyncIterable<Buffer>): Promise<number> {
  const taken = await openFile(path, 'wx', 0o600).catch((cause: NodeJS.ErrnoException) => {
    const message =
      cause.code === 'EEXIST'
        ? `${path} is there already, and a backup never takes the place of another. Name another file.`
        : `${path} cannot be written (${cause.code}).`
    throw new Failure('backup_file_unusable', { message, cause })
  })
  await taken.close()
  const unfinished = `${path}.unfinished`
  const file = await openFile(unfinished, 'w', 0o600)
  let bytes = 0
  try {
    for await (const piece of pieces) {
      await file.writeFile(piece)
      bytes += piece.length
    }
    await file.sync()
    await file.close()
    await rename(unfinished, path)
  } catch (error) {
    await file.close().catch(() => {})
    await rm(unfinished, { force: true })
    await rm(path, { force: true })
    throw error
  }
  const folder = await openFile(dirname(path), 'r')
  await folder.sync().finally(() => folder.close())
  return bytes
}

/** Reads to the end, so that every byte was seen. Throws `backup_altered` or `backup_key_missing`. */
export async function checkBackup(path: string, keys: Keys): Promise<{ manifest: Manifest; counted: Counted }> {
  let manifest: Manifest | undefined
  const counted: Counted = { tables: {}, rows: 0 }
  let table = ''
  let ended = false
  for await (const { kind, body } of framesOf(path, keys)) {
    if (kind === 'm') manifest = JSON.parse(body.toString('utf8')) as Manifest
    if (kind === 't') table = manifest!.tables[Number(body)]!.name
    if (kind === 'e') {
      counted.tables[table] = Number(body)
      counted.rows += Number(body)
    }
    if (kind === 'z') ended = true
  }
  if (!manifest || !ended) throw new Failure('backup_altered')
  return { manifest, counted }
}

const framesOf = (path: string, keys: Keys): AsyncGenerator<Frame> => frames(open(keys, fileOf(path)))

async function* fileOf(path: string): AsyncGenerator<Buffer> {
  try {
    yield* createReadStream(path, { highWaterMark: 256 * 1024 })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new Failure('backup_file_unusable', { message: `${path} cannot be read (${code}).`, cause })
  }
}

/**
 * Into an empty database, and into a new history of it (`history`): rows the backup has may be older than what the providers know. `also`
 * migrates what is not ours.
 */
export async function restore(
  target: Address,
  keys: Keys,
  path: string,
  also: () => Promise<void>,
  progress: Progress,
): Promise<Counted & { taken_at: string }> {
  const { manifest, counted } = await checkBackup(path, keys)
  const known = await migrationNames(migrationsFolder)
  const newer = manifest.migrations.filter(name => !known.includes(name))
  if (newer.length > 0) throw new Failure('backup_newer')
  const writer = await openWriter(target)
  try {
    if (!(await writer.takeTurn())) throw new Failure('target_in_use')
    await refuseUnlessEmpty(writer)
    // As it was when the backup was taken; what came since is applied to the restored rows as it was to others.
    await migrate(target, migrationsFolder, { also, only: name => manifest.migrations.includes(name) })
    await refuseUnlessSame(manifest.tables, await writer.tables())
    await writer.transaction(() => bringAll(writer, manifest, framesOf(path, keys), progress))
    await migrate(target, migrationsFolder, { also })
    return { ...counted, taken_at: manifest.taken_at }
  } finally {
    await writer.close()
  }
}

async function bringAll(
  writer: Writer,
  { tables, sequences }: Manifest,
  content: AsyncGenerator<Frame>,
  progress: Progress,
): Promise<void> {
  // The few rows that migrations make.
  for (const table of tables.toReversed()) await writer.empty(table)
  let done = 0
  let table: Table | undefined
  let brought = 0
  for (;;) {
    const { value, done: over } = await content.next()
    // Only a file that is changed while it is read ends here.
    if (over) throw new Failure('backup_altered')
    if (value.kind === 'z') break
    if (value.kind === 't') {
      table = tables[Number(value.body)]!
      let end: Buffer | undefined
      const rows = async function* () {
        for (;;) {
          const { value, done } = await content.next()
          if (done) throw new Failure('backup_altered')
          if (value.kind === 'e') {
            end = value.body
            return
          }
          yield value.body
        }
      }
      brought = await writer.bring(table, rows())
      if (brought !== Number(end)) throw new Failure('backup_altered')
      done += brought
      progress(table.name, done)
    }
  }
  // To the end: the last chunk says that it is the last.
  for await (const _ of content) throw new Failure('backup_altered')
  await writer.setSequences(sequences)
  // One backup may be restored twice, and each is a history of its own: hence the moment, and not the next number alone.
  await writer.run(
    `update history set restored = greatest(restored + 1, (extract(epoch from clock_timestamp()) - 1767225600)::int)`,
  )
}

/** Empty: no table at all, or ours without a row that anybody but a migration made. */
export async function refuseUnlessEmpty(writer: Writer): Promise<void> {
  const relations = await writer.run(
    `select relname::text as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')`,
  )
  if (relations.length === 0) return
  const names = relations.map(({ name }) => name)
  if (!names.includes('migration')) throw new Failure('target_not_empty')
  if (!names.includes('environment')) return
  const [used] = await writer.run('select exists (select from environment) or exists (select from data_key) as used')
  if (used!.used) throw new Failure('target_not_empty')
}

export function refuseUnlessSame(theirs: Table[], ours: Table[]): void {
  const shape = (tables: Table[]) =>
    JSON.stringify(tables.map(({ name, columns }) => [name, ...columns].join()).toSorted())
  if (shape(theirs) !== shape(ours)) throw new Failure('schema_differs')
}
