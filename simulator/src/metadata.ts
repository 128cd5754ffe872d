// Deploying an External Client App, and reading its key and secret back:
//   POST  metadata/deployRequest            multipart: the options as JSON, the package as a zip
//   GET   metadata/deployRequest/{id}       ?includeDetails=true
//   PATCH metadata/deployRequest/{id}       {"deployResult":{"status":"Canceling"}}
//   GET   apps/oauth/usage · apps/oauth/credentials/{app}[/{consumer}?part=key|secret|keyandsecret]
//   GET, POST …/{consumer}/staged · PATCH, DELETE …/staged/{id}
// A deployment is worked through as it is asked about, like a Bulk job. It applies whole or not at all. Every element and
// value is checked (metadata-types.ts), so a project that deploys here has no misspelt setting (fact sheet §5.3–5.6).

import type { Reply } from './http.ts'
import { restError } from './http.ts'
import { newClientId, newClientSecret } from './ids.ts'
import { faultIn, type MetadataType, metadataTypes, SCOPES } from './metadata-types.ts'
import { RecordError } from './records.ts'
import { base, type Handlers, notFound, objectOf, ok, type Request } from './resource.ts'
import { endGrant } from './tokens.ts'
import type { App, Deployment, RefreshPolicy } from './world.ts'
import { addApp, nextId, now, salesforceTime } from './world.ts'
import { BadXml, type Element, readXml } from './xml.ts'
import { BadZip, readZip } from './zip.ts'

export function metadataHandlers({ segments }: Request): Handlers | undefined {
  const [, what, id] = segments
  if (what !== 'deployRequest' || segments.length > 3) return undefined
  return id === undefined ? { POST: deploy } : { GET: status, PATCH: cancel }
}

const forbidden = (message: string) => restError(403, 'INSUFFICIENT_ACCESS', message)

// ── Deploy ──────────────────────────────────────────────────────────────────────────────────────────────────────

function deploy(request: Request): Reply {
  const { world, org, session } = request
  if (!session.user.admin)
    return forbidden('insufficient access rights: Modify Metadata Through Metadata API Functions')
  const parts = readMultipart(request)
  const archive = parts.find(({ type }) => type.startsWith('application/zip'))
  const described = parts.find(({ type }) => type.startsWith('application/json'))
  if (!archive || !described) {
    return restError(400, 'MULTIPART_ERROR', 'a deployment needs a JSON part with deployOptions and a zip part')
  }
  const deployOptions = readOptions(described.content)
  const at = salesforceTime(now(world))
  const deployment: Deployment = {
    id: nextId(world, '0Af'),
    org: org.key,
    archive: archive.content,
    checkOnly: deployOptions.checkOnly === true,
    ignoreWarnings: deployOptions.ignoreWarnings === true,
    userId: session.user.id,
    createdDate: at,
    status: 'Pending',
    successes: [],
    failures: [],
    total: 0,
  }
  world.deployments.set(deployment.id, deployment)
  return {
    status: 201,
    headers: { location: `${base(request)}/metadata/deployRequest/${deployment.id}` },
    json: { id: deployment.id, validatedDeployRequestId: null, deployOptions, deployResult: view(deployment, false) },
  }
}

type Part = { type: string; content: Buffer }

/** RFC 7578, as far as two parts go: told apart by their types, since clients name them differently. */
function readMultipart({ headers, raw }: Request): Part[] {
  const boundary = /^multipart\/form-data;.*boundary="?([^";]+)"?/i.exec(headers['content-type'] ?? '')?.[1]
  if (boundary === undefined)
    throw new RecordError(415, 'UNSUPPORTED_MEDIA_TYPE', 'a deployment is multipart/form-data')
  const parts: Part[] = []
  const mark = Buffer.from(`--${boundary}`)
  for (let at = raw.indexOf(mark); at >= 0; ) {
    const from = at + mark.length
    const next = raw.indexOf(mark, from)
    if (next < 0) break
    const head = raw.indexOf('\r\n\r\n', from)
    if (head < 0 || head > next) break
    const type = /^content-type:\s*(.+?)\s*$/im.exec(raw.toString('latin1', from, head))?.[1] ?? 'text/plain'
    parts.push({ type: type.toLowerCase(), content: raw.subarray(head + 4, next - 2) })
    at = next
  }
  return parts
}

function readOptions(content: Buffer): Record<string, unknown> {
  try {
    const { deployOptions } = JSON.parse(content.toString('utf8')) as { deployOptions?: Record<string, unknown> }
    return deployOptions ?? {}
  } catch {
    throw new RecordError(400, 'JSON_PARSER_ERROR', 'the JSON part is not JSON')
  }
}

function deploymentOf({ world, org, segments }: Request): Deployment {
  const found = world.deployments.get(segments[2] ?? '')
  if (!found || found.org !== org.key) {
    throw new RecordError(404, 'NOT_FOUND', 'The requested resource does not exist')
  }
  return found
}

function status(request: Request): Reply {
  const deployment = deploymentOf(request)
  if (deployment.status === 'Pending') deployment.status = 'InProgress'
  else if (deployment.status === 'InProgress') work(request, deployment)
  return ok({
    id: deployment.id,
    deployResult: view(deployment, request.query.get('includeDetails') === 'true'),
  })
}

function cancel(request: Request): Reply {
  const deployment = deploymentOf(request)
  if (deployment.status === 'Pending' || deployment.status === 'InProgress') deployment.status = 'Canceled'
  return { status: 202, json: { id: deployment.id, deployResult: view(deployment, false) } }
}

function view(deployment: Deployment, details: boolean) {
  const { id, status, successes, failures, total, checkOnly, createdDate, userId } = deployment
  const done = !['Pending', 'InProgress'].includes(status)
  return {
    id,
    status,
    success: status === 'Succeeded',
    done,
    checkOnly,
    rollbackOnError: true,
    createdBy: userId,
    createdDate,
    ...(done ? { completedDate: createdDate } : {}),
    numberComponentsTotal: total,
    numberComponentsDeployed: successes.length,
    numberComponentErrors: failures.length,
    numberTestsTotal: 0,
    numberTestsCompleted: 0,
    numberTestErrors: 0,
    runTestsEnabled: false,
    ...(details && done
      ? { details: { componentSuccesses: successes, componentFailures: failures, runTestResult: { numTestsRun: 0 } } }
      : {}),
  }
}

type Component = {
  type: MetadataType
  fullName: string
  fileName: string
  values: Map<string, string>
  document: Element
}

/** Everything is checked before anything is changed. */
function work(request: Request, deployment: Deployment): void {
  const fail = (fileName: string, type: string, fullName: string, problem: string, warning = false) =>
    deployment.failures.push({
      fileName,
      componentType: type,
      fullName,
      problem,
      problemType: warning ? 'Warning' : 'Error',
      success: false,
    })
  const components: Component[] = []
  try {
    const files = new Map(
      [...readZip(deployment.archive)].map(([path, text]) => [path.replace(/^unpackaged\//, ''), text]),
    )
    const manifest = files.get('package.xml')
    if (manifest === undefined) throw new BadZip('No package.xml found')
    const listed = listedIn(readXml(manifest))
    for (const [fileName, text] of files) {
      if (fileName === 'package.xml') continue
      const component = readComponent(fileName, text, fail)
      if (!component) continue
      if (!listed(component)) fail(fileName, component.type.name, component.fullName, 'Not in package.xml')
      components.push(component)
    }
  } catch (error) {
    if (!(error instanceof BadZip || error instanceof BadXml)) throw error
    fail('package.xml', '', 'package.xml', error.message)
  }
  deployment.total = components.length + deployment.failures.length
  for (const component of components) {
    const problem = faultFor(request, component, components)
    if (problem) fail(component.fileName, component.type.name, component.fullName, problem)
    else if (component.values.get('shouldRotateConsumerSecret') === 'true' && !deployment.ignoreWarnings) {
      const text = 'The consumer secret will be rotated. To deploy anyway, ignore warnings.'
      fail(component.fileName, component.type.name, component.fullName, text, true)
    }
  }
  if (deployment.failures.length > 0) {
    deployment.status = 'Failed'
    return
  }
  if (!deployment.checkOnly) apply(request, components)
  deployment.successes = components.map(({ type, fullName, fileName }) => ({
    fileName,
    componentType: type.name,
    fullName,
    success: true,
    created: true,
    changed: true,
    deleted: false,
  }))
  deployment.status = 'Succeeded'
}

function readComponent(
  fileName: string,
  text: string,
  fail: (fileName: string, type: string, fullName: string, problem: string) => void,
): Component | undefined {
  const [, folder = '', name = '', suffix = ''] = /^([^/]+)\/([^/]+)\.([^./]+)$/.exec(fileName) ?? []
  const type = metadataTypes.find(one => one.folder === folder && one.suffix === suffix)
  if (!type) {
    fail(fileName, '', name, 'An object of this folder and suffix was found, but it is of no known metadata type')
    return undefined
  }
  try {
    const document = readXml(text)
    const problem = faultIn(type, document)
    if (problem !== null) {
      fail(fileName, type.name, name, `Error parsing file: ${problem}`)
      return undefined
    }
    const values = new Map(document.children.map(child => [child.name, child.text]))
    return { type, fullName: name, fileName, values, document }
  } catch (error) {
    if (!(error instanceof BadXml)) throw error
    fail(fileName, type.name, name, `Error parsing file: ${error.message}`)
    return undefined
  }
}

function listedIn(manifest: Element): (component: Component) => boolean {
  if (manifest.name !== 'Package') throw new BadXml('package.xml: the root element is not Package')
  const version = manifest.children.find(({ name }) => name === 'version')?.text ?? ''
  if (!/^\d+\.0$/.test(version)) throw new BadXml('package.xml: version is missing')
  const types = manifest.children.filter(({ name }) => name === 'types')
  return ({ type, fullName }) =>
    types.some(
      ({ children }) =>
        children.some(({ name, text }) => name === 'name' && text === type.name) &&
        children.some(({ name, text }) => name === 'members' && (text === '*' || text === fullName)),
    )
}

const APP = 'externalClientApplication'

/** What a document by itself cannot say. */
function faultFor({ world, org }: Request, { type, fullName, values }: Component, all: Component[]): string | null {
  if (type.name === 'ExternalClientApplication') {
    if (!/^[A-Za-z](_?[A-Za-z0-9])*$/.test(fullName))
      return `The name ${fullName} can't be used: letters, digits and single underscores`
    if (values.get('distributionState') === 'Packaged' && org.kind === 'sandbox') {
      return 'A packaged external client app cannot be created in a sandbox'
    }
    const scoped = values.get('orgScopedExternalApp')
    if (scoped !== undefined && scoped.slice(0, 15) !== org.id.slice(0, 15)) {
      return 'orgScopedExternalApp belongs to another org'
    }
    return null
  }
  const parent = values.get(APP)
  if (parent !== undefined) {
    const known =
      world.apps.some(app => app.org === org.key && app.developerName === parent) ||
      all.some(one => one.type.name === 'ExternalClientApplication' && one.fullName === parent)
    if (!known) return `In field: ${APP} - no ExternalClientApplication named ${parent} found`
  }
  if (type.name === 'ExtlClntAppGlobalOauthSettings') {
    const callbacks = callbacksIn(values)
    if ((values.get('callbackUrl') ?? '').length > 2000) return 'callbackUrl: data value too large (max length=2000)'
    const bad = callbacks.find(url => !callbackAllowed(url))
    if (bad !== undefined) return `Invalid callback URL: ${bad}`
  }
  const scopes = values.get('commaSeparatedOauthScopes')
  const unknown = scopes
    ?.split(',')
    .map(scope => scope.trim())
    .find(scope => !Object.hasOwn(SCOPES, scope))
  if (unknown !== undefined) return `'${unknown}' is not a valid value for the enum 'ConnectedAppOauthAccessScope'`
  return null
}

const callbacksIn = (values: Map<string, string>): string[] =>
  (values.get('callbackUrl') ?? '').split(/\s+/).filter(Boolean)

function callbackAllowed(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : null
  if (!url) return false
  return url.protocol !== 'http:' || /^(localhost|\[::1\]|127\.[\d.]+)$/.test(url.hostname)
}

// ── What a deployment makes ─────────────────────────────────────────────────────────────────────────────────────

function apply(request: Request, components: Component[]): void {
  const { world, org } = request
  // The header first: its settings refer to it.
  for (const { type, fullName, values } of components) {
    if (type.name === 'ExternalClientApplication') {
      const app = appNamed(request, fullName)
      if (app) app.name = values.get('label') ?? app.name
      else newApp(request, fullName, values.get('label') ?? fullName)
    }
    if (type.name === 'ExternalClientAppSettings') {
      org.secretsByRest = values.get('enableClientSecretInRestApiAccess') === 'true'
    }
  }
  for (const { type, values, document } of components) {
    const app = appNamed(request, values.get(APP) ?? '')
    if (!app) continue
    const flag = (name: string, otherwise: boolean) => (values.get(name) ?? String(otherwise)) === 'true'
    if (type.name === 'ExtlClntAppGlobalOauthSettings') {
      app.callbacks = callbacksIn(values)
      app.pkceRequired = flag('isPkceRequired', true)
      app.secretRequired = !flag('isConsumerSecretOptional', false)
      app.secretRequiredForRefresh = flag('isSecretRequiredForRefreshToken', true)
      app.rotation = flag('isRefreshTokenRotationEnabled', false)
      app.introspectAll = flag('isIntrospectAllTokens', false)
      if (flag('shouldRotateConsumerSecret', false)) rotateSecret(request, app, newClientSecret())
      app.certificate = values.get('certificate') ?? null
      const [key, secret] = [values.get('consumerKey'), values.get('consumerSecret')]
      if (world.settings.honoursSuppliedCredentials) {
        if (key) app.clientId = key
        if (secret) app.clientSecret = secret
      }
    }
    if (type.name === 'ExtlClntAppOauthSettings') {
      const scopes = (values.get('commaSeparatedOauthScopes') ?? '').split(',').map(scope => scope.trim())
      app.scopes = scopes.map(scope => SCOPES[scope as keyof typeof SCOPES]).filter(scope => scope !== null)
    }
    if (type.name === 'ExtlClntAppOauthConfigurablePolicies') {
      app.refreshPolicy = refreshPolicy(values)
      const minutes = values.get('sessionTimeoutInMinutes')
      if (minutes !== undefined) app.sessionMinutes = Number(minutes)
      app.adminApproved = values.get('permittedUsersPolicyType') === 'AdminApprovedPreAuthorized'
      app.clientCredentialsUser = flag('isClientCredentialsFlowEnabled', false)
        ? (values.get('clientCredentialsFlowUser') ?? null)
        : null
    }
    if (type.name === 'ExtlClntAppConfigurablePolicies') app.blocked = !flag('isEnabled', true)
    if (type.name === 'ExtlClntAppOauthSecuritySettings') {
      app.refreshRanges = document.children
        .filter(({ name }) => name === 'tokenIpRanges')
        .map(({ children }) => {
          const text = (name: string) => children.find(child => child.name === name)?.text ?? ''
          return { start: text('startIpAddress'), end: text('endIpAddress') }
        })
    }
  }
}

const appNamed = ({ world, org }: Request, developerName: string): App | undefined =>
  world.apps.find(app => app.org === org.key && app.developerName === developerName)

const newApp = ({ world, org }: Request, developerName: string, name: string): App =>
  addApp(world, {
    org: org.key,
    developerName,
    name,
    clientId: newClientId(),
    clientSecret: newClientSecret(),
    callbacks: [],
    scopes: [],
    propagationMs: world.settings.propagationMs,
  })

function refreshPolicy(values: Map<string, string>): RefreshPolicy {
  const unit = { Hours: 1 / 24, Days: 1, Months: 30 }[values.get('refreshTokenValidityUnit') ?? 'Days'] ?? 1
  const days = Number(values.get('refreshTokenValidityPeriod') ?? 0) * unit
  switch (values.get('refreshTokenPolicyType')) {
    case 'Zero':
      return { kind: 'immediatelyExpire' }
    case 'SpecificLifetime':
      return { kind: 'lifetime', days }
    case 'SpecificInactivity':
      return { kind: 'idle', days }
    default:
      return { kind: 'untilRevoked' }
  }
}

/** Applying new credentials revokes every token of the app (fact sheet §3.6). */
function rotateSecret({ world }: Request, app: App, secret: string): void {
  app.clientSecret = secret
  for (const grant of world.grants) if (grant.app === app) endGrant(world, grant, 'the app’s secret was rotated')
}

// ── Key and secret ──────────────────────────────────────────────────────────────────────────────────────────────

export function appHandlers(request: Request): Handlers | undefined {
  const [, oauth, what, appId, consumerId, staged, stagedId] = request.segments
  if (oauth !== 'oauth' || request.segments.length > 7) return undefined
  if (what === 'usage' && appId === undefined) return { GET: usage }
  if (what !== 'credentials' || appId === undefined) return undefined
  if (consumerId === undefined) return { GET: gated(consumers) }
  if (staged === undefined) return { GET: gated(credentials) }
  if (staged !== 'staged') return undefined
  return stagedId === undefined
    ? { GET: gated(stagedList), POST: gated(stage) }
    : { PATCH: gated(promote), DELETE: gated(discard) }
}

/** Only where the org allows secrets over REST, and to whoever may see them (fact sheet §5.6). */
const gated =
  (handler: (request: Request, app: App) => Reply) =>
  (request: Request): Reply => {
    if (Number(request.version) < 60) return notFound()
    if (!request.session.user.admin) return forbidden('insufficient access rights: View Client Secret')
    if (!request.org.secretsByRest) {
      return restError(403, 'FUNCTIONALITY_NOT_ENABLED', 'Access to consumer secrets via REST API is not enabled')
    }
    const [, , , appId, consumerId] = request.segments
    const app = request.world.apps.find(
      one =>
        one.org === request.org.key && same(one.identifier, appId) && (!consumerId || same(one.consumerId, consumerId)),
    )
    return app ? handler(request, app) : notFound()
  }

const same = (id: string, asked: string | undefined) => id.slice(0, 15) === asked?.slice(0, 15)

function usage({ world, org, session }: Request): Reply {
  if (!session.user.admin) return forbidden('insufficient access rights: View all External Client Apps')
  const apps = world.apps.filter(app => app.org === org.key)
  return ok({
    apps: apps.map(app => ({ developerName: app.developerName, identifier: app.identifier, label: app.name })),
    nextPageUrl: null,
  })
}

function consumers(request: Request, app: App): Reply {
  const url = `${base(request)}/apps/oauth/credentials/${app.identifier}/${app.consumerId}`
  return ok({
    consumers: [{ id: app.consumerId, key: app.clientId, name: app.name, url, stagedCredentialsUrl: `${url}/staged` }],
  })
}

function credentials({ query }: Request, app: App): Reply {
  const part = query.get('part') ?? 'keyandsecret'
  if (!['key', 'secret', 'keyandsecret'].includes(part))
    return restError(400, 'INVALID_ARGUMENT', `unknown part ${part}`)
  return ok({
    id: app.consumerId,
    ...(part === 'secret' ? {} : { key: app.clientId }),
    ...(part === 'key' ? {} : { secret: app.clientSecret }),
  })
}

const stagedView = ({ staged }: App) => (staged ? [{ ...staged, state: 'staged' }] : [])

const stagedList = (_: Request, app: App): Reply => ok({ stagedCredentials: stagedView(app) })

function stage({ world }: Request, app: App): Reply {
  if (app.staged) return restError(400, 'INVALID_OPERATION', 'there are staged credentials already')
  app.staged = { id: nextId(world, '0xS'), key: app.clientId, secret: newClientSecret() }
  return { status: 201, json: { stagedCredentials: stagedView(app) } }
}

function promote(request: Request, app: App): Reply {
  const { staged } = app
  if (!staged || !same(staged.id, request.segments[6])) return notFound()
  if (objectOf(request).command !== 'rotate') return restError(400, 'INVALID_ARGUMENT', 'the only command is rotate')
  app.staged = null
  rotateSecret(request, app, staged.secret)
  return ok({ ...staged, state: 'rotated' })
}

function discard(request: Request, app: App): Reply {
  if (!app.staged || !same(app.staged.id, request.segments[6])) return notFound()
  app.staged = null
  return { status: 204 }
}
