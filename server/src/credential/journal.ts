/**
 * The journal: token answers on this machine's disk before the database hears of them. A refresh token that was used up has exactly one
 * successor; between the provider's answer and the database's commit it exists here alone, sealed and fsynced.
 *
 * One file per process, `journal/<uuid>.log`, append only, a line per record:
 *   e <entry> <environment> <credential> <version> <base64 sealed>     an answer, obtained by presenting token <version>
 *   d <entry> <epoch ms> <history>                                     decided: installed, superseded or gone
 * A torn last line is a record that was never acknowledged. Installing is fenced by lineage, so replaying an entry twice, or one that
 * another process decided, changes nothing: every process reads every file in the folder, none needs to know whose it was.
 * Decided entries stay for seven days, because a failover may lose the commit that they became: they are offered again, from disk, when
 * the database has another history than the one they were decided in. An entry that its row is behind of was decided in none, `-`.
 */
import { type FileHandle, mkdir, open, readdir, readFile, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { newId } from '../lib/id.ts'
import type { Log } from '../lib/log.ts'
import { Secret } from '../lib/secret.ts'
import { days } from '../lib/time.ts'
import type { ConnectionConfig } from '../provider/endpoint.ts'
import type { Vault } from '../seams.ts'
import type { Successor } from './store.ts'

export interface Entry extends Successor {
  id: string
}

export interface Journal {
  /** On disk when it resolves. Rejects when the disk refuses (full, gone). */
  append(successor: Successor): Promise<Entry>
  /**
   * The database has spoken: it was installed, superseded, or its row is gone. `history`: as it was named before it was asked; undefined
   * when the row is still behind this entry.
   */
  decide(entry: Entry, history: string | undefined): Promise<void>
  /** What is not decided yet. */
  pending(): Entry[]
  /** What was first decided within the last days that are kept and is wanted, by the history it was decided in last. Read from disk. */
  retained(wanted: (decided: { credentialId: string; history: string }) => boolean): Promise<Entry[]>
  close(): Promise<void>
}

/** A file is closed at this size, so that old answers can go without rewriting new ones. */
const fileBytes = 16 * 1024 * 1024
/** About 400,000 answers; beyond it the oldest decided files go early. */
const folderBytes = 1024 * 1024 * 1024

const place = (environmentId: number, credentialId: string) => ({
  table: 'journal',
  column: 'entry',
  environment: environmentId,
  row: credentialId,
})

interface Sealed {
  presented: string
  presented_epoch?: string
  epoch: string
  access_token: string
  refresh_token?: string
  token_type: string
  life_ms?: number
  scopes?: string[]
  given?: Readonly<Record<string, string>>
  raw: Record<string, unknown>
  rotated: boolean
  integration: number
  grant_number: number
  config: ConnectionConfig
  facts: ConnectionConfig
}

async function seal(vault: Vault, successor: Successor): Promise<string> {
  const { tokens, environmentId, credentialId } = successor
  const sealed: Sealed = {
    presented: successor.presented.toString('base64'),
    ...(successor.presentedEpoch !== undefined && { presented_epoch: successor.presentedEpoch }),
    epoch: successor.epoch,
    rotated: successor.rotated,
    integration: successor.integrationId,
    grant_number: successor.grantNumber,
    config: successor.config,
    facts: successor.facts,
    access_token: tokens.accessToken.reveal(),
    ...(tokens.refreshToken && { refresh_token: tokens.refreshToken.reveal() }),
    token_type: tokens.tokenType,
    ...(tokens.lifeMs !== undefined && { life_ms: tokens.lifeMs }),
    ...(tokens.scopes && { scopes: tokens.scopes }),
    ...(tokens.given && { given: tokens.given }),
    raw: tokens.raw,
  }
  const bytes = await vault.withKeys(() => vault.seal(JSON.stringify(sealed), place(environmentId, credentialId)))
  return bytes.toString('base64')
}

/** Written by `seal` alone and authenticated, so its shape is known. */
async function unseal(vault: Vault, line: EntryLine): Promise<Entry> {
  const { id, environmentId, credentialId, tokenVersion } = line
  const bytes = Buffer.from(line.sealed, 'base64')
  const text = await vault.withKeys(() => vault.open(bytes, place(environmentId, credentialId)))
  const sealed = JSON.parse(text) as Sealed
  return {
    id,
    credentialId,
    environmentId,
    tokenVersion,
    presented: Buffer.from(sealed.presented, 'base64'),
    presentedEpoch: sealed.presented_epoch,
    epoch: sealed.epoch,
    rotated: sealed.rotated,
    integrationId: sealed.integration,
    grantNumber: sealed.grant_number,
    config: sealed.config,
    tokens: {
      accessToken: new Secret(sealed.access_token),
      refreshToken: sealed.refresh_token === undefined ? undefined : new Secret(sealed.refresh_token),
      tokenType: sealed.token_type,
      lifeMs: sealed.life_ms,
      scopes: sealed.scopes,
      ...(sealed.given && { given: sealed.given }),
      raw: sealed.raw,
    },
    facts: sealed.facts,
  }
}

interface EntryLine {
  id: string
  environmentId: number
  credentialId: string
  tokenVersion: number
  sealed: string
}

interface Decision {
  at: number
  history: string
}

const entryLine = /^e (\S+) (\d+) (\S+) (\d+) ([A-Za-z0-9+/=]+)$/
const decidedLine = /^d (\S+) (\d+) (\S+)$/

/** Whole lines only: what follows the last newline was never acknowledged. */
function readLines(text: string): { entries: EntryLine[]; decisions: [id: string, Decision][] } {
  const entries: EntryLine[] = []
  const decisions: [string, Decision][] = []
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    const [, id, environment, credentialId, version, sealed] = entryLine.exec(line) ?? []
    if (id && credentialId && sealed)
      entries.push({ id, environmentId: Number(environment), credentialId, tokenVersion: Number(version), sealed })
    const [, entry, at, history] = decidedLine.exec(line) ?? []
    if (entry && history) decisions.push([entry, { at: Number(at), history }])
  }
  return { entries, decisions }
}

/** `keepDays`: how long what was decided is kept, for a failover that loses what it became. */
export async function openJournal(dataDir: string, vault: Vault, log: Log, keepDays = 7): Promise<Journal> {
  const retentionMs = days(keepDays)
  const folder = join(dataDir, 'journal')
  await mkdir(folder, { recursive: true, mode: 0o700 })

  const readFolder = async () => {
    const names = (await readdir(folder)).filter(name => name.endsWith('.log'))
    const files = await Promise.all(
      names.map(async name => ({
        name,
        ...readLines(await readFile(join(folder, name), 'utf8')),
        stat: await stat(join(folder, name)),
      })),
    )
    const decided = new Map<string, Decision>()
    // Wherever they stand: the first says since when, the last where. By a clock that jumped it is offered once more, which changes nothing.
    for (const [id, { at, history }] of files.flatMap(file => file.decisions).sort(([, a], [, b]) => a.at - b.at))
      decided.set(id, { at: decided.get(id)?.at ?? at, history })
    return { files, decided }
  }

  /** A line that does not open (a damaged disk, a key that was taken away) must not keep the server from starting. */
  async function opened(lines: EntryLine[]): Promise<Entry[]> {
    const entries: Entry[] = []
    for (const line of lines)
      try {
        entries.push(await unseal(vault, line))
      } catch (error) {
        log.error(
          { entry: line.id, credential: line.credentialId, reason: String(error) },
          'a journal entry cannot be opened',
        )
      }
    return entries
  }

  const { files, decided } = await readFolder()
  const left = files.flatMap(file => file.entries).filter(line => !decided.has(line.id))
  const undecided = new Map((await opened(left)).map(entry => [entry.id, entry]))
  await sweep(folder, files, decided, retentionMs)

  let file: FileHandle | undefined
  let written = 0
  let queue: { text: string; done: () => void; failed: (error: unknown) => void }[] = []
  let flushing: Promise<void> | undefined

  /** Everything that arrived while the last fsync ran shares the next one. */
  async function flush(): Promise<void> {
    while (queue.length > 0) {
      const batch = queue
      queue = []
      try {
        const text = batch.map(record => record.text).join('')
        file ??= await create(folder)
        await file.appendFile(text)
        await file.datasync()
        written += text.length
        for (const record of batch) record.done()
        if (written > fileBytes) {
          await file.close()
          file = undefined
          written = 0
        }
      } catch (error) {
        // Half a line may stand there now; nothing is ever appended behind it.
        await file?.close().catch(() => {})
        file = undefined
        written = 0
        for (const record of batch) record.failed(error)
      }
    }
    flushing = undefined
  }

  const write = (text: string): Promise<void> =>
    new Promise((done, failed) => {
      queue.push({ text, done, failed })
      flushing ??= flush()
    })

  return {
    async append(successor) {
      const entry = { id: newId(), ...successor }
      const { id, environmentId, credentialId, tokenVersion } = entry
      const sealed = await seal(vault, successor)
      await write(`e ${id} ${environmentId} ${credentialId} ${tokenVersion} ${sealed}\n`)
      undecided.set(id, entry)
      return entry
    },
    async decide(entry, history) {
      undecided.delete(entry.id)
      await write(`d ${entry.id} ${Date.now()} ${history ?? '-'}\n`)
    },
    pending: () => [...undecided.values()],
    async retained(wanted) {
      const { files, decided } = await readFolder()
      const since = Date.now() - retentionMs
      const kept = files
        .flatMap(file => file.entries)
        .filter(({ id, credentialId }) => {
          const decision = decided.get(id)
          return decision && decision.at > since && wanted({ credentialId, history: decision.history })
        })
      return opened(kept)
    },
    async close() {
      await flushing
      await file?.close()
    },
  }
}

async function create(folder: string): Promise<FileHandle> {
  const file = await open(join(folder, `${newId()}.log`), 'ax', 0o600)
  const parent = await open(folder, 'r')
  await parent.sync().finally(() => parent.close())
  return file
}

interface ReadFile {
  name: string
  entries: EntryLine[]
  stat: { mtimeMs: number; size: number }
}

/** Files whose every entry is decided go after so long, or earlier, oldest first, when the folder grows too large. */
async function sweep(
  folder: string,
  files: ReadFile[],
  decided: Map<string, Decision>,
  retentionMs: number,
): Promise<void> {
  let total = files.reduce((sum, file) => sum + file.stat.size, 0)
  for (const file of files.sort((a, b) => a.stat.mtimeMs - b.stat.mtimeMs)) {
    const old = file.stat.mtimeMs < Date.now() - retentionMs
    if (!file.entries.every(line => decided.has(line.id)) || (!old && total <= folderBytes)) continue
    await unlink(join(folder, file.name))
    total -= file.stat.size
  }
}
