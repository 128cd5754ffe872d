import type { Clock } from '../seams.ts'

/**
 * Intents this process has watched. Another process's unanswered presentation may be settled only after the quiet time, and that is
 * measured by the watcher's own monotonic clock: the database's may jump, and with it a second presentation would meet the first.
 */
export interface IntentWatch {
  /** What is open now, as the sweep found it; what is gone is forgotten. */
  saw(intents: Iterable<string>): void
  /** An intent of this process, at the moment its request may be written. */
  own(intent: string): void
  /** Watched for the whole quiet time. */
  ripe(): string[]
}

export function watchIntents(clock: Clock, quietMs: number): IntentWatch {
  let since = new Map<string, number>()
  return {
    saw(intents) {
      const now = clock.now()
      since = new Map([...intents].map(intent => [intent, since.get(intent) ?? now]))
    },
    own: intent => void since.set(intent, clock.now()),
    ripe() {
      const ripeSince = clock.now() - quietMs
      return [...since].filter(([, at]) => at <= ripeSince).map(([intent]) => intent)
    },
  }
}
