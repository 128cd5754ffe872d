/**
 * The network between a process and the provider, as the seam `Egress`. A request is written in the same turn in which `ready` allowed it;
 * after that it may be lost, be under way for minutes, be answered by a gateway while it still is, and its answer may be lost or late.
 */
import { EgressError } from '../../src/errors.ts'
import type { Egress, EgressAnswer, EgressRequest } from '../../src/seams.ts'
import type { Process } from './machine.ts'
import { type Issued, type ModelProvider, type Presentation, stranger } from './provider.ts'
import type { World } from './world.ts'

export const urls = {
  token: 'https://provider.test/token',
  introspection: 'https://provider.test/introspect',
  revocation: 'https://provider.test/revoke',
}

/** How a presentation is judged, and what became of its answer. */
export interface Witness {
  /** About to be written: was the second presentation meant? Breaks the bound of the kill switch are noticed here. */
  presents(process: Process, refreshToken: string): { deliberate: boolean }
  /** A process has read an answer with tokens. */
  received(process: Process, issued: Issued): void
}

interface Reply {
  status: number
  body: string
  issued?: Issued
}

const seconds = 1_000
const json = (status: number, body: object): Reply => ({ status, body: JSON.stringify(body) })
const gateway = (): Reply => ({ status: 503, body: '<html>upstream unavailable</html>' })

export class Network {
  readonly #world: World
  readonly #provider: ModelProvider
  readonly #witness: Witness
  /** The worst time between a request's last byte and the provider's decision. */
  readonly #decisionMs: number
  /** How often things go wrong: 0 never, 1 as usual. */
  chaos: () => number

  constructor(
    world: World,
    provider: ModelProvider,
    options: { witness: Witness; decisionMs: number; chaos: () => number },
  ) {
    this.#world = world
    this.#provider = provider
    this.#witness = options.witness
    this.#decisionMs = options.decisionMs
    this.chaos = options.chaos
  }

  egressOf(process: Process): Pick<Egress, 'request' | 'check'> {
    return { check() {}, request: ask => this.#request(process, ask) }
  }

  async #request(process: Process, ask: EgressRequest): Promise<EgressAnswer> {
    await this.#dial(process)
    let go: boolean
    try {
      go = ask.ready ? await ask.ready() : true
    } catch (error) {
      throw new EgressError('unsent', 'withheld', error, 'withheld')
    }
    if (!go) throw new EgressError('unsent', 'withheld', undefined, 'withheld')
    // From here to the write nothing else runs.
    const answer = this.#exchange(process, ask)
    return answer
  }

  #dial(process: Process): Promise<void> {
    const world = this.#world
    const chaos = this.chaos()
    const delay = world.chance(0.03 * chaos) ? world.between(0.5, 6) * seconds : world.between(2, 40)
    const fails = world.chance(0.02 * chaos)
    return new Promise((resolve, reject) => {
      world.after(delay, () =>
        process.arrive('socket', () => (fails ? reject(new EgressError('unsent', 'connection refused')) : resolve())),
      )
    })
  }

  #exchange(process: Process, ask: EgressRequest): Promise<EgressAnswer> {
    const world = this.#world
    return new Promise((resolve, reject) => {
      let over = false
      let inKernel: Reply | undefined
      const read = (reply: Reply): void => {
        if (over) return
        over = true
        if (reply.issued) this.#witness.received(process, reply.issued)
        resolve({ status: reply.status, headers: {}, body: Buffer.from(reply.body) })
      }
      const wire = {
        /** The socket was reset before the request had arrived. */
        torn: false,
        answer: (reply: Reply): void => {
          if (over || !process.alive) return
          inKernel ??= reply
          process.arrive('socket', () => read(reply))
        },
      }
      this.#carry(process, ask, wire)
      const onDeadline = (): void => {
        if (over) return
        // The loop polls once more: what lies in the kernel is read.
        if (inKernel) return void read(inKernel)
        over = true
        wire.torn = world.chance(0.25)
        reject(new EgressError('unanswered', 'no answer in time', undefined, 'deadline'))
      }
      process.timer(ask.deadlineMs, onDeadline, () => !over)
    })
  }

  #carry(process: Process, ask: EgressRequest, wire: { torn: boolean; answer: (reply: Reply) => void }): void {
    const form = new URLSearchParams(ask.body)
    switch (ask.url.href) {
      case urls.token:
        return void this.#present(process, form.get('refresh_token') ?? '', wire)
      case urls.introspection:
        return void this.#introspect(form.get('token') ?? '', wire)
      case urls.revocation:
        return void this.#revoke(form.get('token') ?? '', wire)
      default:
        throw new Error(`nothing is served at ${ask.url.href}`)
    }
  }

  #present(process: Process, value: string, wire: { torn: boolean; answer: (reply: Reply) => void }): void {
    const { deliberate } = this.#witness.presents(process, value)
    const presentation = this.#provider.sent(value, process.name, deliberate)
    this.#world.log(`${process.name} PRESENTS ${value}${deliberate ? ' (deliberate)' : ''}`)
    this.#deliver(presentation, wire)
  }

  /** Somebody else presents a token. */
  strangerPresents(value: string): void {
    this.#deliver(this.#provider.sent(value, stranger, false), { torn: false, answer() {} })
  }

  #deliver(presentation: Presentation, wire: { torn: boolean; answer: (reply: Reply) => void }): void {
    const world = this.#world
    const chaos = this.chaos()
    const name = presentation.token?.value ?? '?'
    let answered = false
    let fate = world.random()
    if (world.chance(0.02 * chaos)) {
      // A gateway gives up on it; the request itself goes on.
      fate = 0.03 * chaos
      world.after(world.between(0.3, 5.3) * seconds, () => {
        world.log(`  a gateway answers 503 for ${name}, the request is still under way`)
        answered = true
        wire.answer(gateway())
      })
    }
    if (fate < 0.02 * chaos) {
      world.log(`  the request with ${name} is lost`)
      presentation.live = false
      return
    }
    const way =
      fate < 0.05 * chaos
        ? world.between(30 * seconds, this.#decisionMs)
        : fate < 0.08 * chaos
          ? world.between(5, 35) * seconds
          : fate < 0.16 * chaos
            ? world.between(200, 5_200)
            : world.between(5, 65)
    const back = (reply: Reply): void => {
      if (answered) {
        if (reply.issued) world.count('answers lost on the wire')
        return
      }
      const luck = world.random()
      if (luck < 0.03 * chaos) {
        world.log(`  the answer to ${name} is lost`)
        if (reply.issued) world.count('answers lost on the wire')
        return
      }
      const delay =
        luck < 0.06 * chaos
          ? world.between(5, 65) * seconds
          : luck < 0.12 * chaos
            ? world.between(200, 3_200)
            : world.between(5, 55)
      world.after(delay, () => wire.answer(reply))
    }
    world.after(way, () => {
      if (wire.torn) {
        presentation.live = false
        return
      }
      if (world.chance(0.02 * chaos)) {
        const kind = world.random()
        if (kind < 0.5) presentation.live = false
        else this.#provider.turnedAway(presentation)
        return back(kind < 0.5 ? gateway() : kind < 0.9 ? json(429, { error: 'slow_down' }) : badClient)
      }
      if (!this.#provider.begin(presentation)) {
        presentation.live = false
        return back(json(400, { error: 'token_request_in_progress' }))
      }
      world.after(world.chance(0.1) ? world.between(0, 3_000) : world.between(0, 40), () => {
        const issued = this.#provider.decide(presentation)
        const said = issued === 'invalid_grant' ? issued : `${issued.refresh.value} ${issued.access.value}`
        world.log(`  provider: ${name} of ${presentation.who} -> ${said}`)
        if (world.chance(0.015 * chaos)) return back(gateway())
        back(issued === 'invalid_grant' ? json(400, { error: issued }) : this.#tokens(issued))
      })
    })
  }

  #tokens(issued: Issued): Reply {
    const { refresh, access } = issued
    const body = {
      access_token: access.value,
      token_type: 'Bearer',
      expires_in: Math.round((access.expiresAt - this.#world.now) / seconds),
      ...(this.#provider.kind !== 'plain' && { refresh_token: refresh.value }),
    }
    return { ...json(200, body), issued }
  }

  #introspect(value: string, wire: { answer: (reply: Reply) => void }): void {
    const world = this.#world
    const chaos = this.chaos()
    const fails = world.chance(0.12 * chaos)
    world.after(world.chance(0.05 * chaos) ? world.between(2, 12) * seconds : world.between(10, 60), () => {
      if (fails) return world.chance(0.5) ? wire.answer(gateway()) : undefined
      const active = this.#provider.introspect(value)
      world.log(`  introspection: ${value} is ${active ? 'active' : 'inactive'}`)
      world.after(world.between(5, 55), () => wire.answer(json(200, { active })))
    })
  }

  #revoke(value: string, wire: { answer: (reply: Reply) => void }): void {
    const world = this.#world
    const fails = world.chance(0.1 * this.chaos())
    world.after(world.between(10, 60), () => {
      if (fails) return wire.answer(gateway())
      world.log(`  revoked: ${value}`)
      this.#provider.revoke(value)
      world.after(world.between(5, 55), () => wire.answer(json(200, {})))
    })
  }
}

const badClient = json(401, { error: 'invalid_client' })
