/** The table of causes against the code that writes them: a cause without a sentence would be shown as somebody else's error. */
import assert from 'node:assert/strict'
import { glob, readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { causes, states, warnings } from '@fairlead/contract'
import { parseEgressAllow } from '../../src/net/allow.ts'
import { loadCatalogue } from '../../src/provider/catalogue.ts'

/** Literals at the places where a cause enters a row: the outcomes of an attempt, and the statements themselves. */
function written(source: string): string[] {
  const places = [
    /\b(?:withdraw|doubt|takeBack)\('(\w+)'/g,
    /\bcause = '(\w+)'/g,
    /\bcause: (?:[^,}\n]*\? )?'(\w+)'(?: : '(\w+)')?/g,
    /\|\| '(token_endpoint_unknown)'/g,
    // The codes that mean the client or the request is wrong; they are kept as the provider says them.
    /notTheToken =\s*\/\^\(([\w|]+)\)\$\//g,
  ]
  return places
    .flatMap(place => [...source.matchAll(place)])
    .flatMap(found => found.slice(1))
    .flatMap(found => found?.split('|') ?? [])
}

/** Outcomes that are answered and never stored. */
const unstored = ['shutting_down']

test('every cause the server writes is in the table, and no other', async () => {
  let source = ''
  for await (const file of glob('server/src/credential/*.ts')) source += await readFile(file, 'utf8')
  const found = new Set(written(source).filter(cause => !unstored.includes(cause)))
  // What the provider definitions call refused or later is stored under the provider's own code.
  for (const provider of loadCatalogue({ overlayPath: undefined, egressAllow: parseEgressAllow('').rules }).list())
    for (const row of provider.token_errors ?? [])
      if (row.means === 'refused' || row.means === 'later') found.add(row.error)
  assert.deepEqual(
    [...found].filter(cause => !Object.hasOwn(causes, cause)),
    [],
  )
  // Codes of OAuth and of our own Failure table come in by name, not as a literal.
  const byName = ['host_not_allowed', 'slow_down', 'provider_error', 'login_refused']
  assert.deepEqual(
    Object.keys(causes).filter(cause => !found.has(cause) && !byName.includes(cause)),
    [],
  )
  assert.ok(found.size > 15)
})

test('every sentence says something', () => {
  for (const [code, sentence] of [...Object.entries(states), ...Object.entries(causes), ...Object.entries(warnings)]) {
    assert.match(code, /^[a-z_]+$/)
    assert.match(sentence, /^[A-Z].{5,}\.$/, code)
  }
})
