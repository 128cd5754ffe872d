import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bindBrowser, forgetBrowser, isSameBrowser } from '../../src/connect/browser.ts'

const pairOf = (setCookie: string): string => setCookie.split(';')[0]!

test('on https the cookie belongs to this host alone and to no script', () => {
  const { setCookie } = bindBrowser('state', true)
  // RFC 6265bis §4.1.3.2: __Host- wants Secure, Path=/ and no Domain.
  assert.match(
    setCookie,
    /^__Host-fairlead_[0-9a-f]{16}=[\w-]{43}; Path=\/; HttpOnly; SameSite=Lax; Max-Age=600; Secure$/,
  )
  assert.match(forgetBrowser('state', true), /^__Host-fairlead_[0-9a-f]{16}=; .*Max-Age=0; Secure$/)
  assert.equal(pairOf(forgetBrowser('state', true)).slice(0, -1), setCookie.split('=')[0])
})

test('only the browser that began is the same browser', () => {
  const mine = bindBrowser('mine', true)
  const other = bindBrowser('other', true)
  const [name, value] = pairOf(mine.setCookie).split('=')
  const cases: [cookie: string | undefined, same: boolean][] = [
    [pairOf(mine.setCookie), true],
    [`a=b; ${pairOf(other.setCookie)}; ${pairOf(mine.setCookie)}`, true],
    [undefined, false],
    ['', false],
    [pairOf(other.setCookie), false],
    [`${name}=`, false],
    [`${name}=${value}x`, false],
    [`${name}=${pairOf(other.setCookie).split('=')[1]}`, false],
    // Without the prefix a sibling host could have set it.
    [`${name?.replace('__Host-', '')}=${value}`, false],
  ]
  for (const [cookie, same] of cases)
    assert.equal(isSameBrowser(cookie, 'mine', true, mine.browserHash), same, String(cookie))
})
