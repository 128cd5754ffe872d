/**
 * A machine: a disk that survives, a wall clock that may jump, and at most times one process. Whatever reaches a process from outside (a
 * timer, an answer) comes through `arrive`, where it may be killed or stopped first; a promise of a process that was killed never settles,
 * so its code ends there, between two steps, as after kill -9.
 */
import type { Entry, Journal } from '../../src/credential/journal.ts'
import type { Clock } from '../../src/seams.ts'
import type { World } from './world.ts'

/** Some day in 2026, for wall clocks. */
const epochMs = 1_770_000_000_000

export interface Written {
  entry: Entry
  /** In which history of the database; `-` when its row was behind. */
  decidedIn: string | undefined
}

export interface Hazards {
  /** Before each step of a process. */
  strike(process: Process): void
  diskFull(): boolean
  /** An answer is safe from here on. */
  journalled(entry: Entry): void
}

export class Machine {
  readonly name: string
  readonly disk: Written[] = []
  wallSkewMs = 0
  process: Process | undefined
  boots = 0

  constructor(name: string) {
    this.name = name
  }
}

type Arrival = { kind: 'timer' | 'socket'; run: () => void }

export class Process {
  readonly name: string
  readonly machine: Machine
  readonly clock: Clock
  readonly journal: Journal
  alive = true
  /** For how long it has run since it was last stopped: what it held longer than a moment it must not lose. */
  runningSince: number
  readonly #world: World
  readonly #hazards: Hazards
  #stopped = false
  /** A machine that sleeps stops its monotonic clock, too. */
  #frozenSince: number | undefined
  #frozenMs = 0
  #atThaw: (() => void)[] = []
  #waiting: Arrival[] = []

  constructor(world: World, machine: Machine, hazards: Hazards) {
    this.#world = world
    this.#hazards = hazards
    this.machine = machine
    this.name = `${machine.name}.${++machine.boots}`
    this.runningSince = world.now
    this.clock = {
      now: () => this.#monotonic(),
      wall: () => epochMs + world.now + machine.wallSkewMs,
      sleep: ms => new Promise<void>(resolve => this.timer(ms, resolve)),
    }
    this.journal = this.#journal()
  }

  get stopped(): boolean {
    return this.#stopped
  }

  #monotonic(): number {
    const frozen = this.#frozenSince === undefined ? 0 : this.#world.now - this.#frozenSince
    return this.#world.now - this.#frozenMs - frozen
  }

  kill(): void {
    this.#world.log(`${this.name} KILLED`)
    this.alive = false
    this.#waiting = []
    this.machine.process = undefined
  }

  /** SIGSTOP, or with `frozen` the sleep of the whole machine. What arrives meanwhile waits; the timers run before the sockets are read. */
  stop(forMs: number, frozen: boolean): void {
    const world = this.#world
    world.log(`${this.name} ${frozen ? 'FROZEN' : 'STOPPED'} for ${(forMs / 1000).toFixed(0)} s`)
    this.#stopped = true
    if (frozen) this.#frozenSince = world.now
    world.after(forMs, () => {
      if (this.alive) this.resume()
    })
  }

  resume(): void {
    if (!this.#stopped) return
    const world = this.#world
    world.log(`${this.name} goes on`)
    this.#stopped = false
    this.runningSince = world.now
    if (this.#frozenSince !== undefined) this.#frozenMs += world.now - this.#frozenSince
    this.#frozenSince = undefined
    for (const look of this.#atThaw.splice(0)) world.after(0, look)
    const waiting = this.#waiting
    this.#waiting = []
    const inOrder = [
      ...waiting.filter(each => each.kind === 'timer'),
      ...waiting.filter(each => each.kind === 'socket'),
    ]
    for (const { kind, run } of inOrder) world.after(0, () => this.arrive(kind, run))
  }

  arrive(kind: Arrival['kind'], run: () => void): void {
    if (!this.alive) return
    if (!this.#stopped) this.#hazards.strike(this)
    if (!this.alive) return
    if (this.#stopped) {
      this.#waiting.push({ kind, run })
      return
    }
    this.#world.settled = true
    run()
  }

  /** On this process's monotonic clock; dropped without a trace when it is not wanted any more. */
  timer(ms: number, run: () => void, wanted: () => boolean = () => true): void {
    const due = this.#monotonic() + ms
    const look = (): void => {
      if (!this.alive || !wanted()) return
      if (this.#frozenSince !== undefined) return void this.#atThaw.push(look)
      const left = due - this.#monotonic()
      if (left > 1e-6) this.#world.after(left, look)
      else this.arrive('timer', run)
    }
    this.#world.after(ms, look)
  }

  /** The journal of this machine, as a process finds it when it starts. */
  #journal(): Journal {
    const { disk } = this.machine
    const undecided = new Map(
      disk.filter(each => each.decidedIn === undefined).map(each => [each.entry.id, each.entry]),
    )
    return {
      append: successor =>
        new Promise<Entry>((resolve, reject) => {
          const entry: Entry = { ...successor, id: crypto.randomUUID() }
          const onDisk = () => {
            disk.push({ entry, decidedIn: undefined })
            this.#hazards.journalled(entry)
          }
          this.#world.after(this.#world.between(0.5, 8.5), () => {
            // Written when the process died: as good as acknowledged. It may as well have died before.
            if (!this.alive) return this.#world.chance(0.5) ? onDisk() : undefined
            const full = this.#hazards.diskFull()
            if (!full) onDisk()
            this.arrive('socket', () => {
              if (full) return reject(new Error('ENOSPC'))
              undecided.set(entry.id, entry)
              resolve(entry)
            })
          })
        }),
      decide: (entry, history) =>
        new Promise<void>(resolve => {
          undecided.delete(entry.id)
          this.#world.after(this.#world.between(0.5, 8.5), () => {
            const written = disk.find(each => each.entry.id === entry.id)
            if (this.alive && written) written.decidedIn = history ?? '-'
            this.arrive('socket', resolve)
          })
        }),
      pending: () => [...undecided.values()],
      retained: wanted =>
        Promise.resolve(
          disk
            .filter(
              ({ entry: { credentialId }, decidedIn: history }) =>
                history !== undefined && wanted({ credentialId, history }),
            )
            .map(each => each.entry),
        ),
      close: () => Promise.resolve(),
    }
  }
}
