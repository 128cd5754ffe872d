/**
 * A bounded map of recently used values. Bounded by count (the longest unused goes first) and by age;
 * `maxAgeMs` is the backstop for an invalidation that never arrived, so it bounds how long another process's change can be missed.
 */
export interface Cache<Value> {
  get(key: string): Value | undefined
  set(key: string, value: Value): void
  delete(key: string): void
  deleteWhere(matches: (value: Value) => boolean): void
  clear(): void
}

export function createCache<Value>({ max, maxAgeMs }: { max: number; maxAgeMs: number }): Cache<Value> {
  const entries = new Map<string, { value: Value; until: number }>()
  return {
    get(key) {
      const entry = entries.get(key)
      if (!entry) return undefined
      entries.delete(key)
      if (entry.until < performance.now()) return undefined
      entries.set(key, entry)
      return entry.value
    },
    set(key, value) {
      entries.delete(key)
      entries.set(key, { value, until: performance.now() + maxAgeMs })
      if (entries.size > max) entries.delete(entries.keys().next().value!)
    },
    delete: key => void entries.delete(key),
    deleteWhere(matches) {
      for (const [key, entry] of entries) if (matches(entry.value)) entries.delete(key)
    },
    clear: () => entries.clear(),
  }
}
