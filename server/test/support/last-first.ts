type Closer = () => unknown

/**
 * `t` whose clean-up runs from last to first, as things must be taken down: node:test runs hooks in the order they were added, which
 * would take a server's database away before the server has stopped.
 */
export function lastFirst(t: { after(work: () => Promise<void>): void }): { after(work: Closer): void } {
  const works: Closer[] = []
  t.after(async () => {
    for (const work of works) await work()
  })
  return { after: work => void works.unshift(work) }
}
