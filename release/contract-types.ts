/**
 * The contract's types as TypeScript text, for packages that name them and are shipped without the contract. Made from the schemas
 * themselves, descriptions included, so that there is no second copy to go stale.
 */
import * as contract from '@fairlead/contract'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { ZodType } from 'zod'

/** Every type a shipped package may name: its schema. A type that is missing here does not stage: tsc does not find it. */
const schemas: Record<string, ZodType> = {
  ActivityView: contract.activityView,
  ApiKeyView: contract.apiKey,
  AuthWebhook: contract.authWebhook,
  ConnectResult: contract.connectResult,
  ConnectSessionRequest: contract.connectSessionRequest,
  ConnectionView: contract.connectionView,
  Delivery: contract.delivery,
  EncryptionView: contract.encryption,
  Erasure: contract.erasure,
  Finding: contract.finding,
  ForwardWebhook: contract.forwardWebhook,
  IntegrationChange: contract.integrationChange,
  IntegrationView: contract.integration,
  IntegrationWithSecrets: contract.integrationWithSecrets,
  ListedConnection: contract.listedConnection,
  NewIntegration: contract.newIntegration,
  NewWebhookAddress: contract.newWebhookAddress,
  OwnWebhook: contract.ownWebhook,
  PersonExport: contract.personExport,
  PersonTarget: contract.personTarget,
  ProviderView: contract.providerView,
  Receipt: contract.receipt,
  ReconnectSessionRequest: contract.reconnectSessionRequest,
  SessionOpened: contract.sessionOpened,
  SettingsView: contract.settingsView,
  Severity: contract.severity,
  Standing: contract.connectionStanding,
  StateName: contract.stateName,
}

interface Schema {
  $ref?: string
  type?: string | string[]
  description?: string
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: Schema | boolean
}

export function contractTypes(): string {
  const app = new OpenAPIHono()
  for (const [name, schema] of Object.entries(schemas)) app.openAPIRegistry.register(name, schema)
  const document = app.getOpenAPI31Document({ openapi: '3.1.0', info: { title: '', version: '' } })
  const found = (document.components?.schemas ?? {}) as Record<string, Schema>
  const codes = Object.keys(contract.errors).map(code => `  | '${code}'`)
  return [
    '// Made from the schemas of the contract.',
    ...Object.entries(found).map(
      ([name, schema]) => `${comment(schema, '')}export type ${name} = ${print(schema, '')}\n`,
    ),
    `export type ErrorCode =\n${codes.join('\n')}\n`,
    `export interface ErrorIssue {\n  code: string\n  message: string\n  path: (string | number)[]\n}\n`,
    `export interface ErrorEnvelope {\n  error: { code: string; message: string; errors?: ErrorIssue[]; payload?: unknown }\n}\n`,
  ].join('\n')
}

function print(schema: Schema, indent: string): string {
  const { $ref, type, anyOf, oneOf, allOf } = schema
  if ($ref) return $ref.slice($ref.lastIndexOf('/') + 1)
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.enum) return schema.enum.map(value => JSON.stringify(value)).join(' | ')
  if (anyOf ?? oneOf) return (anyOf ?? oneOf)!.map(one => print(one, indent)).join(' | ')
  if (allOf) return allOf.map(one => print(one, indent)).join(' & ')
  if (Array.isArray(type)) return type.map(one => print({ ...schema, type: one }, indent)).join(' | ')
  if (type === 'array') return listOf(print(schema.items ?? {}, indent))
  if (type === 'object') return printObject(schema, indent)
  if (type === 'integer') return 'number'
  return type ?? 'unknown'
}

const listOf = (item: string): string => (/^\w+$/.test(item) ? `${item}[]` : `(${item})[]`)

function printObject({ properties = {}, required = [], additionalProperties }: Schema, indent: string): string {
  const inner = `${indent}  `
  const members = Object.entries(properties).map(([name, member]) => {
    const key = /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name)
    const optional = required.includes(name) ? '' : '?'
    return `${comment(member, inner)}${inner}${key}${optional}: ${print(member, inner)}${optional && ' | undefined'}`
  })
  const open = typeof additionalProperties === 'object' || additionalProperties === true
  if (members.length === 0)
    return `Record<string, ${typeof additionalProperties === 'object' ? print(additionalProperties, indent) : 'unknown'}>`
  // Members beside an index signature must fit it, so what is left open is unknown.
  return `{\n${members.join('\n')}${open ? `\n${inner}[name: string]: unknown` : ''}\n${indent}}`
}

const comment = ({ description }: Schema, indent: string): string =>
  description ? `${indent}/** ${description.replaceAll('*/', '*\\/')} */\n` : ''
