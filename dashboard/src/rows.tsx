/** A long list of which only what is seen is in the page; j and k, or the arrows, move through it, enter opens. */
import { useVirtualizer } from '@tanstack/react-virtual'
import { type ReactNode, useEffect, useRef, useState } from 'react'

interface Props<T> {
  items: T[]
  kind: 'connections' | 'calls'
  height: number
  keyOf: (item: T) => string | number
  open: (item: T) => void
  label: string
  /** Told when its reader has left the top. */
  onScrolled?: (away: boolean) => void
  onEnd?: () => void
  chosen?: string | number | undefined
  children: (item: T) => ReactNode
}

export function Rows<T>({ items, kind, height, keyOf, open, label, onScrolled, onEnd, chosen, children }: Props<T>) {
  const sheet = useRef<HTMLDivElement>(null)
  const [at, setAt] = useState<number>()
  const rows = useVirtualizer({
    count: items.length,
    getScrollElement: () => sheet.current,
    estimateSize: () => height,
    overscan: 8,
  })
  const shown = rows.getVirtualItems()
  const last = shown.at(-1)?.index ?? 0
  useEffect(() => {
    if (last >= items.length - 5) onEnd?.()
  }, [last, items.length, onEnd])
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (
        /^(INPUT|TEXTAREA|SELECT|BUTTON)$/.test((event.target as HTMLElement).tagName) ||
        event.metaKey ||
        event.ctrlKey ||
        event.altKey
      )
        return
      const step = event.key === 'j' ? 1 : event.key === 'k' ? -1 : 0
      if (step !== 0) {
        const next = Math.max(0, Math.min(items.length - 1, (at ?? -1) + step))
        setAt(next)
        rows.scrollToIndex(next)
        event.preventDefault()
      } else if (
        event.key === 'Enter' &&
        at !== undefined &&
        items[at] &&
        (event.target as HTMLElement).tagName !== 'A'
      )
        open(items[at])
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  })
  return (
    <section
      ref={sheet}
      className="sheet"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by the keyboard
      tabIndex={0}
      aria-label={label}
      onScroll={event => onScrolled?.(event.currentTarget.scrollTop > 8)}
    >
      <div className="rows" style={{ height: rows.getTotalSize() }}>
        {shown.map(({ index, start }) => {
          const item = items[index]!
          return (
            // biome-ignore lint/a11y/noStaticElementInteractions: each row holds its link; that all of it takes a click is for the mouse
            // biome-ignore lint/a11y/useKeyWithClickEvents: j, k and enter move through the list, and the link takes the focus
            <div
              key={keyOf(item)}
              className={`line ${kind}`}
              data-on={index === at || keyOf(item) === chosen}
              style={{ height, transform: `translateY(${start}px)` }}
              onClick={event => {
                if (!event.defaultPrevented && !event.metaKey && !event.ctrlKey) open(item)
              }}
            >
              {children(item)}
            </div>
          )
        })}
      </div>
    </section>
  )
}
