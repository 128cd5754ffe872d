import assert from 'node:assert/strict'
import { glob, readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { errors } from '@fairlead/contract'

test('every code of the table can happen, and every sentence says something', async () => {
  let source = ''
  for await (const file of glob('server/src/**/*.ts')) source += await readFile(file, 'utf8')
  const unused = Object.keys(errors).filter(code => !source.includes(`'${code}'`))
  assert.deepEqual(unused, [], 'codes nothing in server/src ends with')
  for (const [code, [status, message]] of Object.entries(errors)) {
    assert.ok(status >= 400 && status < 600, code)
    assert.match(message, /^[A-Z].{15,}[.?]/, code)
    assert.doesNotMatch(message, /something went wrong/i, code)
  }
})
