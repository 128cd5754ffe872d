/** The External Client App as a download, and that it works: a simulated org deploys it, and a sign-in with it comes back connected. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startSimulator } from '@fairlead/salesforce-simulator'
import { sandboxOverlay } from '../../../demo/overlay.ts'
import { appNameIn, deployments } from '../../../salesforce/app-project.ts'
import { zip } from '../../../salesforce/zip.ts'
import { readZip } from '../../../simulator/src/zip.ts'
import { Browser, startFairlead } from '../support/fairlead.ts'

const provider = 'salesforce-sandbox'

test('a download that is deployed connects at once', async t => {
  const simulator = await startSimulator({ autoApprove: true, contacts: 1 })
  t.after(() => simulator.close())
  const fairlead = await startFairlead(t, { providers: sandboxOverlay(simulator.base('test'), ['127.0.0.1']) })
  const url = `${fairlead.url}/providers/${provider}/app-project?name=Acme_Connect&contact=ops%40acme.com&policies=true&refresh_ips=127.0.0.0-127.255.255.255`
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${fairlead.key}` } })
  assert.deepEqual(
    [answer.status, answer.headers.get('content-type'), answer.headers.get('content-disposition')],
    [200, 'application/zip', 'attachment; filename="Acme_Connect.zip"'],
  )
  const project = Object.fromEntries(readZip(Buffer.from(await answer.arrayBuffer())))
  assert.equal(appNameIn(Object.keys(project)), 'Acme_Connect')
  const guide = (await fairlead.call('GET', `/providers/${provider}/guide`)).json.data
  assert.ok(url.startsWith(guide.app_project_url))

  const { instance_url, access_token } = simulator.control.issueTokens({ username: 'ada@acme.com.uat' })
  const steps = deployments(project)
  assert.equal(steps.length, 2)
  for (const step of steps) {
    const form = new FormData()
    form.set('json', new Blob(['{"deployOptions":{"rollbackOnError":true}}'], { type: 'application/json' }))
    form.set('file', new Blob([new Uint8Array(step)], { type: 'application/zip' }), 'app.zip')
    const headers = { Authorization: `Bearer ${access_token}` }
    const path = `${instance_url}/services/data/v66.0/metadata/deployRequest`
    const { id } = (await (await fetch(path, { method: 'POST', headers, body: form })).json()) as { id: string }
    let result: { done: boolean; success: boolean } | undefined
    for (let asked = 0; !result?.done && asked < 5; asked++) {
      const status = await fetch(`${path}/${id}?includeDetails=true`, { headers })
      result = ((await status.json()) as { deployResult: typeof result }).deployResult
    }
    assert.equal(result?.success, true, JSON.stringify(result))
  }
  const app = simulator.control.state().apps.find(({ developerName }) => developerName === 'Acme_Connect')
  assert.deepEqual([app?.callbacks, app?.rotation], [[`${fairlead.url}/oauth/callback`], true])

  const credentials = { type: 'OAUTH2', client_id: app?.clientId, client_secret: app?.clientSecret }
  await fairlead.call('POST', '/integrations', { provider, unique_key: 'sf', credentials })
  const session = await fairlead.call('POST', '/connect/sessions', { end_user: { id: 'ada' } })
  const start = `${fairlead.url}/oauth/connect/sf?connect_session_token=${session.json.data.token}`
  const page = await new Browser().follow(start)
  assert.match(page.text, /is connected/)
  const [connection] = (await fairlead.call('GET', '/connections')).json.connections
  // Renewal works from where the ranges allow it.
  simulator.control.expireAccessTokens()
  const called = await fairlead.call('GET', '/proxy/services/data/v66.0/limits', undefined, {
    'Provider-Config-Key': 'sf',
    'Connection-Id': connection.connection_id,
  })
  assert.equal(called.status, 200)
})

test('what cannot be made is refused in words', async t => {
  const fairlead = await startFairlead(t, { providers: 'plain: { display_name: P, auth_mode: API_KEY }' })
  const table: [string, number, RegExp][] = [
    [`/providers/${provider}/app-project?name=1x&contact=nobody`, 400, /begin with a letter.*e-mail/],
    [`/providers/${provider}/app-project?name=A&contact=a@b.co&scopes=api,nonsense`, 400, /no scope \\"nonsense\\"/],
    [`/providers/${provider}/app-project?name=A&contact=a@b.co&headless=yes`, 400, /headless/],
    [`/providers/${provider}/app-project?contact=a@b.co`, 400, /name/],
    ['/providers/plain/app-project?name=A&contact=a@b.co', 404, /no app project/],
    ['/providers/nobody/app-project?name=A&contact=a@b.co', 404, /no app project/],
  ]
  for (const [path, status, text] of table) {
    const answer = await fairlead.call('GET', path)
    assert.equal(answer.status, status, path)
    assert.match(answer.text, text)
  }
  const stranger = await fetch(`${fairlead.url}/providers/${provider}/app-project?name=A&contact=a@b.co`)
  assert.equal(stranger.status, 401)
})

test('an archive that others read, byte for byte', () => {
  const files = { 'package.xml': 'a<b>\n', 'über/naïve – 日本.txt': '€'.repeat(5000), empty: '' }
  // Written apart from ours and told nothing of it: the simulator's reader checks names, sizes and checksums.
  assert.deepEqual(Object.fromEntries(readZip(zip(files))), files)
  assert.deepEqual(zip(files), zip(files), 'the same files make the same archive')
})
