/** The wire's two spellings of an instant: `Z` in most places, `+00:00` where the contract has it. */
export const isoZulu = (at: Date): string => at.toISOString()
export const isoOffset = (at: Date): string => at.toISOString().replace('Z', '+00:00')

export const seconds = (n: number): number => n * 1_000
export const minutes = (n: number): number => n * 60_000
export const days = (n: number): number => n * 86_400_000

/** `Retry-After` in milliseconds (RFC 9110 §10.2.3: seconds, or a date); 0 when it says nothing usable. `wallNow`: by the wall clock. */
export function retryAfterMs(said: string | undefined, wallNow: number): number {
  if (said === undefined) return 0
  const waitMs = /^\d+$/.test(said) ? seconds(Number(said)) : Date.parse(said) - wallNow
  return waitMs > 0 ? waitMs : 0
}

/** The machine's own time, as the seam `Clock`. */
export const systemClock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  sleep: (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms)),
}
