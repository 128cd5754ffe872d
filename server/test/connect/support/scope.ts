/** The test file as a `t`. Hooks run in the order they were made: import this file first, before the database's own hook. */
import { after } from 'node:test'
import { lastFirst } from '../../support/last-first.ts'

export const scope = lastFirst({ after })
