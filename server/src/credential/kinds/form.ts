/** The form of a kind at a provider, and what somebody wrote into it. */
import type { ErrorIssue } from '@fairlead/contract'
import { Failure } from '../../errors.ts'
import { fieldFault } from '../../provider/form.ts'
import type { FormField, Provider } from '../../provider/schema.ts'
import type { Given, Kind } from './kind.ts'

/** Fields of the kind, worded by provider data, and what provider data asks for besides. */
export function formOf(kind: Kind, { credentials = {} }: Provider): Record<string, FormField> {
  const own = Object.entries(kind.fields).map(([name, field]): [string, FormField] => [
    name,
    { ...field, ...credentials[name] },
  ])
  return { ...credentials, ...Object.fromEntries(own) }
}

/** Limits of the wire contract: what people type, and everything else, such as a private key. */
const longestTyped = 1024
const longest = 16_384
const typed = new Set(['apiKey', 'username', 'password'])

/** Members of the wire's bodies that say what kind they are. */
const notFields = new Set(['type', 'assertionOption'])

/**
 * What was given, checked against the form. `settings`: what the integration sets for all of its connections. Throws `invalid_body` with
 * every fault, `credential_automated`, and the wire's own codes of a missing client.
 */
export function readGiven(kind: Kind, provider: Provider, body: Record<string, unknown>, settings: Given): Given {
  const form = formOf(kind, provider)
  const isFree = Object.keys(form).length === 0
  const given: Record<string, string> = {}
  const issues: ErrorIssue[] = []
  const refuse = (name: string, message: string) => issues.push({ code: 'custom', message, path: [name] })

  for (const [name, value] of Object.entries(body)) {
    if (notFields.has(name)) continue
    const field = Object.hasOwn(form, name) ? form[name] : undefined
    if (!field && !isFree) refuse(name, `is not asked for. The form has ${Object.keys(form).join(', ')}.`)
    else if (typeof value !== 'string') refuse(name, 'must be a text.')
    else if (field?.automated || Object.hasOwn(settings, name))
      throw new Failure('credential_automated', { payload: { name } })
    else if (value !== '') {
      const fault = fieldFault(field, value, typed.has(name) ? longestTyped : longest)
      if (fault) refuse(name, `${field?.title ?? name} ${fault}`)
      given[name] = value
    }
  }
  for (const [name, field] of Object.entries(form)) {
    if (given[name] !== undefined || field.automated || Object.hasOwn(settings, name)) continue
    if (field.default_value !== undefined) given[name] = field.default_value
    else if (!field.optional) {
      if (name === 'client_id') throw new Failure('missing_client_id')
      refuse(name, `${field.title ?? name} is needed.`)
    }
  }
  if (kind.name === 'oauth2-client' && !given.client_secret && !given.client_private_key && !settings.client_secret)
    throw new Failure('missing_client_secret')
  if (issues.length > 0) {
    const message = issues.map(issue => issue.message).join(' ')
    throw new Failure('invalid_body', { message, issues })
  }
  return given
}
