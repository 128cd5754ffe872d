/** The External Client App, generated: what is in it, what must never be, and that what cannot be deployed is refused in words. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type AppWanted, appFaults, appNameIn, appProject, deployments } from '../app-project.ts'

const wanted: AppWanted = {
  name: 'Acme_Connect',
  callbacks: ['https://connect.acme.com/oauth/callback?a=1&b="2"'],
  contact: 'ops@acme.com',
  scopes: ['api', 'refresh_token'],
  headless: false,
  policies: false,
  refreshRanges: [],
}
const everything: AppWanted = {
  ...wanted,
  policies: true,
  refreshRanges: [{ start: '203.0.113.1', end: '203.0.113.9' }],
}

const file = (project: Record<string, string>, suffix: string): string => {
  const [path] = Object.keys(project).filter(name => name.includes(suffix))
  return project[path ?? ''] ?? ''
}
const value = (xml: string, name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1]

test('the settings are those the guide explains', () => {
  const project = appProject(wanted)
  assert.deepEqual(Object.keys(project).sort(), [
    '.gitignore',
    'README.md',
    'force-app/main/default/externalClientApps/Acme_Connect.eca-meta.xml',
    'force-app/main/default/extlClntAppGlobalOauthSets/Acme_Connect_glbloauth.ecaGlblOauth-meta.xml',
    'force-app/main/default/extlClntAppOauthSettings/Acme_Connect_oauth.ecaOauth-meta.xml',
    'manifest/package.xml',
    'sfdx-project.json',
  ])
  const global = file(project, 'ecaGlblOauth')
  for (const [name, set] of Object.entries({
    callbackUrl: 'https://connect.acme.com/oauth/callback?a=1&amp;b=&quot;2&quot;',
    isPkceRequired: 'true',
    isSecretRequiredForRefreshToken: 'true',
    isConsumerSecretOptional: 'false',
    isCodeCredFlowEnabled: 'false',
    isDeviceFlowEnabled: 'false',
    isClientCredentialsFlowEnabled: 'false',
    externalClientApplication: 'Acme_Connect',
  }))
    assert.equal(value(global, name), set, name)
  assert.equal(value(file(project, '.eca-meta'), 'distributionState'), 'Local')
  assert.equal(value(file(project, 'ecaOauth-'), 'commaSeparatedOauthScopes'), 'Api,RefreshToken')
  assert.equal(value(file(appProject({ ...wanted, headless: true }), 'ecaGlblOauth'), 'isCodeCredFlowEnabled'), 'true')
  // Secrets, and what the server assigns, are in no file.
  assert.doesNotMatch(
    Object.values(appProject(everything)).join(),
    /orgScopedExternalApp|oauthLink|<consumer(Key|Secret)>/,
  )
  assert.equal(appNameIn(Object.keys(project)), 'Acme_Connect')
  assert.equal(appNameIn(['force-app/x.xml']), undefined)
})

test('policies are a second deployment, and refresh IP ranges belong to the first', () => {
  assert.equal(deployments(appProject(wanted)).length, 1)
  const [first, second] = deployments(appProject(everything))
  assert.ok(first && second)
  assert.match(first.toString('latin1'), /ecaOauthSecurity.*203\.0\.113\.1</s)
  assert.doesNotMatch(first.toString('latin1'), /Plcy/)
  assert.match(second.toString('latin1'), /Acme_Connect_oauthPlcy\.ecaOauthPlcy.*SpecificInactivity/s)
  assert.doesNotMatch(second.toString('latin1'), /-meta\.xml/)
})

test('what cannot be deployed is refused, each in words', () => {
  assert.deepEqual(appFaults(everything), [])
  const table: [Partial<AppWanted>, RegExp][] = [
    [{ name: '1Acme' }, /begin with a letter/],
    [{ name: 'Acme__Connect' }, /single underscores/],
    [{ name: 'Acme_' }, /single underscores/],
    [{ name: '../x' }, /letters, digits/],
    [{ name: 'A'.repeat(71) }, /70/],
    [{ contact: 'nobody' }, /e-mail/],
    [{ contact: 'a@b.c <x>' }, /e-mail/],
    [{ callbacks: [] }, /no callback/],
    [{ callbacks: ['http://connect.acme.com/cb'] }, /only with https/],
    [{ callbacks: ['https://a.b/c#d'] }, /not a URL that can/],
    [{ callbacks: ['https://u:p@a.b/c'] }, /not a URL that can/],
    [{ callbacks: ['https://a.b/c\nhttps://evil.example/'] }, /not a URL that can/],
    [{ callbacks: ['javascript:alert(1)'] }, /only with https/],
    [{ callbacks: [`https://a.b/${'c'.repeat(2000)}`] }, /2000/],
    [{ scopes: [] }, /without scopes/],
    [{ scopes: ['api', 'everything'] }, /no scope "everything"/],
    [{ scopes: ['constructor'] }, /no scope/],
    [{ refreshRanges: [{ start: '10.0.0.9', end: '10.0.0.1' }] }, /lower one first/],
    [{ refreshRanges: [{ start: '10.0.0.256', end: '10.0.0.1' }] }, /IPv4/],
  ]
  for (const [change, fault] of table) {
    const faults = appFaults({ ...wanted, ...change })
    assert.equal(faults.length, 1, JSON.stringify(change))
    assert.match(faults[0]!, fault)
  }
  for (const callback of ['http://localhost:3003/cb', 'http://127.0.0.1/cb', 'http://[::1]:1/cb'])
    assert.deepEqual(appFaults({ ...wanted, callbacks: [callback] }), [], callback)
})

test('whatever passes is well-formed: text never becomes markup', () => {
  fc.assert(
    fc.property(fc.webUrl({ withQueryParameters: true }), fc.string(), (url, extra) => {
      const callback = `${url.replace(/^http:/, 'https:')}${encodeURI(extra.toWellFormed())}`
      const one = { ...wanted, callbacks: [callback] }
      if (appFaults(one).length > 0) return
      const xml = file(appProject(one), 'ecaGlblOauth')
      const inner = value(xml, 'callbackUrl')
      assert.ok(inner !== undefined)
      const back = inner
        .replaceAll('&lt;', '<')
        .replaceAll('&gt;', '>')
        .replaceAll('&quot;', '"')
        .replaceAll('&apos;', "'")
        .replaceAll('&amp;', '&')
      assert.equal(back, callback)
    }),
  )
})
