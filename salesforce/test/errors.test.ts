/** Every row of the table, and what must not be said. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { type Context, catalogue, explain } from '../errors.ts'
import { errorsPage, errorsPagePath } from '../errors-page.ts'
import { setupLink } from '../setup.ts'

const sandbox: Context = {
  login: 'sandbox',
  org: 'https://acme--uat.sandbox.my.salesforce.com',
  callback: 'https://broker.example/oauth/callback',
  exits: ['203.0.113.7'],
}

test('every error ends in its cause, with words, a fix and links into this very org', () => {
  for (const { code, seen } of catalogue)
    for (const [where, error, description = ''] of seen) {
      const cause = explain({ where, error, description }, sandbox)
      assert.equal(cause.code, code, `${where} ${error}: ${description}`)
      assert.match(cause.title, /^[A-Z].*[^.]$/)
      assert.ok(cause.explanations.length > 0, code)
      for (const { text, fix, link } of cause.explanations) {
        assert.match(text, /^[A-Z0-9].*\.$|status\.salesforce\.com tells\.$/s, text)
        assert.match(fix, /^[A-Z].*/s, fix)
        if (link && !link.startsWith('https://status.'))
          assert.match(link, /^https:\/\/acme--uat\.sandbox\.my\.salesforce-setup\.com\/lightning\/setup\/\w+\/home$/)
      }
    }
  assert.ok(catalogue.length >= 35, String(catalogue.length))
  assert.equal(new Set(catalogue.map(({ code }) => code)).size, catalogue.length)
})

test('a wrong secret is called a wrong secret', () => {
  const { title } = explain(
    { where: 'token', error: 'invalid_client', description: 'invalid client credentials' },
    sandbox,
  )
  assert.equal(title, 'The client secret is wrong')
})

test('an unknown app: the commonest reason first, the password last, and what is known of the org counts', () => {
  const met = { where: 'authorize', error: 'invalid_client_id', description: 'client identifier invalid' } as const
  const texts = (context: Partial<Context>, where: 'authorize' | 'refresh' = 'authorize') =>
    explain({ ...met, where }, { ...sandbox, ...context }).explanations.map(({ text }) => text)
  assert.match(texts({})[0]!, /made in production, and this is a sandbox/)
  assert.match(texts({ login: 'production' })[0]!, /made in a sandbox/)
  assert.match(texts({ org: undefined })[1]!, /generic log-in/)
  assert.ok(!texts({}).some(text => /generic log-in/.test(text)))
  assert.match(texts({}, 'refresh')[0]!, /sandbox was refreshed/)
  assert.ok(!texts({ login: 'production' }).some(text => /refreshed/.test(text)))
  for (const login of ['production', 'sandbox'] as const) {
    const all = texts({ login })
    assert.match(all.at(-1)!, /password that holds special characters/)
    assert.equal(all.filter(text => /password/.test(text)).length, 1)
  }
})

test('what nobody has seen yet is called that, in its own words', () => {
  for (const met of [
    { where: 'token', error: 'frobnicated', description: 'the gadget is askew' },
    { where: 'refresh', error: 'invalid_grant', description: 'a reason of tomorrow' },
    { where: 'authorize', error: '', description: '' },
  ] as const) {
    const cause = explain(met, sandbox)
    assert.equal(cause.code, 'unknown')
    assert.equal(cause.explanations.length, 1)
    assert.ok(cause.explanations[0]!.text.includes(met.description))
  }
})

test('nothing came back: the reasons a page at Salesforce would have told, with the callback to copy', () => {
  const { code, explanations } = explain({ where: 'silence', error: '', description: '' }, sandbox)
  assert.equal(code, 'nothing_came_back')
  assert.ok(explanations[0]!.fix.endsWith(sandbox.callback))
  for (const word of [
    'redirect_uri',
    'client identifier',
    'OAUTH_EC_APP_NOT_FOUND',
    'OAUTH_APPROVAL_ERROR_GENERIC',
    'blocked',
  ])
    assert.ok(
      explanations.some(({ text }) => text.includes(word)),
      word,
    )
})

test('a restriction by address names the address', () => {
  const cause = explain({ where: 'refresh', error: 'invalid_grant', description: 'ip restricted' }, sandbox)
  assert.match(cause.explanations[0]!.text, /203\.0\.113\.7/)
})

test('links lead into the Setup of the org itself, and nowhere for a log-in that is nobody’s', () => {
  const link = (org: string | undefined) => setupLink(org, 'NavigationMenus')
  assert.equal(
    link('https://acme.my.salesforce.com'),
    'https://acme.my.salesforce-setup.com/lightning/setup/NavigationMenus/home',
  )
  assert.equal(
    link('https://acme.my.salesforce.mil/'),
    'https://acme.my.salesforce.mil/lightning/setup/NavigationMenus/home',
  )
  assert.equal(link('http://127.0.0.1:4500/acme'), 'http://127.0.0.1:4500/acme/lightning/setup/NavigationMenus/home')
  for (const org of [undefined, 'https://login.salesforce.com', 'https://test.salesforce.com', 'not a url'])
    assert.equal(link(org), undefined)
})

test('the documentation is made from the table', async () => {
  const written = await readFile(errorsPagePath, 'utf8')
  assert.equal(written, errorsPage(), 'run: npm run salesforce-errors')
  for (const { code } of catalogue) assert.ok(written.includes(`\`${code}\``), code)
})
