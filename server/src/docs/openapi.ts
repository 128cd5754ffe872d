/** The OpenAPI document: what the routes say of themselves, with what they cannot know. Machines read it at /openapi.json, people at /docs/api. */
import * as contract from '@fairlead/contract'
import { api } from '../http/api.ts'

export interface Schema {
  $ref?: string
  type?: string | string[]
  description?: string
  enum?: unknown[]
  const?: unknown
  format?: string
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: Schema | boolean
  example?: unknown
}

type Content = Record<string, { schema: Schema; example?: unknown }>

export interface Operation {
  operationId: string
  tags: string[]
  summary?: string
  description?: string
  security?: Record<string, string[]>[]
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema: Schema }[]
  requestBody?: { required?: boolean; content: Content }
  responses: Record<string, { description: string; content?: Content }>
}

export interface Document {
  openapi: string
  info: { title: string; version: string; description: string }
  servers: { url: string }[]
  tags: { name: string }[]
  paths: Record<string, Record<string, Operation>>
  components: {
    schemas: Record<string, Schema>
    securitySchemes: Record<string, { type: string; description: string }>
  }
}

const securitySchemes = {
  apiKey: {
    type: 'http',
    scheme: 'bearer',
    description: 'An API key of one environment. It decides the environment; what it may do is said by its scopes.',
  },
  connectSession: {
    type: 'http',
    scheme: 'bearer',
    description: 'The token of a connect session, for the browser of one end user, for half an hour.',
  },
  operator: {
    type: 'apiKey',
    in: 'cookie',
    name: 'fairlead_operator',
    description: 'Whoever is signed in to the dashboard with this browser.',
  },
} as const

/** Named after the contract's own names for them. */
const operationIds = new Map<string, string>(
  Object.entries(contract).flatMap(([name, value]) =>
    isRoute(value) ? [[`${value.method} ${value.path}`, name]] : [],
  ),
)

function isRoute(value: unknown): value is { method: string; path: string } {
  return typeof value === 'object' && value !== null && 'method' in value && 'path' in value && 'responses' in value
}

/** Served elsewhere: before the router, or as a page. */
const described = [
  contract.beginSignIn,
  contract.getMetrics,
  contract.proxyGet,
  contract.proxyPost,
  contract.proxyPut,
  contract.proxyPatch,
  contract.proxyDelete,
]

export function openApi(routes: ReturnType<typeof api>, url: string, version: string): Document {
  const all = api()
  all.route('/', routes)
  for (const route of described) all.openAPIRegistry.registerPath(route)
  const description = `Errors have one envelope, and its \`code\` is stable: ${url}/docs/errors`
  const made = all.getOpenAPI31Document({
    openapi: '3.1.0',
    info: { title: 'Fairlead', version, description },
    servers: [{ url }],
  })
  // What the generator makes is the document it says, in types of its own.
  const document = made as unknown as Document
  document.components.securitySchemes = securitySchemes
  for (const [path, operations] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(operations)) {
      operation.operationId = operationIds.get(`${method} ${path}`) ?? `${method} ${path}`
      operation.tags = [path.split('/')[1]!]
    }
  const names = Object.values(document.paths).flatMap(operations => Object.values(operations)[0]!.tags)
  document.tags = [...new Set(names)].sort().map(name => ({ name }))
  return document
}
