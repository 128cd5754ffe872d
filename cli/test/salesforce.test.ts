/** The External Client App from a terminal: written, deployed to a simulated org, and brought back after the sandbox was refreshed. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { sandboxOverlay } from '../../demo/overlay.ts'
import { Browser, startFairlead } from '../../server/test/support/fairlead.ts'
import { run } from './support.ts'

type Test = { after(work: () => Promise<void>): void }

async function folder(t: Test): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'fairlead-app-'))
  t.after(() => rm(made, { recursive: true }))
  return join(made, 'project')
}

const app = (out: string): string[] => [
  'salesforce',
  'app',
  '--name',
  'Acme_Connect',
  '--contact',
  'ops@acme.com',
  '--out',
  out,
]

test('deployed, filled in, signed in with; and again after a refresh of the sandbox', async t => {
  const simulator = await startSimulator({ autoApprove: true, contacts: 1 })
  t.after(() => simulator.close())
  const fairlead = await startFairlead(t, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
  const env = { FAIRLEAD_URL: fairlead.url, FAIRLEAD_SECRET_KEY: fairlead.key }
  const out = await folder(t)
  const adminToken = () =>
    simulator.control.issueTokens({ username: 'ada@acme.com.uat', clientId: 'PlatformCLI' }).access_token
  const target = ['--integration', 'sf', '--instance-url', simulator.base('acme--uat'), '--admin-token-file', '-']
  const secrets: string[] = []
  const cli = async (args: string[], input: string) => {
    const ran = await run(args, env, input)
    for (const secret of [
      input,
      fairlead.key,
      ...simulator.control.state().apps.map(one => one.clientSecret),
      ...secrets,
    ])
      assert.ok(!`${ran.out}${ran.err}`.includes(secret), `a secret is printed by ${args.join(' ')}`)
    return ran
  }
  const deployed = () => simulator.control.state().apps.find(({ developerName }) => developerName === 'Acme_Connect')
  const integration = async () =>
    (await fairlead.call('GET', '/integrations/sf?include=credentials')).json.data?.credentials
  const signIn = async () => {
    const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
    return new Browser().follow(`${fairlead.url}/oauth/connect/sf?connect_session_token=${session.json.data.token}`)
  }

  // The org keeps its secrets: deployed, and said what to do. The integration is not touched.
  const first = await cli([...app(out), '--deploy', ...target, '--json'], adminToken())
  assert.equal(first.code, 0, first.err)
  assert.deepEqual([first.json.deployed, first.json.credentials], [true, 'not_readable'])
  assert.match(first.json.reason, /not enabled/)
  assert.deepEqual(deployed()?.callbacks, [`${fairlead.url}/oauth/callback`])
  assert.equal(await integration(), undefined)

  // The org gives them away: one command, and a sign-in works.
  simulator.control.setOrg({ org: 'acme--uat', secretsByRest: true })
  const second = await cli(['salesforce', 'redeploy', out, ...target], adminToken())
  assert.equal(second.code, 0, second.err)
  assert.match(second.out, /Client secret\s+stored/)
  assert.deepEqual(
    [(await integration()).client_id, (await integration()).client_secret],
    [deployed()?.clientId, deployed()?.clientSecret],
  )
  assert.match((await signIn()).text, /is connected/)

  // A refresh forgets the app and every token; the same command brings it back.
  const before = (await integration()).client_id
  secrets.push((await integration()).client_secret)
  simulator.control.refreshSandbox({ org: 'acme--uat' })
  assert.doesNotMatch((await signIn()).text, /is connected/)
  const stale = await cli(['salesforce', 'redeploy', out, ...target], 'a-token-of-before')
  assert.deepEqual([stale.code, /not one of this org, or has ended/.test(stale.err)], [1, true], stale.err)
  const third = await cli(['salesforce', 'redeploy', out, ...target, '--json'], adminToken())
  assert.deepEqual([third.code, third.json.credentials, third.json.integration.unique_key], [0, 'stored', 'sf'])
  assert.notEqual((await integration()).client_id, before)

  // Somebody who may not deploy, and a setting somebody misspelt: said in words, and nothing changed there or here.
  const kept = await integration()
  const ben = simulator.control.issueTokens({ username: 'ben@acme.com.uat', clientId: 'PlatformCLI' }).access_token
  const refused = await cli(['salesforce', 'redeploy', out, ...target], ben)
  assert.deepEqual([refused.code, /Modify Metadata/.test(refused.err)], [1, true])
  const file = join(
    out,
    'force-app/main/default/extlClntAppGlobalOauthSets/Acme_Connect_glbloauth.ecaGlblOauth-meta.xml',
  )
  await writeFile(file, (await readFile(file, 'utf8')).replaceAll('isPkceRequired', 'isPkceRequried'))
  const misspelt = await cli(['salesforce', 'redeploy', out, ...target], adminToken())
  assert.equal(misspelt.code, 1)
  assert.match(misspelt.err, /nothing was changed[\s\S]*Acme_Connect_glbloauth\.ecaGlblOauth: .*isPkceRequried/)
  assert.deepEqual(await integration(), kept)
})

test('the way from a Connected App: the steps with links into that org, and what the org says of the app before and after', async t => {
  const simulator = await startSimulator({ autoApprove: true, contacts: 1 })
  t.after(() => simulator.close())
  const fairlead = await startFairlead(t, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
  const env = { FAIRLEAD_URL: fairlead.url, FAIRLEAD_SECRET_KEY: fairlead.key }
  const { clientId, clientSecret } = simulator.app('acme--uat')
  simulator.control.setApp({ clientId, callbacks: [`${fairlead.url}/oauth/callback`] })
  const credentials = { type: 'OAUTH2', client_id: clientId, client_secret: clientSecret }
  await fairlead.call('POST', '/integrations', { provider: 'salesforce-sandbox', unique_key: 'sf', credentials })
  const migrate = (address: string, ...more: string[]) =>
    run(['salesforce', 'migrate', 'sf', '--instance-url', address, ...more], env)

  const before = await migrate('acme--uat')
  assert.equal(before.code, 0, before.err)
  assert.match(before.out, /Migrate to External Client App/)
  assert.match(
    before.out,
    /https:\/\/acme--uat\.sandbox\.my\.salesforce-setup\.com\/lightning\/setup\/NavigationMenus\/home/,
  )
  assert.match(before.out, /no connection to examine yet/)

  const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
  await new Browser().follow(`${fairlead.url}/oauth/connect/sf?connect_session_token=${session.json.data.token}`)
  const after = await migrate('acme--uat', '--json')
  assert.equal(after.code, 0, after.err)
  assert.deepEqual(
    after.json.findings.map(({ code, severity }: { code: string; severity: string }) => [code, severity]),
    [['app', 'ok']],
  )

  // The app that came out of it has another secret after all.
  simulator.control.rotateSecret({ clientId, keepTokens: true })
  const broken = await migrate('acme--uat')
  assert.equal(broken.code, 1)
  assert.match(broken.out, /error {2}The client secret is wrong/)
  assert.ok(!`${before.out}${after.out}${broken.out}`.includes(clientSecret))
  assert.equal((await migrate('test.salesforce.com')).code, 2, 'an address of every org')
})

test('written without a server, and what is refused before anything is written or sent', async t => {
  const out = await folder(t)
  // Nobody listens there: whatever needs an answer would say so with 3.
  const env = { FAIRLEAD_URL: 'http://127.0.0.1:9', FAIRLEAD_SECRET_KEY: 'unused' }
  const written = await run([...app(out), '--callback', 'https://connect.acme.com/oauth/callback', '--json'], env)
  assert.equal(written.code, 0, written.err)
  assert.ok((await readdir(out)).includes('sfdx-project.json'))
  const again = await run(app(out), env)
  assert.deepEqual([again.code, /is not empty/.test(again.err)], [2, true])

  const other = `${out}-2`
  const to = (url: string) => ['--deploy', '--integration', 'sf', '--admin-token-file', '-', '--instance-url', url]
  const table: [string[], RegExp][] = [
    [['salesforce', 'app', '--name', '1x', '--contact', 'nobody', '--out', other], /begin with a letter[\s\S]*e-mail/],
    [['salesforce', 'app', '--name', 'A', '--contact', 'a@b.co'], /--out is needed/],
    [[...app(other), '--callback', 'http://acme.com/cb'], /only with https/],
    [[...app(other), '--deploy'], /--integration is needed/],
    [[...app(other), ...to('https://login.salesforce.com')], /the org's own address/],
    [[...app(other), ...to('https://acme.my.salesforce.com.evil.example')], /--instance-url/],
    [[...app(other), ...to('https://evil.example')], /--instance-url/],
    [[...app(other), ...to('http://169.254.169.254')], /--instance-url/],
    [['salesforce', 'redeploy', `${out}-none`, '--integration', 'x', '--instance-url', 'y'], /cannot be read/],
  ]
  for (const [args, said] of table) {
    const ran = await run(args, env, 'an-admin-token')
    assert.equal(ran.code, 2, `${args.join(' ')}: ${ran.err}`)
    assert.match(ran.err, said)
    await assert.rejects(readdir(other), { code: 'ENOENT' })
  }
})
