import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'
import type { Finding, IntegrationView } from '@fairlead/contract'
import {
  type AppWanted,
  appFaults,
  appNameIn,
  appProject,
  deployments,
  rangesIn,
} from '../../../salesforce/app-project.ts'
import { setupLink } from '../../../salesforce/setup.ts'
import type { Client } from '../client.ts'
import { type Command, type Context, needed, type Result } from '../command.ts'
import { Refused, UsageFault } from '../faults.ts'
import { addressOf, createOrg, type Org } from '../org.ts'
import { facts, printable } from '../output.ts'
import { secretFrom } from '../secret.ts'
import { listAll, pathOf } from './connections.ts'

const listed = (text: string | undefined): string[] =>
  (text ?? '')
    .split(',')
    .map(part => part.trim())
    .filter(Boolean)

export const salesforce: Command[] = [
  {
    words: 'salesforce app',
    usage:
      '--name NAME --contact MAIL --out DIR [--callback URL] [--scopes a,b] [--policies] [--refresh-ips FIRST-LAST,…] [--headless] [--deploy --integration KEY --instance-url URL [--admin-token-file FILE]]',
    summary:
      'Writes an External Client App as a project that Salesforce’s tools deploy. --deploy deploys it with a one-time access token of an administrator, and gives the integration its key and secret',
    example: 'salesforce app --name Beacon --contact ops@acme.com --out ./beacon-app',
    options: [
      'name',
      'contact',
      'out',
      'callback',
      'scopes',
      'policies',
      'refresh-ips',
      'headless',
      'deploy',
      'integration',
      'instance-url',
      'admin-token-file',
    ],
    args: { min: 0, max: 0 },
    async run(context) {
      const { client, values } = context
      const wanted: AppWanted = {
        name: needed(values, 'name'),
        contact: needed(values, 'contact'),
        callbacks: values.callback === undefined ? [`${client.url}/oauth/callback`] : listed(values.callback),
        scopes: listed(values.scopes ?? 'api,refresh_token'),
        headless: values.headless ?? false,
        policies: values.policies ?? false,
        refreshRanges: rangesIn(listed(values['refresh-ips'])),
      }
      const faults = appFaults(wanted)
      if (faults.length > 0) throw new UsageFault(faults.join('\n'))
      const out = needed(values, 'out')
      // Asked for before anything is written or sent.
      const target = values.deploy ? await targetOf(context) : undefined
      const project = appProject(wanted)
      write(out, project)
      if (target) return deploy(context, target, project, out)
      return {
        json: { app: wanted.name, project: out, files: Object.keys(project) },
        text: [
          `Wrote ${Object.keys(project).length} files to ${printable(out)}. Deploy them:`,
          `  sf project deploy start --source-dir ${printable(join(out, 'force-app'))} --target-org YOUR_ORG`,
          `or: fairlead salesforce redeploy ${printable(out)} --integration KEY --instance-url https://YOUR-DOMAIN.my.salesforce.com`,
        ].join('\n'),
      }
    },
  },
  {
    words: 'salesforce redeploy',
    usage: '<project> --integration KEY --instance-url URL [--admin-token-file FILE]',
    summary:
      'Deploys a written app, again after a refresh of its sandbox, and gives the integration the new key and secret. The token is a one-time access token of an administrator',
    options: ['integration', 'instance-url', 'admin-token-file'],
    args: { min: 1, max: 1 },
    async run(context) {
      const [folder] = context.args as [string]
      const project = read(folder)
      return deploy(context, await targetOf(context), project, folder)
    },
  },
  {
    words: 'salesforce migrate',
    usage: '<integration> --instance-url URL',
    summary:
      'Says how its Connected App becomes an External Client App with the same key and secret, and whether the org knows it now. Changes nothing; run it before and after. Exit code 1 when a connection is in trouble',
    example: 'salesforce migrate salesforce --instance-url https://acme.my.salesforce.com',
    options: ['instance-url'],
    args: { min: 1, max: 1 },
    run: migrate,
  },
]

/** The button is Salesforce's, and nothing else can press it: here are the way to it and what shows that it worked. */
async function migrate({ client, args, values }: Context): Promise<Result> {
  const [integration] = args as [string]
  const { url } = addressOf(needed(values, 'instance-url'))
  await client.get(`/integrations/${encodeURIComponent(integration)}`)
  const steps = [
    {
      text: 'Setup → App Manager → the Connected App → View → Migrate to External Client App. Local apps have the button, unless they use the username-password flow.',
      link: setupLink(url, 'NavigationMenus'),
    },
    {
      text: 'Setup → External Client App Manager → the new app → Policies: permitted users, refresh token policy and IP relaxation come over, but look.',
      link: setupLink(url, 'ManageExternalClientApplication'),
    },
    { text: 'Run this again, and let one new user connect.' },
  ]
  const [one, ...others] = await listAll(client, { integrationId: integration })
  const path = one && `${pathOf(one)}/doctor`
  const { findings } = path
    ? await client.get<{ findings: Finding[] }>(path, { provider_config_key: integration })
    : { findings: [] }
  const seen = findings.filter(({ code, severity }) => code === 'app' || severity === 'error')
  return {
    json: { integration, org: url, steps, connection_id: one?.connection_id ?? null, findings: seen },
    isBad: seen.some(({ severity }) => severity === 'error'),
    text: [
      ...steps.flatMap(({ text, link }, i) => [`${i + 1}. ${text}`, ...(link ? [`   ${link}`] : [])]),
      'Key and secret stay the same: the integration needs no change, and connections go on. The Connected App becomes read-only; deleting the',
      'External Client App brings it back.',
      '',
      one
        ? `The newest of ${others.length + 1} connections, ${printable(one.connection_id)}, says now:`
        : 'There is no connection to examine yet.',
      ...seen.map(
        ({ severity, title, fix }) => `  ${severity}  ${printable(title)}${fix ? `. ${printable(fix)}` : ''}`,
      ),
    ].join('\n'),
  }
}

interface Target {
  org: Org
  integration: string
}

async function targetOf(context: Context): Promise<Target> {
  const integration = needed(context.values, 'integration')
  const address = addressOf(needed(context.values, 'instance-url'))
  const token = await secretFrom(context, 'admin-token-file', 'Access token of an administrator')
  if (!/^[\x21-\x7e]+$/.test(token)) throw new UsageFault('The access token must be one line without spaces.')
  return { org: createOrg(address, token), integration }
}

async function deploy(
  { client, screen }: Context,
  { org, integration }: Target,
  project: Record<string, string>,
  folder: string,
): Promise<Result> {
  const app = appNameIn(Object.keys(project))
  const steps = deployments(project)
  if (!app || steps.length === 0)
    throw new UsageFault(
      `There is no External Client App in ${printable(folder)}: write one with "fairlead salesforce app".`,
    )
  for (const [i, step] of steps.entries()) {
    screen.say(`Deploying ${app} to ${org.url}${steps.length > 1 ? ` (${i + 1} of ${steps.length})` : ''} …`)
    await org.deploy(step)
  }
  const read = await org.credentials(app)
  if ('refusal' in read) return unread(client, org, app, integration, read.refusal)
  const stored = await fill(client, org, integration, read)
  return {
    json: { app, org: org.url, deployed: true, credentials: 'stored', client_id: read.key, integration: stored },
    text: [
      facts([
        ['App', app],
        ['Deployed to', org.url],
        ['Integration', printable(stored.unique_key)],
        ['Client id', printable(read.key)],
        ['Client secret', 'stored'],
      ]),
      'Salesforce may need up to ten minutes until it knows the app everywhere. Connections made with the app of before connect anew.',
    ].join('\n'),
  }
}

/** The secret goes from the org to the server and is shown to nobody. */
async function fill(
  client: Client,
  org: Org,
  key: string,
  { key: client_id, secret: client_secret }: { key: string; secret: string },
): Promise<IntegrationView> {
  const credentials = { type: 'OAUTH2', client_id, client_secret }
  const path = `/integrations/${encodeURIComponent(key)}`
  const exists = await client.get(path).then(
    () => true,
    error => {
      if (error instanceof Refused && error.status === 404) return false
      throw error
    },
  )
  const provider = org.sandbox ? 'salesforce-sandbox' : 'salesforce'
  const { data } = exists
    ? await client.patch<{ data: IntegrationView }>(path, { credentials })
    : await client.post<{ data: IntegrationView }>('/integrations', { unique_key: key, provider, credentials })
  return data
}

function unread(client: Client, org: Org, app: string, integration: string, refusal: string): Result {
  const page = setupLink(org.url, 'ManageExternalClientApplication')
  return {
    json: { app, org: org.url, deployed: true, credentials: 'not_readable', reason: refusal },
    text: [
      `${app} is deployed to ${org.url}, but the org does not give its key and secret away: ${printable(refusal)}`,
      'Either let it (Setup → External Client App Settings → allow access to consumer secrets via REST API, and the permission',
      `to view them) and run this again, or copy them yourself${page ? `: ${page}` : ' from External Client App Manager'}`,
      `→ ${app.replaceAll('_', ' ')} → Settings → OAuth Settings → Consumer Key and Secret, and then:`,
      `  fairlead integrations update ${printable(integration)} --client-id KEY      (at ${client.url})`,
    ].join('\n'),
  }
}

// ── Files ───────────────────────────────────────────────────────────────────────────────────────────────────────

function write(folder: string, project: Record<string, string>): void {
  mkdirSync(folder, { recursive: true })
  if (readdirSync(folder).length > 0)
    throw new UsageFault(
      `${printable(folder)} is not empty: name a new folder, so that nothing of yours is overwritten.`,
    )
  for (const [path, text] of Object.entries(project)) {
    const file = join(folder, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
}

/** What belongs to a deployment, by path within the project. */
function read(folder: string): Record<string, string> {
  let names: string[]
  try {
    names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  } catch (error) {
    throw new UsageFault(`${printable(folder)} cannot be read (${(error as NodeJS.ErrnoException).code}).`)
  }
  const wanted = names
    .map(name => name.split(sep).join('/'))
    .filter(name => /^(force-app|policies)\/.*-meta\.xml$|^manifest\/[^/]+\.xml$/.test(name))
    .filter(name => statSync(join(folder, name)).isFile())
  return Object.fromEntries(wanted.map(name => [name, readFileSync(join(folder, name), 'utf8')]))
}
