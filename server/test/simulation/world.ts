/**
 * Virtual time. Everything that can happen is an event in one heap, drawn from one seed, so a schedule that broke something breaks it
 * again. Real code runs between events: after each one every promise that can settle has settled.
 */

/** Mulberry32: small, fast, and the same everywhere. */
export function random(seed: number): () => number {
  let state = (seed * 2654435761) | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Something that must never happen, happened. */
export interface Breach {
  invariant: string
  note: string
  at: number
}

interface Event {
  at: number
  order: number
  run: () => void
}

const before = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

export class World {
  readonly random: () => number
  /** Milliseconds since the schedule began: everybody's monotonic clock. */
  now = 0
  events = 0
  trace: string[] | undefined
  readonly breaches: Breach[] = []
  /** What happened, by name: for the report. */
  readonly counts = new Map<string, number>()
  /** Set by whoever settles a promise of real code: only then is there anything to wait for. */
  settled = false
  readonly #heap: Event[] = []
  #order = 0

  constructor(seed: number) {
    this.random = random(seed)
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.random() < probability
  }

  between(from: number, to: number): number {
    return from + this.random() * (to - from)
  }

  pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.random() * from.length)]!
  }

  log(text: string): void {
    this.trace?.push(`${(this.now / 1000).toFixed(3)} ${text}`)
  }

  breach(invariant: string, note: string): void {
    this.log(`!!! ${invariant}: ${note}`)
    const known = this.breaches.filter(breach => breach.invariant === invariant).length
    if (known < 2) this.breaches.push({ invariant, note, at: this.now })
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1)
  }

  after(delay: number, run: () => void): void {
    const heap = this.#heap
    const event = { at: this.now + Math.max(0, delay), order: this.#order++, run }
    let i = heap.push(event) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!before(event, heap[parent]!)) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = event
  }

  #next(): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (!first || !last || heap.length === 0) return first
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, last)) break
      heap[i] = heap[child]!
      i = child
    }
    heap[i] = last
    return first
  }

  /** Runs until nothing is left to happen. Throws when that never comes. */
  async run(): Promise<void> {
    for (let event = this.#next(); event; event = this.#next()) {
      this.now = event.at
      event.run()
      // Lets every continuation run that this event has settled, however deep; they may add events.
      if (this.settled) await new Promise<void>(resolve => setImmediate(resolve))
      this.settled = false
      if (++this.events > 1_000_000) {
        this.breach('I8', 'the schedule never ends')
        return
      }
    }
  }
}
