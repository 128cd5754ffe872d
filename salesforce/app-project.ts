/**
 * The External Client App as a project that Salesforce's own tools deploy: every setting the guide explains, already right. Policies are a
 * package directory of their own, deployed second: Salesforce makes some itself when the app is made, and a duplicate fails. Never in it:
 * the consumer key and secret, and what the server assigns. Pure. The CLI writes and deploys it, the server offers it as a download.
 */
import { zip } from './zip.ts'

export interface AppWanted {
  /** API name. */
  name: string
  callbacks: string[]
  /** Salesforce writes to it when something about the app changes. */
  contact: string
  /** As OAuth spells them. */
  scopes: string[]
  /**
   * "Authorization Code and Credentials Flow": sign-in without a browser. Off: with it, whoever holds the app's secret signs users in with
   * their passwords, and the flow Fairlead uses does not need it.
   */
  headless: boolean
  /** Also write policies: everybody may authorize, refresh tokens live while used, IP restrictions as in the users' profiles. */
  policies: boolean
  /** From where refresh tokens may be used; empty: from anywhere. */
  refreshRanges: { start: string; end: string }[]
}

/** The oldest version that has every element written here is 60; this is what the elements were checked against. */
export const apiVersion = '66.0'

/** OAuth's name of a scope → the metadata's (ConnectedAppOauthAccessScope). */
const scopeNames: Record<string, string> = {
  address: 'Address',
  api: 'Api',
  cdp_api: 'CDP',
  cdp_calculated_insight_api: 'CDPCalculatedInsight',
  cdp_identityresolution_api: 'CDPIdentityResolution',
  cdp_ingest_api: 'CDPIngest',
  cdp_profile_api: 'CDPProfile',
  cdp_query_api: 'CDPQuery',
  cdp_segment_api: 'CDPSegment',
  chatbot_api: 'Chatbot',
  chatter_api: 'Chatter',
  content: 'Content',
  custom_permissions: 'CustomPermissions',
  eclair_api: 'Eclair',
  einstein_gpt_api: 'EinsteinGPT',
  email: 'Email',
  full: 'Full',
  id: 'Basic',
  interaction_api: 'Interaction',
  lightning: 'Lightning',
  mcp_api: 'MCP',
  offline_access: 'OfflineAccess',
  openid: 'OpenID',
  pardot_api: 'Pardot',
  phone: 'Phone',
  profile: 'Profile',
  refresh_token: 'RefreshToken',
  scrt_api: 'SCRT',
  sfap_api: 'SFAP',
  visualforce: 'CustomApplications',
  wave_api: 'Wave',
  web: 'Web',
}

/** Salesforce's limit for all of them together. */
const callbacksLength = 2000

/** What is wrong with it, in words for whoever wrote it; empty when nothing is. */
export function appFaults(wanted: AppWanted): string[] {
  const { name, callbacks, contact, scopes, refreshRanges } = wanted
  const faults: string[] = []
  if (!/^[a-z](_?[a-z0-9])*$/i.test(name) || name.length > 70)
    faults.push(
      'The name must begin with a letter and have letters, digits and single underscores only, e.g. Acme_Connect; at most 70 characters.',
    )
  if (!/^[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+$/.test(contact)) faults.push('The contact must be an e-mail address.')
  if (callbacks.length === 0) faults.push('There is no callback URL.')
  for (const callback of callbacks) {
    const url = URL.canParse(callback) ? new URL(callback) : undefined
    if (!url || /[\s#]/.test(callback) || url.username || url.password)
      faults.push(`"${callback}" is not a URL that can be a callback.`)
    else if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback(url.hostname)))
      faults.push(`Salesforce takes "${callback}" only with https; plain http is for localhost alone.`)
  }
  if (callbacks.join('\n').length > callbacksLength)
    faults.push(`All callback URLs together may have ${callbacksLength} characters.`)
  const unknown = scopes.filter(scope => !Object.hasOwn(scopeNames, scope))
  if (unknown.length > 0) faults.push(`Salesforce has no scope ${unknown.map(scope => `"${scope}"`).join(', ')}.`)
  if (scopes.length === 0) faults.push('An app without scopes can do nothing: give api and refresh_token at least.')
  for (const { start, end } of refreshRanges) {
    const [from, to] = [ipv4(start), ipv4(end)]
    if (from === undefined || to === undefined || from > to)
      faults.push(`"${start}-${end}" is not a range of IPv4 addresses, the lower one first.`)
  }
  return faults
}

/** `203.0.113.1-203.0.113.9`, or one address alone. Whether they are addresses is `appFaults`' to say. */
export const rangesIn = (texts: readonly string[]): AppWanted['refreshRanges'] =>
  texts.map(text => {
    const [start = '', end = start] = text.split('-').map(part => part.trim())
    return { start, end }
  })

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)

function ipv4(text: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number)
  if (!parts || parts.some(part => part > 255)) return undefined
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

// ── Metadata ────────────────────────────────────────────────────────────────────────────────────────────────────

type Value = string | boolean | Value[] | { [element: string]: Value }

interface Component {
  type: string
  folder: string
  suffix: string
  name: string
  /** In the order they are written: alphabetical, as Salesforce writes them on retrieval. */
  elements: Record<string, Value>
}

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' }
const escaped = (text: string): string => text.replace(/[&<>"']/g, char => escapes[char]!)

function element(name: string, value: Value, indent: string): string {
  if (Array.isArray(value)) return value.map(one => element(name, one, indent)).join('')
  if (typeof value !== 'object') return `${indent}<${name}>${escaped(String(value))}</${name}>\n`
  const inner = Object.entries(value).map(([child, one]) => element(child, one, `${indent}    `))
  return `${indent}<${name}>\n${inner.join('')}${indent}</${name}>\n`
}

const document = (root: string, elements: Record<string, Value>): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://soap.sforce.com/2006/04/metadata">\n${Object.entries(
    elements,
  )
    .map(([name, value]) => element(name, value, '    '))
    .join('')}</${root}>\n`

function components(wanted: AppWanted): { app: Component[]; policies: Component[] } {
  const { name, contact, callbacks, scopes, headless, refreshRanges } = wanted
  const of = { externalClientApplication: name }
  const label = name.replaceAll('_', ' ')
  const app: Component[] = [
    {
      type: 'ExternalClientApplication',
      folder: 'externalClientApps',
      suffix: 'eca',
      name,
      elements: {
        contactEmail: contact,
        description: 'Signs users in for Fairlead, which calls Salesforce on their behalf.',
        // The only state that works in a sandbox; Packaged is for apps installed in other companies' orgs.
        distributionState: 'Local',
        isProtected: false,
        label,
      },
    },
    {
      type: 'ExtlClntAppGlobalOauthSettings',
      folder: 'extlClntAppGlobalOauthSets',
      suffix: 'ecaGlblOauth',
      name: `${name}_glbloauth`,
      elements: {
        callbackUrl: callbacks.join('\n'),
        ...of,
        isClientCredentialsFlowEnabled: false,
        isCodeCredFlowEnabled: headless,
        isConsumerSecretOptional: false,
        isDeviceFlowEnabled: false,
        isIntrospectAllTokens: false,
        isPkceRequired: true,
        isRefreshTokenRotationEnabled: true,
        isSecretRequiredForRefreshToken: true,
        label: `${label} global OAuth settings`,
        shouldRotateConsumerKey: false,
        shouldRotateConsumerSecret: false,
      },
    },
    {
      type: 'ExtlClntAppOauthSettings',
      folder: 'extlClntAppOauthSettings',
      suffix: 'ecaOauth',
      name: `${name}_oauth`,
      elements: {
        commaSeparatedOauthScopes: scopes.map(scope => scopeNames[scope] ?? scope).join(','),
        ...of,
        label: `${label} OAuth settings`,
      },
    },
  ]
  if (refreshRanges.length > 0)
    app.push({
      type: 'ExtlClntAppOauthSecuritySettings',
      folder: 'extlClntAppOauthSecuritySettings',
      suffix: 'ecaOauthSecurity',
      name: `${name}_oauthSecurity`,
      elements: {
        ...of,
        label: `${label} OAuth security settings`,
        tokenIpRanges: refreshRanges.map(({ start, end }) => ({ endIpAddress: end, startIpAddress: start })),
      },
    })
  const policies: Component[] = wanted.policies
    ? [
        {
          type: 'ExtlClntAppOauthConfigurablePolicies',
          folder: 'extlClntAppOauthPolicies',
          suffix: 'ecaOauthPlcy',
          name: `${name}_oauthPlcy`,
          elements: {
            ...of,
            ipRelaxationPolicyType: 'Enforce',
            label: `${label} OAuth policies`,
            permittedUsersPolicyType: 'AllSelfAuthorized',
            // What Salesforce imposes where it limits idle tokens, and well within what keeping connections alive reaches.
            refreshTokenPolicyType: 'SpecificInactivity',
            refreshTokenValidityPeriod: '30',
            refreshTokenValidityUnit: 'Days',
          },
        },
        {
          type: 'ExtlClntAppConfigurablePolicies',
          folder: 'extlClntAppPolicies',
          suffix: 'ecaPlcy',
          name: `${name}_plcy`,
          elements: { ...of, isEnabled: true, isOauthPluginEnabled: true, label: `${label} policies` },
        },
      ]
    : []
  return { app, policies }
}

const manifest = (all: Component[]): string =>
  document('Package', {
    types: all.toSorted((a, b) => (a.type < b.type ? -1 : 1)).map(({ name, type }) => ({ members: name, name: type })),
    version: apiVersion,
  })

const sourceFile = (directory: string, { folder, name, suffix, type, elements }: Component): [string, string] => [
  `${directory}/main/default/${folder}/${name}.${suffix}-meta.xml`,
  document(type, elements),
]

/** Path → text of every file. `wanted` has no faults. */
export function appProject(wanted: AppWanted): Record<string, string> {
  const { app, policies } = components(wanted)
  const directories = [{ path: 'force-app', default: true }, ...(policies.length > 0 ? [{ path: 'policies' }] : [])]
  return Object.fromEntries([
    [
      'sfdx-project.json',
      `${JSON.stringify({ packageDirectories: directories, sourceApiVersion: apiVersion }, null, 2)}\n`,
    ],
    ['README.md', readme(wanted)],
    // What is learned after a deployment is nobody's to commit.
    ['.gitignore', '.sf/\n.sfdx/\n'],
    ['manifest/package.xml', manifest(app)],
    ...app.map(one => sourceFile('force-app', one)),
    ...(policies.length > 0 ? [['manifest/policies.xml', manifest(policies)] as [string, string]] : []),
    ...policies.map(one => sourceFile('policies', one)),
  ])
}

/**
 * What is deployed, in order, in the form of the Metadata API: the project's files with `-meta.xml` gone, each step beside its
 * `package.xml`. Reads a project's files, so that one changed by hand deploys as it stands.
 */
export function deployments(project: Readonly<Record<string, string>>): Buffer[] {
  const step = (directory: string, packageXml: string): Buffer[] => {
    const files = Object.entries(project).flatMap(([path, text]): [string, string][] => {
      const inside = path.startsWith(`${directory}/main/default/`)
        ? path.slice(`${directory}/main/default/`.length)
        : ''
      return inside.endsWith('-meta.xml') ? [[inside.slice(0, -'-meta.xml'.length), text]] : []
    })
    const listed = project[packageXml]
    return files.length > 0 && listed !== undefined
      ? [zip(Object.fromEntries([['package.xml', listed], ...files]))]
      : []
  }
  return [...step('force-app', 'manifest/package.xml'), ...step('policies', 'manifest/policies.xml')]
}

/** The app's API name, from its header's file; undefined when the files are no project of an app. */
export const appNameIn = (paths: string[]): string | undefined =>
  paths.map(path => /\/externalClientApps\/([A-Za-z0-9_]+)\.eca-meta\.xml$/.exec(path)?.[1]).find(Boolean)

const readme = ({ name, callbacks, policies }: AppWanted): string => `# ${name}: an External Client App for Fairlead

Callback ${callbacks.length === 1 ? 'URL' : 'URLs'}: ${callbacks.join(' ')}

With the Salesforce CLI, for one org at a time (a local app is known only where it was deployed):

    sf org login web --instance-url https://YOUR-DOMAIN.my.salesforce.com --alias org
    sf project deploy start --dry-run --source-dir force-app --target-org org
    sf project deploy start --source-dir force-app --target-org org
${policies ? '    sf project deploy start --source-dir policies --target-org org\n' : ''}
If Salesforce made policies of its own and the second step reports a duplicate, change those in Setup instead.

Then Setup → External Client App Manager → ${name.replaceAll('_', ' ')} → Settings → OAuth Settings → Consumer Key and Secret. Wait up to ten
minutes before the first sign-in. After a refresh of a sandbox, deploy again: the app is gone with the old org.

Or with Fairlead, which also fills in its integration:

    fairlead salesforce redeploy . --integration KEY --instance-url https://YOUR-DOMAIN.my.salesforce.com
`
