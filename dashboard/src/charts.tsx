/** Drawings: a sparkline, a chart of a time with a brush (uPlot), and a token's life as a picture. */
import type { ActivitySummary, TokenTimeline } from '@fairlead/contract'
import { useEffect, useRef } from 'react'
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
                if (width < 4 || !onBrush) return
                onBrush(new Date(chart.posToVal(left, 'x') * 1000), new Date(chart.posToVal(left + width, 'x') * 1000))
              },
            ],
          },
        },
        [at.map(iso => Date.parse(iso) / 1000), ...lines.map(line => line.values)],
        node,
      )
    }
    let chart = draw()
    const again = () => {
      chart.destroy()
      chart = draw()
    }
    const resized = new ResizeObserver(() => {
      if (node.clientWidth !== chart.width) again()
    })
    resized.observe(node)
    const scheme = matchMedia('(prefers-color-scheme: dark)')
    scheme.addEventListener('change', again)
    return () => {
      resized.disconnect()
      scheme.removeEventListener('change', again)
      chart.destroy()
    }
  })
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
      <p className="legend body">
        <span>
          <i className="l1" />
          p50
        </span>
        <span>
          <i className="l2" />
          p95
        </span>
        <span>
          <i className="l3" />
          p99
        </span>
      </p>
    </>
  )
}

/** Issued, renewed, now, predicted end, the next renewal nobody asked for, and the provider's idle limit: on one line of time. */
export function TokenPicture({ timeline, now = Date.now() }: { timeline: TokenTimeline; now?: number }) {
  const instants = [
    { at: timeline.obtained_at, name: timeline.renewals > 0 ? 'Renewed' : 'Issued' },
    { at: timeline.expires_at, name: 'Access token ends' },
    { at: timeline.renewed_unasked_at, name: 'Renewed if idle' },
    { at: timeline.idle_ends_at, name: 'Idle limit' },
  ].flatMap(one => (one.at ? [{ ...one, ms: Date.parse(one.at) }] : []))
  const from = Math.min(now, ...instants.map(one => one.ms))
  // Hours and weeks on one line: distances by their root, or the first two hours would be one dot.
  const scale = (ms: number) => Math.sign(ms - now) * Math.sqrt(Math.abs(ms - now))
  const low = scale(from)
  const high = Math.max(...instants.map(one => scale(one.ms)), 1)
  const x = (ms: number) => 24 + ((scale(ms) - low) / (high - low || 1)) * 852
  const ends = timeline.expires_at ? x(Date.parse(timeline.expires_at)) : x(Math.max(...instants.map(one => one.ms)))
  const anchor = (at: number) => (at < 90 ? 'start' : at > 810 ? 'end' : 'middle')
  return (
    <svg
      className="timeline"
      viewBox="0 0 900 104"
      role="img"
      aria-label={instants.map(one => `${one.name} ${ago(one.at as string)}`).join(', ')}
    >
      <line x1="24" x2="876" y1="52" y2="52" stroke="var(--line)" strokeWidth="4" strokeLinecap="round" />
      <line
        x1={x(Date.parse(timeline.obtained_at))}
        x2={Math.max(ends, x(Date.parse(timeline.obtained_at)))}
        y1="52"
        y2="52"
        stroke="var(--accent)"
        strokeWidth="4"
        strokeLinecap="round"
      />
      <line x1={x(now)} x2={x(now)} y1="38" y2="66" stroke="var(--ink)" strokeWidth="2" />
      <text x={x(now)} y="82" textAnchor={anchor(x(now))} className="dim">
        now
      </text>
      {instants.map((one, n) => {
        const at = x(one.ms)
        const above = n % 2 === 0
        return (
          <g key={one.name}>
            <title>{exact(one.at as string)}</title>
            <circle
              cx={at}
              cy="52"
              r="5"
              fill="var(--card)"
              stroke={one.name === 'Idle limit' ? 'var(--attention)' : 'var(--accent)'}
              strokeWidth="2"
            />
            <text x={at} y={above ? 18 : 84} textAnchor={anchor(at)}>
              {one.name}
            </text>
            <text x={at} y={above ? 34 : 100} textAnchor={anchor(at)} className="dim">
              {ago(one.at as string)}
            </text>
          </g>
        )
      })}
    </svg>
  )
}
