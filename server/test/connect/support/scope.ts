/**
 * What a test file opened is closed in reverse, so that a server goes before its database. Hooks run in the order they were
 * made: import this file first, before the database's own hook.
 */
import { after } from 'node:test'

const closers: (() => unknown)[] = []

export const scope = { after: (work: () => unknown): void => void closers.unshift(work) }

after(async () => {
  for (const close of closers) await close()
})
