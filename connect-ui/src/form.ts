/**
 * What is asked of a person before a sign-in or instead of one, from provider data alone. Pure: which fields there are, what is wrong with
 * a value, and where the answers go (wire contract §11).
 */
import type { Provider } from './api.ts'
import type { Key } from './words/en.ts'

/** A field of provider data. */
export interface Field {
  type?: string
  title?: string
  description?: string
  example?: string
  pattern?: string
  optional?: boolean
  format?: string
  order?: number
  default_value?: string
  hidden?: boolean
  prefix?: string
  suffix?: string
  doc_section?: string
  secret?: boolean
  automated?: boolean
  enum?: string[]
  /** A form of its own in this page; one it does not know is a text field. */
  widget?: string
  /** Names of other fields with the value, or the values, they must have. */
  visible_when?: Record<string, string | string[]>
}

export interface Asked extends Field {
  name: string
  /** `params` says where the account is, `credentials` opens it. */
  of: 'params' | 'credentials'
  /** What the page calls it when the data does not. */
  titleKey?: Key
}

export type Values = Record<string, string>

const idOf = ({ of, name }: Pick<Asked, 'of' | 'name'>): string => `${of}.${name}`

export { idOf }

/** Sign-ins that happen at the provider; every other kind is done with this form. */
const atProvider = new Set(['OAUTH2', 'OAUTH1', 'CUSTOM', 'APP', 'MCP_OAUTH2', 'MCP_OAUTH2_GENERIC', 'INSTALL_PLUGIN'])
export const signsInThere = ({ auth_mode, installation }: Provider): boolean =>
  atProvider.has(auth_mode) && installation !== 'outbound'

/** What a kind needs although its data may not say so. */
const base: Record<string, Record<string, { titleKey: Key; secret?: boolean; optional?: boolean }>> = {
  API_KEY: { apiKey: { titleKey: 'fieldApiKey', secret: true } },
  BASIC: {
    username: { titleKey: 'fieldUsername' },
    password: { titleKey: 'fieldPassword', secret: true, optional: true },
  },
  SIGNATURE: { username: { titleKey: 'fieldUsername' }, password: { titleKey: 'fieldPassword', secret: true } },
  OAUTH2_CC: {
    client_id: { titleKey: 'fieldClientId' },
    client_secret: { titleKey: 'fieldClientSecret', secret: true },
  },
}

/** What one sign-in may bring along (wire contract §13), where its session leaves it open. */
const brought: Record<string, Field & { titleKey: Key }> = {
  oauth_client_id_override: { titleKey: 'fieldClientId' },
  oauth_client_secret_override: { titleKey: 'fieldClientSecret', secret: true },
  oauth_refresh_token_override: { titleKey: 'fieldRefreshToken', secret: true },
}

/**
 * Every field that is asked, in order. `known`: what the session or an earlier sign-in answered already; `open`: what the session names and
 * leaves empty.
 */
export function fieldsOf(provider: Provider, known: ReadonlySet<string>, open: readonly string[] = []): Asked[] {
  const credentials: Record<string, Field & { titleKey?: Key }> = signsInThere(provider)
    ? Object.fromEntries(
        Object.entries(brought).filter(([name]) => provider.auth_mode === 'OAUTH2' && open.includes(name)),
      )
    : { ...base[provider.auth_mode] }
  if (!signsInThere(provider))
    for (const [name, field] of Object.entries(provider.credentials ?? {}))
      credentials[name] = { ...credentials[name], ...field }
  const asked = [
    ...Object.entries(provider.connection_config ?? {})
      .filter(([name]) => !known.has(name))
      .map(([name, field]): Asked => ({ ...field, name, of: 'params' })),
    ...Object.entries(credentials).map(([name, field]): Asked => ({ ...field, name, of: 'credentials' })),
  ]
  return asked.filter(field => !field.automated && !field.hidden).sort((a, b) => (a.order ?? 0) - (b.order ?? 0))
}

/** `visible_when`: every field named there has one of the values named there. */
export const isVisible = (field: Asked, fields: Asked[], values: Values): boolean =>
  Object.entries(field.visible_when ?? {}).every(([name, wanted]) => {
    const other = fields.find(one => one.name === name)
    return other && isVisible(other, fields, values) && [wanted].flat().includes(values[idOf(other)] ?? '')
  })

/** Somebody who pastes the whole of it means the part that is asked. */
export function withoutAffixes(field: Field, value: string): string {
  let text = value.trim()
  if (field.prefix && text.startsWith(field.prefix)) text = text.slice(field.prefix.length)
  if (field.suffix && text.endsWith(field.suffix)) text = text.slice(0, -field.suffix.length)
  return text
}

/** What is wrong with a value, as the key of a sentence; undefined when nothing is. The server decides by the same rules. */
export function faultOf(field: Field, value: string): Key | undefined {
  if (value === '') return field.optional || field.default_value !== undefined ? undefined : 'faultRequired'
  if (value.length > (field.secret ? 16_384 : 1024)) return 'faultLong'
  if (field.enum) return field.enum.includes(value) ? undefined : 'faultPattern'
  if (field.format === 'hostname' && !/^[a-z0-9-]+(\.[a-z0-9-]+)*$/i.test(value)) return 'faultHost'
  if (field.format === 'uri' && !URL.canParse(value)) return 'faultUri'
  if (field.format === 'uuid' && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) return 'faultUuid'
  if (field.format === 'email' && !/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(value)) return 'faultEmail'
  if (field.pattern && !new RegExp(field.pattern).test(value)) return 'faultPattern'
  return undefined
}

export interface Given {
  params: Values
  credentials: Values
}

/** What was answered, without what is empty or not shown. */
export function given(fields: Asked[], values: Values): Given {
  const answered: Given = { params: {}, credentials: {} }
  for (const field of fields) {
    const value = values[idOf(field)] ?? field.default_value ?? ''
    if (value !== '' && isVisible(field, fields, values)) answered[field.of][field.name] = value
  }
  return answered
}

/** Where the credentials of a kind go, and as what. */
const paths: Record<string, string> = {
  API_KEY: '/api-auth/api-key/',
  BASIC: '/api-auth/basic/',
  OAUTH2: '/auth/oauth-outbound/',
  OAUTH2_CC: '/oauth2/auth/',
  TWO_STEP: '/auth/two-step/',
  JWT: '/auth/jwt/',
  TBA: '/auth/tba/',
  BILL: '/auth/bill/',
  SIGNATURE: '/auth/signature/',
  AWS_SIGV4: '/auth/aws-sigv4/',
  NONE: '/auth/unauthenticated/',
}
const namesItsType = new Set(['TWO_STEP', 'JWT', 'SIGNATURE'])

export function headlessRequest(provider: Provider, key: string, token: string, { params, credentials }: Given) {
  const query = new URLSearchParams({ connect_session_token: token })
  for (const [name, value] of Object.entries(params)) query.set(`params[${name}]`, value)
  const kind = provider.auth_mode
  const body = {
    ...(kind === 'BASIC' && { username: '', password: '' }),
    ...credentials,
    ...(namesItsType.has(kind) && { type: kind }),
  }
  return { path: `${paths[kind] ?? '/auth/unauthenticated/'}${encodeURIComponent(key)}?${query}`, body }
}
