/** Drawings: a sparkline, a chart of a time with a brush (uPlot), and a token's life as a picture. */
import type { ActivitySummary, Overview, TokenTimeline } from '@fairlead/contract'
import { type CSSProperties, useEffect, useRef } from 'react'
import uPlot from 'uplot'
import { ago, exact } from './format.ts'

export function Sparkline({ values, bad = [], label }: { values: number[]; bad?: number[]; label: string }) {
  const top = Math.max(1, ...values)
  const points = (of: number[]) =>
    of.map((value, n) => `${(n / Math.max(1, of.length - 1)) * 100},${30 - (value / top) * 28}`).join(' ')
  return (
    <svg className="spark" viewBox="0 0 100 32" preserveAspectRatio="none" role="img" aria-label={label}>
      <polygon className="area" points={`0,32 ${points(values)} 100,32`} />
      <polyline className="line" points={points(values)} />
      {bad.some(Boolean) && <polyline className="bad" points={points(bad)} />}
    </svg>
  )
}

const cssColour = (name: string): string => {
  // light-dark() is resolved by asking for it as a colour.
  const probe = document.createElement('i')
  probe.style.color = `var(${name})`
  document.body.append(probe)
  const colour = getComputedStyle(probe).color
  probe.remove()
  return colour
}

export interface Line {
  label: string
  values: (number | null)[]
  colour: string
  dash?: number[]
  bars?: boolean
}

/** `onBrush` makes it a picker of a time. */
export function TimeChart({
  at,
  lines,
  unit,
  height = 160,
  onBrush,
  label,
}: {
  at: string[]
  lines: Line[]
  unit: string
  height?: number
  onBrush?: (from: Date, to: Date) => void
  label: string
}) {
  const place = useRef<HTMLDivElement>(null)
  const seen = useRef(false)
  const brush = useRef(onBrush)
  brush.current = onBrush
  const shown = JSON.stringify([at, lines])
  // Drawn when what it shows is another, not whenever something beside it is.
  // biome-ignore lint/correctness/useExhaustiveDependencies: `shown` is what `at` and `lines` say
  useEffect(() => {
    const node = place.current
    if (!node) return
    const draw = () => {
      node.replaceChildren()
      const soft = cssColour('--soft')
      const grid = { stroke: cssColour('--line'), width: 1 }
      const axis = { stroke: soft, grid, ticks: { show: false }, font: '11px system-ui' }
      return new uPlot(
        {
          width: node.clientWidth,
          height,
          legend: { show: false },
          cursor: { drag: { x: !!onBrush, y: false, setScale: false }, y: false },
          scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(max || 0, 1) * 1.08] } },
          axes: [
            axis,
            {
              ...axis,
              size: 56,
              values: (_, ticks) => ticks.map(tick => `${tick >= 10_000 ? `${tick / 1000}k` : tick}${unit}`),
            },
          ],
          series: [
            {},
            ...lines.map(line => ({
              label: line.label,
              stroke: cssColour(line.colour),
              width: 1.5,
              ...(line.dash && { dash: line.dash }),
              points: { show: false },
              ...(line.bars && { fill: cssColour(line.colour), paths: uPlot.paths.bars!({ size: [0.7, 40] }) }),
            })),
          ],
          hooks: {
            setSelect: [
              chart => {
                const { left, width } = chart.select
                if (width < 4) return
                brush.current?.(
                  new Date(chart.posToVal(left, 'x') * 1000),
                  new Date(chart.posToVal(left + width, 'x') * 1000),
                )
              },
            ],
          },
        },
        [at.map(iso => Date.parse(iso) / 1000), ...lines.map(line => line.values)],
        node,
      )
    }
    let chart: uPlot | undefined
    const again = () => {
      chart?.destroy()
      chart = draw()
    }
    // When it is about to be seen, so that a page with charts at its end is there without them; and from then on at once.
    const comes = new IntersectionObserver(
      ([entry]) => {
        if (!entry?.isIntersecting) return
        seen.current = true
        if (!chart) again()
      },
      { rootMargin: '200px' },
    )
    if (seen.current) again()
    else comes.observe(node)
    const resized = new ResizeObserver(() => {
      if (chart && node.clientWidth !== chart.width) again()
    })
    resized.observe(node)
    const scheme = matchMedia('(prefers-color-scheme: dark)')
    const repaint = () => chart && again()
    scheme.addEventListener('change', repaint)
    return () => {
      comes.disconnect()
      resized.disconnect()
      scheme.removeEventListener('change', repaint)
      chart?.destroy()
    }
  }, [shown, unit, height])
  return <div className="chart" ref={place} role="img" aria-label={label} />
}

export function CallsChart({
  summary,
  onBrush,
}: {
  summary: ActivitySummary
  onBrush?: (from: Date, to: Date) => void
}) {
  return (
    <TimeChart
      label={`${summary.calls} calls, ${summary.errors} errors`}
      at={summary.buckets.map(one => one.at)}
      unit=""
      {...(onBrush && { onBrush })}
      lines={[
        { label: 'Calls', values: summary.buckets.map(one => one.calls), colour: '--accent', bars: true },
        { label: 'Errors', values: summary.buckets.map(one => one.errors), colour: '--attention', bars: true },
      ]}
    />
  )
}

export function RenewalsChart({ renewals }: { renewals: Overview['renewals'] }) {
  const sum = (of: 'renewed' | 'refused' | 'unavailable') => renewals.reduce((total, one) => total + one[of], 0)
  return (
    <>
      <TimeChart
        label={`${sum('renewed')} renewed, ${sum('unavailable')} without an answer that decides, ${sum('refused')} refused`}
        at={renewals.map(one => one.at)}
        unit=""
        lines={[
          { label: 'Renewed', values: renewals.map(one => one.renewed), colour: '--accent' },
          { label: 'In doubt', values: renewals.map(one => one.unavailable), colour: '--degraded', dash: [6, 4] },
          { label: 'Refused', values: renewals.map(one => one.refused), colour: '--attention', dash: [2, 3] },
        ]}
      />
      <Legend names={['Renewed', 'In doubt, tried again', 'Refused']} />
    </>
  )
}

export function LatencyChart({ summary }: { summary: ActivitySummary }) {
  return (
    <>
      <TimeChart
        label="Latency of calls in milliseconds"
        at={summary.buckets.map(one => one.at)}
        unit=" ms"
        lines={[
          { label: 'p50', values: summary.buckets.map(one => one.p50_ms), colour: '--accent' },
          { label: 'p95', values: summary.buckets.map(one => one.p95_ms), colour: '--degraded', dash: [6, 4] },
          { label: 'p99', values: summary.buckets.map(one => one.p99_ms), colour: '--attention', dash: [2, 3] },
        ]}
      />
      <Legend names={['p50', 'p95', 'p99']} />
    </>
  )
}

/** The three lines in their order: whole, dashed, dotted. */
function Legend({ names }: { names: [string, string, string] }) {
  return (
    <p className="legend body">
      {names.map((name, n) => (
        <span key={name}>
          <i className={`l${n + 1}`} />
          {name}
        </span>
      ))}
    </p>
  )
}

/** How much of a limit is used, and where what is kept for calls that cannot wait begins. */
export function Meter({ used, limit, reservePercent }: { used: number; limit: number; reservePercent: number }) {
  const share = Math.min(100, (100 * used) / (limit || 1))
  const reserve = 100 - reservePercent
  return (
    <svg
      className="meter"
      viewBox="0 0 100 12"
      preserveAspectRatio="none"
      role="img"
      aria-label={`${used} of ${limit} used; from ${reserve} % on, background calls are refused`}
    >
      <rect y="2" width="100" height="8" fill="var(--sunken)" />
      <rect y="2" width={share} height="8" fill={share >= reserve ? 'var(--attention)' : 'var(--accent)'} />
      <line x1={reserve} x2={reserve} y1="0" y2="12" stroke="var(--ink)" vectorEffect="non-scaling-stroke" />
    </svg>
  )
}

/**
 * Issued, renewed, now, predicted end, the next renewal nobody asked for, and the provider's idle limit: on one line of time, and down the
 * page where there is no room for a line.
 */
export function TokenPicture({ timeline, now = Date.now() }: { timeline: TokenTimeline; now?: number }) {
  const instants = [
    { at: timeline.obtained_at, name: timeline.renewals > 0 ? 'Renewed' : 'Issued', kind: 'obtained' },
    { at: new Date(now).toISOString(), name: 'Now', kind: 'now' },
    { at: timeline.expires_at, name: 'Access token ends', kind: 'ends' },
    { at: timeline.renewed_unasked_at, name: 'Renewed if idle', kind: 'unasked' },
    { at: timeline.idle_ends_at, name: 'Idle limit', kind: 'limit' },
  ]
    .flatMap(one => (one.at ? [{ ...one, at: one.at, ms: Date.parse(one.at) }] : []))
    .sort((a, b) => a.ms - b.ms)
  // Hours and weeks on one line: distances by their root, or the first two hours would be one dot.
  const scaled = instants.map(({ ms }) => Math.sign(ms - now) * Math.sqrt(Math.abs(ms - now)))
  const [low = 0, high = 1] = [scaled[0], scaled.at(-1)]
  const at = apart(scaled.map(place => ((place - low) / (high - low || 1)) * 100))
  const placeOf = (kind: string) => at[instants.findIndex(one => one.kind === kind)]
  const [from = 0, to = 100] = [placeOf('obtained'), placeOf('ends')]
  return (
    <div className="timeline">
      <div className="alive" style={{ left: `${from}%`, width: `${Math.max(0, to - from)}%` }} />
      <ol>
        {instants.map(({ name, kind, at: instant }, n) => (
          <li
            key={kind}
            className={kind}
            data-side={n % 2 === 0 ? 'above' : 'below'}
            data-edge={at[n]! < 8 ? 'start' : at[n]! > 92 ? 'end' : undefined}
            style={{ '--at': `${at[n]}%` } as CSSProperties}
          >
            <div title={exact(instant)}>
              {name}
              {kind !== 'now' && <small>{ago(instant)}</small>}
            </div>
          </li>
        ))}
      </ol>
    </div>
  )
}

/** Percent from left to right, moved so that no two names stand in one another. */
function apart(places: number[]): number[] {
  const least = 9
  const moved: number[] = []
  for (const place of places) moved.push(Math.max(place, (moved.at(-1) ?? -least) + least))
  for (let n = moved.length - 1, most = 100; n >= 0; n--, most -= least) moved[n] = Math.min(moved[n]!, most)
  return moved
}
