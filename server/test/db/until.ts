/** Waits for a condition instead of sleeping for luck. */
import { setTimeout as sleep } from 'node:timers/promises'

export async function until(condition: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const giveUp = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > giveUp) throw new Error(`Not within ${withinMs} ms: ${condition}`)
    await sleep(10)
  }
}
