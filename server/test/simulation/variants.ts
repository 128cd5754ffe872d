/**
 * The simulation must be able to fail. A variant is the real source with one rule taken out, by an exact replacement in a copy of it; where
 * the rule lives in SQL the twin's copy of the statement is changed. Each must break what its rule protects. Run by hand,
 * `node server/test/simulation/variants.ts 1000` prints how often each does.
 */
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Circumstances, simulate } from './schedule.ts'

export interface Variant {
  name: string
  /** One of these at least must break. */
  breaks: string[]
  world: Partial<Circumstances>
  /** Where to begin: what breaks once in a thousand schedules is looked for near a seed that is known to break it. */
  from?: number
  /** File below `server/`, what stands there exactly once, what stands there instead. */
  edits: [file: string, find: string, replace: string][]
}

const refresh = 'src/credential/refresh.ts'
const catching = 'src/credential/catch-up.ts'
const timing = 'src/credential/timing.ts'
const watch = 'src/credential/watch.ts'
const twin = 'test/simulation/twin.ts'
const network = 'test/simulation/network.ts'
const machine = 'test/simulation/machine.ts'
const schedule = 'test/simulation/schedule.ts'

const penalty = { kind: 'penalty', introspects: true } as const
const rough = { ...penalty, chaos: 2 } as const

const intentForbids: Variant['edits'][number] = [
  twin,
  'if (row.intentClaim !== null && rotates && !ripened) return undefined',
  '',
]
const presentations = ['I1a', 'I1b', 'I4']

export const variants: Variant[] = [
  {
    name: 'a blind retry by the HTTP client',
    breaks: presentations,
    world: rough,
    edits: [
      [
        network,
        `    const answer = this.#exchange(process, ask)
    return answer`,
        `    return this.#exchange(process, ask).then(
      answer => answer.status >= 500 ? this.#exchange(process, ask) : answer,
      () => this.#exchange(process, ask))`,
      ],
    ],
  },
  {
    name: 'a lease of 10 s, shorter than a request, and nothing else',
    breaks: presentations,
    world: rough,
    edits: [
      [timing, 'lease: seconds(90)', 'lease: seconds(10)'],
      [
        twin,
        'if (row.leaseUntil === null || row.leaseUntil <= now + this.#timing.sendWindow + this.#timing.answer) return false',
        '',
      ],
      intentForbids,
    ],
  },
  {
    name: 'an open intent forbids nothing (Q = 0)',
    breaks: presentations,
    world: rough,
    edits: [intentForbids],
  },
  ...[45, 120].map(
    (q): Variant => ({
      name: `a quiet time of ${q} s, where a request may be under way for 240 s`,
      breaks: presentations,
      world: rough,
      edits: [[timing, 'quiet: seconds(300)', `quiet: seconds(${q})`]],
    }),
  ),
  {
    name: "the quiet time by the database's clock alone, which jumps",
    breaks: presentations,
    world: { ...rough, dbJump: true },
    edits: [[watch, 'clock.now() - quietMs', 'clock.now()']],
  },
  {
    name: 'no send window',
    breaks: [...presentations, 'I6b'],
    world: { ...rough, kill: true },
    edits: [
      [
        refresh,
        'return sent.at - asked <= timing.sendWindow && Math.abs(clock.wall() - wall) <= timing.sendWindow',
        'return true',
      ],
    ],
  },
  {
    name: 'a send window without the wall clock, on machines that sleep',
    breaks: [...presentations, 'I6b'],
    world: { ...rough, kill: true },
    edits: [[refresh, ' && Math.abs(clock.wall() - wall) <= timing.sendWindow', '']],
  },
  {
    name: 'intents and withdrawals by whoever comes',
    breaks: presentations,
    world: { ...penalty, chaos: 4 },
    from: 500,
    edits: [
      [twin, 'row.claimId !== attempt.claim || ', ''],
      [twin, 'if (row.intentClaim !== settled) return false', ''],
      [twin, 'const claimed = row.claimId === claim', 'const claimed = true'],
      [twin, 'const intended = row.intentClaim === claim', 'const intended = true'],
    ],
  },
  {
    name: 'an answer is installed whatever the row holds',
    breaks: ['I2', 'I3', 'I10'],
    world: { reconnect: true, outage: true, longDead: true, chaos: 2 },
    edits: [
      [
        twin,
        'if (row?.tokenVersion !== successor.tokenVersion || !same(row.tokenFp, successor.presented)) return false',
        'if (!row) return false',
      ],
    ],
  },
  {
    name: 'an answer is installed by fingerprint alone',
    breaks: ['I3'],
    world: { kind: 'plain', introspects: true, chaos: 2 },
    edits: [[twin, 'row?.tokenVersion !== successor.tokenVersion || !same', '!row || !same']],
  },
  {
    name: 'a claim moves the version, so a late writer loses',
    breaks: ['I2', 'I2b', 'I2c'],
    world: { ...rough, longDead: true },
    edits: [
      [
        twin,
        '{ claimId: claim, leaseUntil: now + this.#timing.lease }',
        '{ claimId: claim, leaseUntil: now + this.#timing.lease, tokenVersion: row.tokenVersion + 1 }',
      ],
    ],
  },
  {
    name: 'a 5xx counts as not processed',
    breaks: presentations,
    world: rough,
    edits: [[refresh, "doubt('refresh_unreadable')", "withdraw('refresh_unreadable')"]],
  },
  {
    name: 'silence counts as not processed',
    breaks: presentations,
    world: rough,
    edits: [[refresh, "return rotates ? doubt('refresh_unanswered') : withdraw", 'return withdraw']],
  },
  {
    name: 'doubt is not asked about',
    breaks: presentations,
    world: rough,
    edits: [
      [
        refresh,
        'switch (await introspectRefreshToken(deps, holder, credential, credential.refreshToken!)) {',
        "switch ('active' as string) {",
      ],
    ],
  },
  {
    name: 'an introspection that fails says inactive',
    breaks: ['I5', 'I12', 'I1b'],
    world: rough,
    edits: [
      [refresh, "case 'inactive':", "case 'inactive': case 'unknown':"],
      [refresh, "case 'unknown':\n        return", "case 'never':\n        return"],
    ],
  },
  {
    name: 'what was taken back takes the doubt beneath it along',
    breaks: ['I1a', 'I1b'],
    world: { kind: 'penalty', introspects: false, chaos: 2 },
    edits: [[refresh, 'beneath ? doubt : withdraw', 'withdraw']],
  },
  {
    name: 'a verdict without its lineage',
    breaks: ['I5'],
    world: { kind: 'penalty', reconnect: true, adminRevoke: true, chaos: 2 },
    edits: [
      [
        twin,
        `    const row = this.#held({ credential })
    if (!row || !same(row.tokenFp, credential.fingerprint)) return
    const expiresAt`,
        `    const row = this.#live(credential.id)
    if (!row) return
    const expiresAt`,
      ],
    ],
  },
  {
    name: 'a verdict by its owner alone, whose intent goes without it',
    breaks: presentations,
    world: {
      ...penalty,
      adminRevoke: true,
      chaos: 6,
      diskFull: false,
      failover: false,
      restore: false,
      reconnect: false,
      delete: false,
      kill: false,
    },
    from: 4_500,
    edits: [
      [twin, 'refuse({ credential }: Attempt,', 'refuse({ credential, claim }: Attempt,'],
      [
        twin,
        '    const expiresAt = accessDead',
        `    if (row.claimId !== claim) {
      if (row.intentClaim === claim) this.#set(row, 'refuse', { intentClaim: null, intentAt: null, intentNode: null })
      return
    }
    const expiresAt = accessDead`,
      ],
    ],
  },
  {
    name: 'an install or a verdict leaves other claims alive, and one of them takes the verdict back',
    breaks: presentations,
    world: { kind: 'penalty', adminRevoke: true, chaos: 4, failover: false, restore: false },
    from: 11_190,
    edits: [
      [
        twin,
        '      lastTried: false,\n      ...nobodys,\n    })\n    return true',
        '      lastTried: false,\n      intentClaim: null,\n      intentAt: null,\n      intentNode: null,\n    })\n    return true',
      ],
      [twin, 'expiresAt, ...nobodys })', 'expiresAt, intentClaim: null, intentAt: null, intentNode: null })'],
    ],
  },
  {
    name: 'no journal',
    breaks: ['I2c'],
    world: { ...rough, outage: true },
    from: 1_500,
    edits: [
      [machine, 'const full = this.#hazards.diskFull()', 'const full = true'],
      [machine, 'if (!this.alive) return this.#world.chance(0.5) ? onDisk() : undefined', ''],
    ],
  },
  {
    name: 'a save writes the whole row, as it was read',
    breaks: ['I9'],
    world: { pause: true, chaos: 2 },
    edits: [
      [twin, "    this.#set(row, 'claim',", "    this.read = { ...row }\n    this.#set(row, 'claim',"],
      [
        twin,
        '      lastTried: false,\n      ...nobodys,\n    })\n    return true',
        '      lastTried: false,\n      ...nobodys,\n      paused: this.read?.paused ?? false,\n    })\n    return true',
      ],
    ],
  },
  {
    name: 'a pause is a value of health',
    breaks: ['I9'],
    world: { pause: true },
    edits: [
      [
        twin,
        "health: 'degraded',\n      cause,\n      said,\n      leaseUntil",
        "health: 'degraded',\n      paused: false,\n      cause,\n      said,\n      leaseUntil",
      ],
      [
        twin,
        '      lastTried: false,\n      ...nobodys,\n    })\n    return true',
        '      lastTried: false,\n      paused: false,\n      ...nobodys,\n    })\n    return true',
      ],
    ],
  },
  {
    name: 'sealed again without comparing',
    breaks: ['I3', 'I10'],
    world: {},
    edits: [
      [twin, 'if (row?.tokenVersion !== read.tokenVersion || row.tokens !== read.tokens) return', 'if (!row) return'],
    ],
  },
  {
    name: 'a late answer after a delete is not revoked',
    breaks: ['I6'],
    world: { ...rough, delete: true },
    edits: [[refresh, "if (holder && (installed === 'gone' || installed === 'orphaned'))", 'if (false)']],
  },
  {
    name: 'an imported token is not suspected',
    breaks: ['I1c'],
    world: { ...penalty, imported: true },
    edits: [[schedule, 'if (is.imported) row.suspect = true', '']],
  },
  {
    name: 'two rows on one grant',
    breaks: presentations,
    world: { ...penalty, shared: true },
    edits: [[twin, 'if (known.integrationId === integrationId && same', 'if (false && same']],
  },
  {
    name: 'commits lost in a failover, no rule about the history',
    breaks: presentations,
    world: { ...rough, failover: true },
    edits: [[refresh, 'credential.epoch !== deps.epoch.current().name', 'false']],
  },
  {
    name: 'the history is learned from a notification alone',
    breaks: presentations,
    world: { ...rough, failover: true },
    edits: [[refresh, 'await deps.epoch.look()', '']],
  },
  {
    name: 'a start takes the history of the database for the one its journal knows',
    breaks: ['I2', 'I6'],
    world: { ...rough, restore: true, longDead: true },
    from: 160,
    edits: [
      [catching, 'let offeredTo: string | undefined', 'let offeredTo: string | undefined = epoch.current().name'],
    ],
  },
  {
    name: 'an answer whose row is behind counts as decided',
    breaks: ['I2', 'I6'],
    world: { ...rough, restore: true, longDead: true },
    from: 40,
    edits: [[refresh, "installed === 'ahead' ? undefined : history", 'history']],
  },
  {
    name: 'an answer of another history is installed as one of this',
    breaks: presentations,
    world: { ...rough, restore: true },
    edits: [[refresh, 'deps.store.install(successor,', 'deps.store.install({ ...successor, epoch: history },']],
  },
  {
    name: 'an answer that keeps the refresh token is installed in any history',
    breaks: ['I3'],
    world: { kind: 'plain', chaos: 2, restore: true },
    from: 2140,
    edits: [[twin, 'if (!successor.rotated && row.epoch !== (successor.presentedEpoch ?? null)) return false', '']],
  },
  {
    name: 'what a journal retains is not offered when asked for',
    breaks: ['I2'],
    world: { ...rough, restore: true },
    from: 1500,
    edits: [[catching, 'entry => entry.credentialId === credentialId', '() => false']],
  },
]

const root = new URL('../../../', import.meta.url).pathname

/** The simulation with this variant's source. */
export async function withVariant<Result>(
  { name, edits }: Variant,
  work: (run: typeof simulate) => Promise<Result>,
): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-variant-'))
  try {
    await mkdir(join(folder, 'server', 'test'), { recursive: true })
    await cp(join(root, 'package.json'), join(folder, 'package.json'))
    await cp(join(root, 'server/src'), join(folder, 'server/src'), { recursive: true })
    await cp(join(root, 'server/test/simulation'), join(folder, 'server/test/simulation'), { recursive: true })
    for (const shared of ['node_modules', 'providers', 'salesforce'])
      await symlink(join(root, shared), join(folder, shared))
    for (const [file, find, replace] of edits) {
      const path = join(folder, 'server', file)
      const text = await readFile(path, 'utf8')
      const pieces = text.split(find)
      if (pieces.length !== 2)
        throw new Error(`${name}: found ${pieces.length - 1} times in ${file}, wanted once:\n${find}`)
      await writeFile(path, pieces.join(replace))
    }
    const copy = (await import(pathToFileURL(join(folder, 'server', schedule)).href)) as { simulate: typeof simulate }
    return await work(copy.simulate)
  } finally {
    await rm(folder, { recursive: true })
  }
}

export interface Broken {
  schedules: number
  /** Schedules in which anything broke. */
  broken: number
  /** By invariant: in how many schedules, and the first seed. */
  invariants: Map<string, { schedules: number; seed: number }>
}

/** Until `enough` says so, or that many schedules. */
export const breakIt = (variant: Variant, schedules: number, enough: (so: Broken) => boolean = () => false) =>
  withVariant(variant, async run => {
    const so: Broken = { schedules: 0, broken: 0, invariants: new Map() }
    const { from = 1 } = variant
    for (let seed = from; seed < from + schedules && !enough(so); seed++) {
      const { breaches } = await run(seed, { circumstances: variant.world })
      so.schedules++
      if (breaches.length > 0) so.broken++
      for (const invariant of new Set(breaches.map(breach => breach.invariant))) {
        const known = so.invariants.get(invariant) ?? { schedules: 0, seed }
        known.schedules++
        so.invariants.set(invariant, known)
      }
    }
    return so
  })

if (import.meta.main) {
  const schedules = Number(process.argv[2] ?? 500)
  for (const variant of variants.filter(each => each.name.includes(process.argv[3] ?? ''))) {
    const { broken, invariants } = await breakIt(variant, schedules)
    const which = [...invariants].sort().map(([name, { schedules: many, seed }]) => `${name} in ${many} (seed ${seed})`)
    const expected = variant.breaks.some(each => invariants.has(each))
    console.log(`${expected ? ' ' : '!'} ${variant.name}: ${broken} of ${schedules}: ${which.join(', ')}`)
  }
}
