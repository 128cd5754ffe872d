/** What a migration after the first may not do, because the version before works beside it (server/src/db/migrations/README.md). */
import { isConcurrent } from '../../src/db/migrate.ts'

const isContraction = (name: string): boolean => /^\d{4}_contract_/.test(name)

/** One statement a row, without comments; what stands between $$ is a function's own and runs later. */
const statementsOf = (text: string): string[] =>
  text
    .replace(/(\$\w*\$)[\s\S]*?\1/g, "'body'")
    .replace(/--[^\n]*|\/\*[\s\S]*?\*\//g, '')
    .replace(/'(?:[^']|'')*'/g, "''")
    .split(';')
    .map(statement => statement.replace(/\s+/g, ' ').trim().toLowerCase())
    .filter(Boolean)

/** Parts of an ALTER TABLE, apart at the commas that are not within parentheses. */
function actionsOf(statement: string): string[] {
  const actions: string[] = ['']
  let depth = 0
  for (const char of statement) {
    depth += char === '(' ? 1 : char === ')' ? -1 : 0
    if (char === ',' && depth === 0) actions.push('')
    else actions[actions.length - 1] += char
  }
  return actions.map(action => action.trim())
}

/** Sentences; none for a migration that may be applied. `isOut`: whether a release is. */
export function faultsOf(name: string, text: string, isOut: (release: string) => boolean): string[] {
  const faults: string[] = []
  const contracts = isContraction(name)
  const unused = /^-- Unused since (\d+\.\d+\.\d+)\s*$/m.exec(text.split('\n')[0] ?? '')?.[1]
  if (contracts && !unused) faults.push('A contraction begins with "-- Unused since X.Y.Z".')
  if (unused && !isOut(unused)) faults.push(`${unused} is not out: the version before may still use what this drops.`)
  const statements = statementsOf(text)
  const made = new Set(
    statements.flatMap(one => /^create (?:unlogged )?table (?:if not exists )?([\w.]+)/.exec(one)?.[1] ?? []),
  )
  if (isConcurrent(text) && statements.length > 1) faults.push('An index built concurrently is a file of its own.')
  for (const statement of statements) {
    const say = (what: string) => faults.push(`${what}: ${statement.slice(0, 80)}`)
    if (/^(begin|commit|rollback|start transaction)\b/.test(statement)) say('It is in a transaction already')
    if (/^drop\b/.test(statement) && !contracts && !/^drop (trigger|function)\b/.test(statement)) say('Drops')
    if (/^truncate\b/.test(statement)) say('Empties a table')
    if (/\brename\b/.test(statement)) say('Renames')
    if (/^(update|delete from) \w+/.test(statement) && !/\bwhere\b/.test(statement)) say('Rewrites every row')
    const index = /^create (?:unique )?index (concurrently )?(?:if not exists )?\w+ on (?:only )?([\w.]+)/.exec(
      statement,
    )
    if (index && !index[1] && !made.has(index[2]!)) say('Builds an index while writers wait')
    const [, table = '', rest = ''] = /^alter table (?:if exists )?(?:only )?([\w.]+) (.*)$/.exec(statement) ?? []
    if (!table || made.has(table)) continue
    for (const action of actionsOf(rest)) {
      if (/^drop (?!default|not null)/.test(action) && !/^drop constraint/.test(action) && !contracts) say('Drops')
      if (/^drop constraint/.test(action) && !contracts) say('Drops')
      if (/^alter (column )?\w+ (set data )?type\b/.test(action)) say('Changes a type')
      if (/^alter (column )?\w+ set not null/.test(action) && !contracts)
        say('Demands a value the version before may not write')
      if (/^add (column )?(?!constraint|check|unique|primary|foreign)/.test(action)) {
        if (/\bnot null\b/.test(action) && !/\b(default|generated)\b/.test(action))
          say('Demands a value the version before does not write')
        if (/\bgenerated always as \(/.test(action)) say('Rewrites the table')
        if (/\bdefault [a-z_]+\(/.test(action) && !/\bdefault now\(\)/.test(action)) say('Rewrites the table')
        if (/\b(unique|primary key)\b/.test(action)) say('Builds an index while writers wait')
      }
      if (/^add (constraint|check|foreign)/.test(action) && !/\bnot valid$|\busing index\b/.test(action))
        say('Checks every row while writers wait')
      if (/^add (constraint \w+ )?(unique|primary key)/.test(action) && !/\busing index\b/.test(action))
        say('Builds an index while writers wait')
    }
  }
  return faults
}
