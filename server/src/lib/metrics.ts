/**
 * Numbers for a scraper, in Prometheus' text format (exposition format 0.0.4). Counting is adding to a number in a Map; the text is made when
 * somebody asks. Written here because prom-client costs every start 80 ms and 17 MB, and every call its hashing of labels.
 */

/** Values in the order of the metric's label names. Few and bounded: no connection, no path, nothing a caller can make up. */
type Labels = readonly string[]

export interface Metrics {
  counter(name: string, help: string, labels?: Labels): (values: Labels, by?: number) => void
  /** `buckets` are upper bounds, rising, in the unit the name ends in. */
  histogram(
    name: string,
    help: string,
    labels: Labels,
    buckets: readonly number[],
  ): (values: Labels, observed: number) => void
  /** Read at every scrape. One that throws is left out of that scrape, so that the others are still seen. */
  gauge(name: string, help: string, labels: Labels, read: () => Reading[] | Promise<Reading[]>): void
  /** A counter that is counted elsewhere, where a call may cost nothing. */
  tally(name: string, help: string, labels: Labels, read: () => Reading[]): void
  text(): Promise<string>
}

export type Reading = readonly [values: Labels, value: number]

interface Distribution {
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
      const values = new Map<string, number>()
      family(name, 'counter', help, () =>
        [...values].map(([key, value]) => line(name, labels, key.split(between), value)),
      )
      return (given, by = 1) => {
        const key = keyOf(given)
        values.set(key, (values.get(key) ?? 0) + by)
      }
    },

    histogram(name, help, labels, buckets) {
      const values = new Map<string, Distribution>()
      family(name, 'histogram', help, () =>
        [...values].flatMap(([key, { counts, sum, count }]) => {
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
      return (given, observed) => {
        const key = keyOf(given)
        const known = values.get(key)
        const into = known ?? { counts: buckets.map(() => 0), sum: 0, count: 0 }
        if (!known) values.set(key, into)
        let bucket = 0
        while (bucket < buckets.length && observed > buckets[bucket]!) bucket++
        if (bucket < buckets.length) into.counts[bucket]!++
        into.sum += observed
        into.count++
      }
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

const line = (name: string, labels: Labels, values: Labels, value: number): string => {
  const pairs = labels.map((label, i) => `${label}="${escaped(values[i] ?? '')}"`)
  return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`
}

const escaped = (value: string): string => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
