/** The guides: every provider has one, with this server's own values in it, as data and as a page. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Guide, ProviderView } from '@fairlead/contract'
import { checksIn, copiesIn } from '../../src/docs/markdown.ts'
import { startFairlead } from '../support/fairlead.ts'

const overlay = `
keyed:
  display_name: Keyed | Co
  auth_mode: API_KEY
  docs: https://keyed.example/docs
  credentials:
    apiKey: { type: string, title: Key, description: "From a|b", example: "k|1" }
  proxy: { base_url: https://api.keyed.example }
`

test('every provider has a guide with this server’s own values', async t => {
  const fairlead = await startFairlead(t, { providers: overlay })
  const providers: ProviderView[] = (await fairlead.call('GET', '/providers')).json.data
  assert.ok(providers.length > 2)
  for (const { name } of providers) {
    const answer = await fairlead.call('GET', `/providers/${name}/guide`)
    assert.equal(answer.status, 200, name)
    const guide: Guide = answer.json.data
    assert.equal(guide.callback_url, `${fairlead.url}/oauth/callback`)
    assert.ok(guide.steps.length >= 4, name)
    assert.equal(new Set(guide.steps.map(({ id }) => id)).size, guide.steps.length, `${name}: ids are not unique`)
    // Steps come first, and nothing is left to fill in.
    const kinds = guide.steps.map(({ kind }) => kind)
    assert.ok(kinds.lastIndexOf('step') < (kinds.indexOf('reference') + 1 || Number.POSITIVE_INFINITY), name)
    assert.doesNotMatch(JSON.stringify(guide), /\{\{|undefined/, name)
    for (const { html } of guide.steps) assert.doesNotMatch(html, /<script|style=|onclick/i)
    const page = await fairlead.call('GET', `/docs/providers/${name}`)
    assert.equal(page.status, 200)
    for (const { id } of guide.steps) assert.ok(page.text.includes(`id="${id}"`), `${name}: ${id}`)
  }
  for (const path of ['/providers/nobody/guide', '/docs/providers/nobody'])
    assert.equal((await fairlead.call('GET', path)).status, 404)
  const stranger = await fetch(`${fairlead.url}/providers/keyed/guide`)
  assert.equal(stranger.status, 401)

  const keyed: Guide = (await fairlead.call('GET', '/providers/keyed/guide')).json.data
  assert.ok(!keyed.steps.some(({ markdown }) => markdown.includes('client_secret')), 'no OAuth app for an API key')
  assert.match(keyed.steps[0]!.html, /<td>Key: From a\|b \(asked for\)<\/td>\s*<td><code>k\|1<\/code>/)
})

test('a provider with pages of its own: what to copy, which boxes, and why', async t => {
  const fairlead = await startFairlead(t)
  const { steps }: Guide = (await fairlead.call('GET', '/providers/salesforce-sandbox/guide')).json.data
  const copies = steps.flatMap(({ copy }) => copy)
  assert.ok(copies.some(({ label, value }) => label === 'Callback URL' && value === `${fairlead.url}/oauth/callback`))
  const checks = steps.flatMap(step => step.checks)
  const box = (label: RegExp) => checks.find(check => label.test(check.label))
  assert.equal(box(/PKCE/)?.checked, true)
  assert.equal(box(/Authorization Code and Credentials/)?.checked, false)
  for (const { label, reason } of checks) assert.ok(reason.length > 10, `${label} has no reason`)
  // Exactly one `Connect`, with both the made and the written part.
  const connect = steps.filter(({ title }) => title === 'Connect')
  assert.equal(connect.length, 1)
  assert.match(connect[0]!.markdown, /connect\/sessions[\s\S]*acme--uat\.sandbox/)
})

test('the other ways into an org have guides of their own, each about its own grant', async t => {
  const fairlead = await startFairlead(t)
  const guideOf = async (name: string) => {
    const guide: Guide = (await fairlead.call('GET', `/providers/${name}/guide`)).json.data
    for (const { label, reason } of guide.steps.flatMap(step => step.checks))
      assert.ok(reason.length > 10, `${name}: ${label} has no reason`)
    return { guide, text: guide.steps.map(({ title, markdown }) => `${title}\n${markdown}`).join('\n') }
  }
  const jwt = await guideOf('salesforce-jwt')
  assert.match(
    jwt.text,
    /openssl req -x509[\s\S]*Enable JWT Bearer Flow[\s\S]*pre-authorized[\s\S]*auth\/two-step\/salesforce-jwt/,
  )
  assert.match(jwt.text, /user hasn't approved this consumer[\s\S]*audience is invalid/)
  const cc = await guideOf('salesforce-cc')
  assert.match(cc.text, /Enable Client Credentials Flow[\s\S]*Run As[\s\S]*oauth2\/auth\/salesforce-cc/)
  for (const { guide, text } of [jwt, cc]) {
    assert.equal(guide.app_project_url, null)
    assert.doesNotMatch(text, /Web Server Flow|salesforce app --name/)
  }
  const site = await guideOf('salesforce-experience-cloud')
  assert.match(site.text, /acme\.my\.site\.com\/partners[\s\S]*Community Plus[\s\S]*Require Proof Key/)
  assert.ok(site.guide.app_project_url?.endsWith('/providers/salesforce-experience-cloud/app-project'))
})

test('a page that is not there is a fault at the start', async t => {
  const missing = `${overlay}  guide: { pages: [no-such-page] }\n`
  await assert.rejects(startFairlead(t, { providers: missing }), /providers\.yaml:\d+: .*no page "no-such-page"/)
})

test('what is read out of a step', () => {
  const source =
    '- [x] **A (b)**: because\n  of this\n- [ ] **C**, **D**: leave it: really\n- no box\n\n   ```copy Run\n   one\n     two\n   ```\n'
  assert.deepEqual(checksIn(source), [
    { label: 'A (b)', checked: true, reason: 'because of this' },
    { label: 'C, D', checked: false, reason: 'leave it: really' },
  ])
  assert.deepEqual(copiesIn(source), [{ label: 'Run', value: 'one\n  two' }])
})
