/**
 * Numbers for a scraper, in Prometheus' text format (exposition format 0.0.4). Counting is adding to a number in a Map; the text is made when
 * somebody asks. Written here because prom-client costs every start 80 ms and 17 MB, and every call its hashing of labels.
 */

/** Values in the order of the metric's label names. Few and bounded: no connection, no path, nothing a caller can make up. */
type Labels = readonly string[]

/** The number of one set of values, to be added to. Whoever counts there at every call keeps it: finding it costs more than counting. */
export interface Count {
  n: number
}

export interface Metrics {
  counter(name: string, help: string, labels?: Labels): (values: Labels) => Count
  /** `buckets` are upper bounds, rising, in the unit the name ends in. */
  histogram(name: string, help: string, labels: Labels, buckets: readonly number[]): (values: Labels) => Distribution
  /** Read at every scrape. One that throws is left out of that scrape, so that the others are still seen. */
  gauge(name: string, help: string, labels: Labels, read: () => Reading[] | Promise<Reading[]>): void
  /** A counter that is counted elsewhere, where a call may cost nothing. */
  tally(name: string, help: string, labels: Labels, read: () => Reading[]): void
  text(): Promise<string>
}

export type Reading = readonly [values: Labels, value: number]

export interface Distribution {
  buckets: readonly number[]
  counts: number[]
  sum: number
  count: number
}

/** A label value cannot hold it, so that values joined by it stay apart. */
const between = '\u0000'

/** Most have one label: nothing is joined for them. */
const keyOf = (values: Labels): string => (values.length === 1 ? values[0]! : values.join(between))

export function createMetrics(): Metrics {
  const families: (() => Promise<string[]>)[] = []
  const family = (name: string, type: string, help: string, lines: () => string[] | Promise<string[]>) =>
    families.push(async () => [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...(await lines())])

  return {
    counter(name, help, labels = []) {
      const counts = new Map<string, Count>()
      // One that was found and not added to has not been counted yet.
      family(name, 'counter', help, () =>
        [...counts].flatMap(([key, { n }]) => (n > 0 ? [line(name, labels, key.split(between), n)] : [])),
      )
      return values => kept(counts, keyOf(values), () => ({ n: 0 }))
    },

    histogram(name, help, labels, buckets) {
      const distributions = new Map<string, Distribution>()
      family(name, 'histogram', help, () =>
        [...distributions].flatMap(([key, { counts, sum, count }]) => {
          if (count === 0) return []
          const given = key.split(between)
          let below = 0
          return [
            ...buckets.map((bound, i) => {
              below += counts[i]!
              return line(`${name}_bucket`, [...labels, 'le'], [...given, String(bound)], below)
            }),
            line(`${name}_bucket`, [...labels, 'le'], [...given, '+Inf'], count),
            line(`${name}_sum`, labels, given, sum),
            line(`${name}_count`, labels, given, count),
          ]
        }),
      )
      return values =>
        kept(distributions, keyOf(values), () => ({ buckets, counts: buckets.map(() => 0), sum: 0, count: 0 }))
    },

    gauge(name, help, labels, read) {
      family(name, 'gauge', help, async () =>
        (await read()).map(([values, value]) => line(name, labels, values, value)),
      )
    },

    tally(name, help, labels, read) {
      family(name, 'counter', help, () => read().map(([values, value]) => line(name, labels, values, value)))
    },

    async text() {
      const read = await Promise.allSettled(families.map(lines => lines()))
      return `${read.flatMap(one => (one.status === 'fulfilled' ? one.value : [])).join('\n')}\n`
    },
  }
}

/** Counts `seen` into the first bucket that holds it. */
export function count(into: Distribution, seen: number): void {
  const { buckets } = into
  let bucket = 0
  while (bucket < buckets.length && seen > buckets[bucket]!) bucket++
  if (bucket < buckets.length) into.counts[bucket]!++
  into.sum += seen
  into.count++
}

function kept<Value>(values: Map<string, Value>, key: string, make: () => Value): Value {
  const known = values.get(key)
  if (known) return known
  const made = make()
  values.set(key, made)
  return made
}

const line = (name: string, labels: Labels, values: Labels, value: number): string => {
  const pairs = labels.map((label, i) => `${label}="${escaped(values[i] ?? '')}"`)
  return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`
}

const escaped = (value: string): string => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
