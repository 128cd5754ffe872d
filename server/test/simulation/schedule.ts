/**
 * One schedule: what happens, when, and to whom, all drawn from one seed. Half an hour in which machines die, stop and forget, messages are
 * lost and late, and people do what people do; then calm, in which everybody comes back and whatever can heal must heal.
 */
import type { Entry } from '../../src/credential/journal.ts'
import type { TokenSet } from '../../src/credential/kinds/oauth2-code.ts'
import type { Holder } from '../../src/credential/refresh-deps.ts'
import { defaultTiming, type Timing } from '../../src/credential/timing.ts'
import { Failure } from '../../src/errors.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Provider } from '../../src/provider/schema.ts'
import { Machine, Process } from './machine.ts'
import { Network, urls } from './network.ts'
import { type Node, startNode } from './node.ts'
import { type AccessToken, type Issued, type Kind, kinds, ModelProvider, type RefreshToken } from './provider.ts'
import { type Carry, printOf, type Row, Twin, twinStore } from './twin.ts'
import { type Breach, World } from './world.ts'

const seconds = 1_000
const minutes = 60 * seconds
const horizon = 30 * minutes
const integrationId = 1

export interface Circumstances {
  kind: Kind
  introspects: boolean
  machines: number
  /** How often things go wrong. */
  chaos: number
  /** Machines that die stay dead for twenty minutes. */
  longDead: boolean
  /** Stored twice; the second must join the first. */
  shared: boolean
  /** Imported, and still refreshed by whoever had it before. */
  imported: boolean
  /** Another server takes over and the commits of the last seconds are lost. */
  failover: boolean
  /** A backup is restored, and those of minutes are. */
  restore: boolean
  outage: boolean
  dbJump: boolean
  clockJump: boolean
  diskFull: boolean
  reconnect: boolean
  delete: boolean
  kill: boolean
  pause: boolean
  adminRevoke: boolean
}

export interface Report {
  seed: number
  kind: Kind
  breaches: Breach[]
  events: number
  tokenRequests: number
  introspections: number
  /** What happened, by name. */
  counts: Map<string, number>
  trace: string[] | undefined
}

export interface Options {
  circumstances?: Partial<Circumstances>
  timing?: Timing
  trace?: boolean
}

export async function simulate(seed: number, options: Options = {}): Promise<Report> {
  const schedule = new Schedule(seed, options)
  return schedule.run()
}

interface Received extends Issued {
  process: Process
  at: number
  journalled: boolean
  /** For how long a process held it before it died. */
  heldMs: number | undefined
}

class Schedule {
  readonly #seed: number
  readonly #world: World
  readonly #timing: Timing
  readonly #is: Circumstances
  readonly #provider: ModelProvider
  readonly #network: Network
  readonly #twin: Twin
  readonly #holder: Holder
  readonly #machines: Machine[] = []
  readonly #nodes = new Map<Process, Node>()
  readonly #received: Received[] = []
  /** Second presentations that the protocol allows, as the process that is about to make one has written down. */
  readonly #meant = new Map<Process, boolean>()
  /** Grants that were killed, and when. */
  readonly #killed = new Map<number, number>()
  #faults: number
  #calm = false
  #databaseDown = false
  #databaseSkewMs = 0
  #history = 1
  readonly #commits: { at: number; rows: Row[] }[] = []
  #failoverArmed = false
  /** Access tokens whose commits were lost. */
  readonly #lost = new Set<AccessToken>()
  #pausedByUser = false

  constructor(seed: number, options: Options) {
    this.#seed = seed
    const world = new World(seed)
    this.#world = world
    if (options.trace) world.trace = []
    this.#timing = options.timing ?? defaultTiming
    const drawn: Circumstances = {
      kind: world.pick(kinds),
      introspects: world.chance(0.75),
      machines: 2 + Math.floor(world.random() * 3),
      chaos: world.pick([0.3, 1, 1, 2]),
      longDead: world.chance(0.25),
      shared: world.chance(0.1),
      imported: false,
      failover: world.chance(0.04),
      outage: world.chance(0.2),
      dbJump: world.chance(0.1),
      clockJump: world.chance(0.3),
      diskFull: world.chance(0.03),
      reconnect: world.chance(0.25),
      delete: world.chance(0.08),
      kill: world.chance(0.08),
      pause: world.chance(0.15),
      adminRevoke: world.chance(0.04),
      restore: world.chance(0.02),
    }
    this.#is = { ...drawn, ...options.circumstances }
    this.#faults = Math.floor(1 + world.random() * 4 * this.#is.chaos)
    const { kind, introspects } = this.#is
    const graceMs = world.pick([10, 30, 60]) * seconds
    const accessLifeMs = Math.round(world.between(4, 16) * 60) * seconds
    this.#provider = new ModelProvider(world, { kind, introspects, graceMs, accessLifeMs })
    this.#network = new Network(world, this.#provider, {
      decisionMs: 240 * seconds,
      chaos: () => (this.#calm ? 0 : this.#is.chaos),
      witness: {
        presents: (process, refreshToken) => this.#presents(process, refreshToken),
        received: (process, issued) =>
          void this.#received.push({ ...issued, process, at: world.now, journalled: false, heldMs: undefined }),
      },
    })
    this.#twin = new Twin({
      now: () => this.#databaseNow(),
      timing: this.#timing,
      changed: (after, before, statement) => this.#judgeRow(after, before, statement),
      notify: payload => this.#notify(payload),
    })
    const known = world.chance(0.5)
    this.#holder = {
      client: { id: 'fairlead', secret: new Secret('client secret') },
      provider: {
        name: 'model',
        display_name: 'Model',
        auth_mode: 'OAUTH2',
        token_url: urls.token,
        revocation_url: urls.revocation,
        allowed_hosts: ['provider.test'],
        ...(introspects && { introspection_url: urls.introspection }),
        ...(kind === 'grace' && { grace_seconds: graceMs / seconds }),
        ...(known && { rotates: kind !== 'plain' }),
      } as Provider,
    }
    for (let i = 0; i < this.#is.machines; i++) this.#machines.push(new Machine(String.fromCharCode(65 + i)))
  }

  async run(): Promise<Report> {
    const world = this.#world
    world.log(JSON.stringify(this.#is))
    this.#plan()
    await world.run()
    this.#judgeEnd()
    return {
      seed: this.#seed,
      kind: this.#is.kind,
      breaches: world.breaches,
      events: world.events,
      tokenRequests: this.#provider.tokenRequests,
      introspections: this.#provider.introspections,
      counts: world.counts,
      trace: world.trace,
    }
  }

  // The database.

  #databaseNow(): number {
    return this.#world.now + this.#databaseSkewMs
  }

  #carrierOf(process: Process): Carry {
    const world = this.#world
    const failure = () => new Failure('database_unavailable')
    return (name, statement) =>
      new Promise((resolve, reject) => {
        const chaos = this.#calm ? 0 : this.#is.chaos
        let over = false
        const settle = (run: () => void): void => {
          if (over) return
          process.arrive('socket', () => {
            if (over) return
            over = true
            run()
          })
        }
        const giveUp = () => {
          over = true
          reject(failure())
        }
        process.timer(5 * seconds, giveUp, () => !over)
        const slow = world.random()
        const delay =
          slow < 0.01 * chaos
            ? world.between(5, 125) * seconds
            : slow < 0.03 * chaos
              ? world.between(200, 4_200)
              : world.between(1, 9)
        const acknowledged = !world.chance(0.015 * chaos)
        if (world.chance(0.01 * chaos)) return
        const history = this.#history
        world.after(delay, () => {
          // A failover breaks every connection.
          if (this.#databaseDown || history !== this.#history) return settle(() => reject(failure()))
          const answer = statement()
          if (world.trace && name !== 'openIntents' && name !== 'load')
            world.log(`  db: ${process.name} ${name} -> ${said(answer)}${acknowledged ? '' : ' (unacknowledged)'}`)
          if (acknowledged) world.after(world.between(1, 5), () => settle(() => resolve(answer)))
        })
      })
  }

  #notify(payload: string): void {
    const lost = () => !this.#calm && this.#world.chance(0.02 * this.#is.chaos)
    for (const node of this.#nodes.values())
      if (!lost())
        this.#world.after(this.#world.between(1, 20), () => node.process.arrive('socket', () => node.hears(payload)))
  }

  /** A person's statement: made again until the database has taken it. */
  #byPeople(statement: () => void): void {
    this.#world.after(this.#world.between(1, 9), () => {
      if (this.#databaseDown) this.#world.after(500, () => this.#byPeople(statement))
      else statement()
    })
  }

  #gap(): void {
    for (const node of this.#nodes.values())
      this.#world.after(this.#world.between(10, 2_000), () => node.process.arrive('socket', () => node.gap()))
  }

  /**
   * Another server takes over; what it had not received yet is lost. Or a backup is restored, and minutes are. What people had decided in
   * that time is undone by that and not by the refresh: a pause is back, or gone, until somebody says so again; what was deleted is back
   * (and counted); a token may be older than one that was read before.
   */
  #failover(): void {
    if (this.#calm) return
    const world = this.#world
    const since = world.now - world.between(0, this.#is.restore ? 10 * minutes : 3 * seconds)
    const kept = this.#commits.findLastIndex(commit => commit.at <= since)
    const { rows } = this.#commits[Math.max(0, kept)]!
    if (kept < this.#commits.length - 1) world.count('failovers that lost commits')
    world.log(`FAILOVER to what was at ${(since / 1000).toFixed(1)}, ${this.#commits.length - 1 - kept} commits lost`)
    const undone = this.#commits.splice(Math.max(1, kept + 1))
    for (const row of undone.flatMap(commit => commit.rows)) this.#lost.add(this.#accessOf(row))
    this.#twin.rows.clear()
    for (const row of rows) {
      this.#twin.rows.set(row.id, { ...row })
      this.#lost.delete(this.#accessOf(row))
      if (this.#killed.delete(this.#heldBy(row)!.grant.id)) world.count('deletes undone with the database')
      for (const { served } of this.#nodes.values())
        served.set(row.id, Math.min(served.get(row.id) ?? 0, this.#accessOf(row).order))
    }
    this.#pausedByUser = rows.some(row => row.paused)
    this.#history++
    this.#gap()
  }

  // Machines.

  #strike(process: Process): void {
    if (this.#calm || this.#faults <= 0) return
    const world = this.#world
    const now = this.#databaseNow()
    const underWay = [...this.#twin.rows.values()].some(row => row.intentClaim !== null || (row.leaseUntil ?? 0) > now)
    const probability = 0.012 * this.#is.chaos * (underWay ? 3 : 0.5)
    const luck = world.random()
    if (luck > 2 * probability) return
    this.#faults--
    if (luck < probability) return void this.#kill(process)
    const { lease, quiet } = this.#timing
    const forMs = world.pick([
      60 * seconds,
      lease + world.between(0, 60) * seconds,
      quiet + world.between(0, 5) * minutes,
    ])
    process.stop(forMs, world.chance(0.3))
  }

  #kill(process: Process): void {
    for (const received of this.#received)
      if (received.process === process && received.heldMs === undefined)
        received.heldMs = process.runningSince > received.at ? 0 : this.#world.now - received.at
    process.kill()
    this.#nodes.delete(process)
    const { machine } = process
    const after = this.#is.longDead ? 20 * minutes : this.#world.between(1, 91) * seconds
    this.#world.after(after, () => this.#boot(machine))
  }

  #boot(machine: Machine): void {
    if (machine.process) return
    const world = this.#world
    const process = new Process(world, machine, {
      strike: struck => this.#strike(struck),
      diskFull: () => !this.#calm && this.#is.diskFull && world.chance(0.3),
      journalled: entry => this.#journalled(entry),
    })
    machine.process = process
    world.log(`${process.name} starts, ${process.journal.pending().length} answers in its journal`)
    const carry = this.#carrierOf(process)
    const store = this.#noted(process, twinStore(this.#twin, process.clock, this.#timing, carry))
    const start = (): Promise<void> =>
      startNode(process, {
        store,
        egress: this.#network.egressOf(process),
        holder: this.#holder,
        timing: this.#timing,
        readEpoch: () => carry('epoch', () => String(this.#history)),
        sweepIn: () => this.#sweepIn(),
        log: text => world.log(text),
      }).then(
        node => void this.#nodes.set(process, node),
        // Its supervisor starts it again.
        () => process.clock.sleep(seconds).then(start),
      )
    world.settled = true
    void start()
  }

  #sweepIn(): number | undefined {
    if (this.#world.now > horizon + 6 * this.#round) return undefined
    // In the calm a sweep that has nothing to look at is only slow.
    const open = [...this.#twin.rows.values()].some(row => row.intentClaim !== null)
    return this.#calm && !open ? 4 * this.#timing.sweep : this.#timing.sweep
  }

  #journalled(entry: Entry): void {
    const received = this.#received.find(each => each.access.value === entry.tokens.accessToken.reveal())
    if (received) received.journalled = true
  }

  /** The store, with a note of which second presentations are meant. */
  #noted(process: Process, store: ReturnType<typeof twinStore>): ReturnType<typeof twinStore> {
    return {
      ...store,
      intend: (attempt, options) => {
        this.#meant.set(process, options.lastTry || options.settled === attempt.claim)
        if (options.lastTry) this.#world.count('last tries')
        else if (options.settled === attempt.claim) this.#world.count('grace retries')
        return store.intend(attempt, options)
      },
    }
  }

  #presents(process: Process, refreshToken: string): { deliberate: boolean } {
    const grant = this.#provider.refreshTokens.get(refreshToken)?.grant
    const killedAt = grant && this.#killed.get(grant.id)
    if (killedAt !== undefined && this.#world.now > killedAt + 5 * seconds)
      this.#world.breach('I6b', `${process.name} presented ${refreshToken} more than 5 s after the kill`)
    return { deliberate: this.#meant.get(process) ?? false }
  }

  // What happens.

  #tokens({ refresh, access }: Issued): TokenSet {
    return {
      accessToken: new Secret(access.value),
      refreshToken: new Secret(refresh.value),
      tokenType: 'Bearer',
      lifeMs: access.expiresAt - this.#world.now,
      scopes: undefined,
      raw: {},
    }
  }

  #plan(): void {
    const world = this.#world
    const is = this.#is
    const provider = this.#provider
    const first = provider.authorize()
    const stored = (id: string) =>
      this.#twin.add({ id, integrationId, tokens: this.#tokens(first), epoch: String(this.#history) })
    const id = stored('one')
    if (is.shared) stored('two')
    const row = this.#twin.rows.get(id)!
    if (is.imported) row.suspect = true
    this.#remember()
    for (const machine of this.#machines) world.after(world.between(0, 200), () => this.#boot(machine))

    const firstDue = provider.accessLifeMs * 0.7
    const sometime = () => (world.chance(0.7) ? firstDue + world.between(0, 8) * minutes : world.between(0, horizon))
    const callers = 10 + Math.floor(world.random() * 14)
    for (let i = 0; i < callers; i++) {
      const burst = world.chance(0.5)
      const due = firstDue + provider.accessLifeMs * 0.9 * Math.floor(world.random() * 3)
      const at = burst ? due + world.between(0, 30) * seconds : world.between(0, horizon)
      const many = burst ? 1 + Math.floor(world.random() * 3) : 1
      for (let n = 0; n < many; n++) world.after(at, () => this.#callSomewhere())
    }

    for (let i = 0; i < 2; i++) world.after(sometime(), () => this.#reseal(id))
    if (is.reconnect) world.after(sometime(), () => this.#reconnect(id))
    if (is.delete) world.after(sometime(), () => this.#byPeople(() => this.#remove(id, 'delete')))
    if (is.kill) world.after(sometime(), () => this.#byPeople(() => this.#remove(id, 'kill')))
    if (is.pause) {
      const at = sometime()
      world.after(at, () => this.#byPeople(() => this.#pause(id, true)))
      world.after(at + world.between(1, 11) * minutes, () => this.#byPeople(() => this.#pause(id, false)))
    }
    if (is.outage)
      world.after(sometime(), () => {
        world.log('DATABASE DOWN')
        this.#databaseDown = true
        world.after(world.between(0, 3) * minutes, () => this.#databaseUp())
      })
    if (is.adminRevoke)
      world.after(sometime(), () => {
        const held = this.#heldBy(this.#twin.rows.get(id))
        if (held && !held.grant.dead) held.grant.dead = 'admin'
        world.log('REVOKED BY AN ADMINISTRATOR')
      })
    if (is.clockJump)
      for (let i = 0; i < 2; i++)
        world.after(sometime(), () => {
          const machine = world.pick(this.#machines)
          machine.wallSkewMs = world.pick([-1, 1]) * (world.chance(0.5) ? 60 * minutes : world.between(0, 2) * minutes)
          world.log(`the wall clock of ${machine.name} jumps to ${machine.wallSkewMs / 1000} s`)
        })
    if (is.dbJump)
      world.after(sometime(), () => {
        this.#databaseSkewMs += world.pick([-1, 1]) * 60 * minutes
        world.log(`THE DATABASE'S CLOCK jumps to ${this.#databaseSkewMs / 1000} s`)
      })
    if (is.imported)
      world.after(world.between(0, 2) * firstDue, () => {
        world.log('a stranger refreshes')
        this.#network.strangerPresents(first.refresh.value)
      })
    // Right behind a commit, or at any time: a commit that is a moment old is the one to lose.
    if (this.#losesCommits)
      world.after(sometime(), () => {
        if (world.chance(0.8)) this.#failoverArmed = true
        else this.#failover()
      })
    world.after(horizon, () => this.#settleDown())
  }

  #databaseUp(): void {
    if (!this.#databaseDown) return
    this.#world.log('DATABASE UP')
    this.#databaseDown = false
    this.#gap()
  }

  get #round(): number {
    const { quiet, lease } = this.#timing
    return quiet + lease + 240 * seconds
  }

  #settleDown(): void {
    const world = this.#world
    world.log('CALM')
    this.#calm = true
    this.#failoverArmed = false
    this.#databaseUp()
    // Every process is started again some day, and looks into its journal.
    this.#gap()
    for (const machine of this.#machines) {
      machine.wallSkewMs = 0
      machine.process?.resume()
      this.#boot(machine)
    }
    for (const row of this.#twin.rows.values()) if (row.paused) this.#pause(row.id, false)
    for (let k = 1; k <= 6; k++)
      world.after(k * this.#round, () => {
        for (const node of this.#nodes.values()) for (const id of this.#twin.rows.keys()) this.#call(node, id, 'fresh')
      })
  }

  #callSomewhere(): void {
    const world = this.#world
    const { process } = world.pick(this.#machines)
    const node = process && this.#nodes.get(process)
    const id = world.pick([...this.#twin.rows.keys(), 'one'])
    const how = world.chance(0.1) ? 'forced' : 'fresh'
    if (node && !node.process.stopped) this.#call(node, id, how)
  }

  /** What the proxy does with a connection: a token that works, and when the provider refuses it, a newer one. */
  #call(node: Node, id: string, how: 'fresh' | 'forced'): void {
    const world = this.#world
    world.settled = true
    const servedBefore = node.served.get(id) ?? 0
    const accessOf = (secret: Secret): AccessToken => this.#provider.accessTokens.get(secret.reveal())!
    const work = async (): Promise<void> => {
      const credential = await node.live(id)
      if (!credential) return world.count('calls: no such connection')
      const got = await node.credentials[how](this.#holder, credential)
      let access = accessOf(got.accessToken)
      if (!this.#provider.accessLive(access)) {
        const newer = await node.credentials.renewed(this.#holder, got)
        if (!newer) return world.count('calls: refused by the provider')
        access = accessOf(newer.accessToken)
      }
      if (access.order < servedBefore && !this.#lost.has(access))
        world.breach('I3', `${node.process.name} handed out an older token than before`)
      if (!this.#lost.has(access)) node.served.set(id, Math.max(access.order, node.served.get(id) ?? 0))
      world.count(this.#provider.accessLive(access) ? 'calls: served' : 'calls: refused by the provider')
    }
    work().catch((error: unknown) => {
      if (!(error instanceof Failure)) return world.breach('I0', `a call failed with ${String(error)}`)
      world.count(`calls: ${error.code}`)
    })
  }

  #reconnect(id: string): void {
    const world = this.#world
    this.#byPeople(() => {
      if (!this.#twin.rows.has(id)) return
      const issued = this.#provider.authorize()
      const old = this.#twin.reconnect(id, this.#tokens(issued), String(this.#history))
      world.log(`RECONNECTED with ${issued.refresh.value}`)
      if (old) this.#revokeFromOutbox(old.reveal())
    })
  }

  #reseal(id: string): void {
    const row = this.#twin.rows.get(id)
    if (!row || this.#databaseDown) return
    const read = { ...row }
    this.#world.after(this.#world.between(5, 405), () => {
      if (!this.#databaseDown) this.#twin.reseal(id, read)
    })
  }

  #pause(id: string, paused: boolean): void {
    const row = this.#twin.rows.get(id)
    if (!row || row.goneAt !== null || paused === this.#pausedByUser) return
    this.#world.log(paused ? 'PAUSED' : 'RESUMED')
    if (!paused && !row.paused) this.#world.breach('I9', "a user's pause was overwritten")
    this.#pausedByUser = paused
    this.#twin.pause(id, paused)
  }

  #remove(id: string, how: 'delete' | 'kill'): void {
    const row = this.#twin.rows.get(id)
    if (!row || row.goneAt !== null) return
    this.#world.log(how === 'kill' ? 'KILL SWITCH' : 'DELETED')
    const refresh = this.#heldBy(row)!
    this.#killed.set(refresh.grant.id, this.#world.now)
    this.#twin[how](id)
    this.#revokeFromOutbox(refresh.value)
  }

  #revokeFromOutbox(value: string): void {
    const look = (): void => {
      if (this.#provider.refreshTokens.get(value)?.revoked) return
      if (this.#world.chance(this.#calm ? 1 : 0.9)) this.#provider.revoke(value)
      else this.#world.after(minutes, look)
    }
    this.#world.after(this.#world.between(20, 2_000), look)
  }

  // Judges.

  get #losesCommits(): boolean {
    return this.#is.failover || this.#is.restore
  }

  #heldBy(row: Row | undefined): RefreshToken | undefined {
    const value = row?.tokens.refreshToken?.reveal()
    return value === undefined ? undefined : this.#provider.refreshTokens.get(value)
  }

  #accessOf(row: Row): AccessToken {
    return this.#provider.accessTokens.get(row.tokens.accessToken.reveal())!
  }

  #remember(): void {
    if (!this.#losesCommits) return
    this.#commits.push({ at: this.#world.now, rows: [...this.#twin.rows.values()].map(row => ({ ...row })) })
    if (this.#commits.length > 200) this.#commits.splice(1, 1)
  }

  #judgeRow(after: Row, before: Row | undefined, statement: string): void {
    if (!before) return
    const world = this.#world
    if (this.#failoverArmed) {
      this.#failoverArmed = false
      world.after(world.between(0, 2_000), () => this.#failover())
    }
    const old = this.#heldBy(before)!
    const now = this.#heldBy(after)!
    const provider = this.#provider
    if (old.grant === now.grant && this.#accessOf(after).order < this.#accessOf(before).order)
      world.breach('I3', `${statement} put an older token into the row`)
    if (now.grant.id < old.grant.id) world.breach('I10', `${statement} put an old grant over the new one`)
    if (old !== now && provider.refreshLive(old) && !provider.refreshLive(now) && !now.grant.dead)
      world.breach('I10', `${statement} put a dead token over a live one`)
    if (after.paused !== before.paused && statement !== 'pause') world.breach('I9', `${statement} moved the pause`)
    const installs = statement === 'install' || statement === 'reconnect' || statement === 'join'
    if (after.tokenVersion !== before.tokenVersion + (installs ? 1 : 0))
      world.breach('I4', `${statement} moved the version from ${before.tokenVersion} to ${after.tokenVersion}`)
    if (after.health === 'needs_reauth' && before.health !== 'needs_reauth' && provider.refreshLive(now)) {
      if (after.cause === 'answer_lost' && !this.#is.introspects)
        world.count('needless sign-ins (nobody could be asked)')
      else world.breach('I5', `${statement}: needs_reauth (${after.cause}) on a good token`)
    }
    this.#remember()
  }

  #judgeEnd(): void {
    const world = this.#world
    const provider = this.#provider
    const is = this.#is
    for (const row of this.#twin.rows.values()) {
      const held = this.#heldBy(row)
      if (!held || row.goneAt !== null) continue
      if (held.grant.dead) {
        world.count(`end: grant ended (${held.grant.dead})`)
        if (
          held.grant.dead === 'reuse' &&
          this.#received.some(
            each => each.refresh.grant === held.grant && each.journalled && !each.refresh.used && !each.refresh.revoked,
          )
        )
          world.count('end: a journalled answer ended with its family')
      } else if (!provider.refreshLive(held)) {
        this.#judgeLost(held)
        if (row.health === 'active' && !is.shared) world.breach('I11', 'the row says active and its token is used up')
      } else if (row.health === 'active' && this.#accessOf(row).expiresAt + 2 * this.#round > world.now)
        world.count('end: alive')
      else {
        world.count(`end: good token, ${row.health}`)
        if (is.introspects) world.breach('I12', `stuck: a good token is not used, ${row.health} ${row.cause}`)
      }
    }
    for (const grantId of this.#killed.keys())
      for (const received of this.#received)
        if (received.refresh.grant.id === grantId && provider.refreshLive(received.refresh))
          if (!received.journalled && this.#lost.has(received.access))
            world.count('end: deleted, and an answer without a journal, lost with the database, is alive')
          else if (received.journalled || received.process.alive)
            world.breach('I6', `deleted, and ${received.refresh.value} that we were given is still alive`)
    if (provider.tokenRequests > 80 || provider.introspections > 160)
      world.breach('I8', `${provider.tokenRequests} token requests, ${provider.introspections} introspections`)
  }

  /**
   * Can the row be led from the token it holds to this one by answers on disks? Each link is an answer to the one before. The chain has a
   * gap where an answer was installed without a journal (its disk was full) and that commit was lost: nobody ever learns of it again.
   */
  #chained(from: RefreshToken, to: string): boolean {
    const answers = this.#machines.flatMap(machine => machine.disk).map(({ entry }) => entry)
    const reached = new Set([from.value])
    for (const value of reached)
      for (const { presented, tokens } of answers)
        if (tokens.refreshToken && presented.equals(printOf(new Secret(value))!))
          reached.add(tokens.refreshToken.reveal())
    return reached.has(to)
  }

  /** The row's token is used up and its grant is alive: where is the successor? */
  #judgeLost(token: RefreshToken): void {
    const world = this.#world
    const { grant } = token
    const held = this.#received.filter(
      received => received.refresh.grant === grant && this.#provider.refreshLive(received.refresh),
    )
    const journalled = held.filter(received => received.journalled).map(received => received.refresh.value)
    if (journalled.some(value => this.#chained(token, value))) world.breach('I2', 'a journalled answer was lost')
    else if (journalled.length > 0) world.count('end: a journalled answer whose predecessor was lost with the database')
    else if (this.#is.diskFull) world.count('end: answer lost')
    else if (held.some(received => received.process.alive)) world.breach('I2b', 'a living process dropped an answer')
    else if (held.some(received => (received.heldMs ?? 0) > 100))
      world.breach('I2c', 'an answer that was held for more than 100 ms was lost')
    else world.count('end: answer lost')
  }
}

function said(answer: unknown): string {
  if (typeof answer !== 'object' || answer === null) return String(answer)
  const row = answer as Partial<Row>
  return row.tokens ? `v${row.tokenVersion} ${row.health} ${row.intentClaim ? 'INTENT' : ''}` : JSON.stringify(answer)
}
