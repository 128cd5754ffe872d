/** The wire's two spellings of an instant: `Z` in most places, `+00:00` where the contract has it. */
export const isoZulu = (at: Date): string => at.toISOString()
export const isoOffset = (at: Date): string => at.toISOString().replace('Z', '+00:00')

export const seconds = (n: number): number => n * 1_000
export const minutes = (n: number): number => n * 60_000
export const days = (n: number): number => n * 86_400_000

/** `Retry-After` in milliseconds (RFC 9110 §10.2.3: seconds, or a date); undefined when it says nothing usable. `wallNow`: by the wall clock. */
export function retryAfterMs(said: string | undefined, wallNow: number): number | undefined {
  if (said === undefined) return undefined
  const wait = said.trim() === '' ? Number.NaN : Number(said)
  return Number.isNaN(wait) ? untilMs(said, wallNow) : Math.max(0, seconds(wait))
}

/** Milliseconds until an instant given as epoch seconds, epoch milliseconds or a date; undefined when it is none of them. */
export function untilMs(instant: string, wallNow: number): number | undefined {
  const number = Number(instant)
  const at = Number.isNaN(number) ? Date.parse(instant) : number < 1e11 ? seconds(number) : number
  return Number.isNaN(at) ? undefined : Math.max(0, at - wallNow)
}

/** The machine's own time, as the seam `Clock`. */
export const systemClock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  sleep: (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms)),
}
