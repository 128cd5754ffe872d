import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hear, heard, repeats } from '../../src/proxy/repeated.ts'

const token = '00D5g0000012345!AQEAQ.secret'
const filler = (length: number) => 'x'.repeat(length)

const answers: [what: string, headers: Record<string, string | string[]>, pieces: string[], found: boolean][] = [
  ['neither', { server: 'x' }, ['{"ok":true}'], false],
  ['a header', { 'x-debug': `Bearer ${token}` }, [], true],
  ['one of a header sent twice', { via: ['1.1 a', token] }, [], true],
  ['a body', {}, [`{"headers":{"authorization":"Bearer ${token}"}}`], true],
  ['a body cut in the middle of it', {}, [filler(10) + token.slice(0, 9), token.slice(9)], true],
  ['half of it', {}, [token.slice(0, 12)], false],
  ['64 KB', {}, [filler(65_536 - token.length), token], true],
  ['more than 64 KB', {}, [token, filler(65_536)], false],
  ['more than 64 KB, said beforehand', { 'content-length': '70000' }, [token], false],
  ['compressed', { 'content-encoding': 'gzip' }, [token], false],
  ['a stream of events', { 'content-type': 'text/event-stream; charset=utf-8' }, [token], false],
]
for (const [what, headers, pieces, found] of answers)
  test(`${what}: ${found ? 'found' : 'not found'}`, () => {
    const answer = heard(headers)
    for (const piece of pieces) hear(answer, Buffer.from(piece))
    assert.equal(repeats(answer, token), found)
  })

test('a token of a few characters is not looked for', () => {
  const answer = heard({})
  hear(answer, Buffer.from('token-1'))
  assert.equal(repeats(answer, 'token-1'), false)
})
