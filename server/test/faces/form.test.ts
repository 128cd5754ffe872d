/** Connect UI's form, from provider data to what is sent. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Provider } from '../../../connect-ui/src/api.ts'
import {
  faultOf,
  fieldsOf,
  given,
  headlessRequest,
  idOf,
  isVisible,
  withoutAffixes,
} from '../../../connect-ui/src/form.ts'

const provider = (definition: object): Provider =>
  ({ name: 'p', display_name: 'P', logo_url: '', auth_mode: 'API_KEY', ...definition }) as Provider

const asked = (definition: object, known: string[] = []) => fieldsOf(provider(definition), new Set(known)).map(idOf)

test('what is asked follows from the kind and the data, and never what the provider itself tells', () => {
  assert.deepEqual(asked({}), ['credentials.apiKey'])
  assert.deepEqual(asked({ auth_mode: 'BASIC' }), ['credentials.username', 'credentials.password'])
  assert.deepEqual(asked({ auth_mode: 'OAUTH2_CC' }), ['credentials.client_id', 'credentials.client_secret'])
  assert.deepEqual(asked({ auth_mode: 'NONE' }), [])
  assert.deepEqual(asked({ auth_mode: 'OAUTH2', credentials: { a: {} } }), [], 'a sign-in asks for no credentials')
  const connection_config = {
    told: { automated: true },
    second: { order: 2 },
    first: { order: 1 },
    fixed: { hidden: true },
  }
  assert.deepEqual(asked({ auth_mode: 'OAUTH2', connection_config }), ['params.first', 'params.second'])
  assert.deepEqual(asked({ auth_mode: 'OAUTH2', connection_config }, ['first']), ['params.second'])
  assert.deepEqual(asked({ auth_mode: 'TWO_STEP', credentials: { domain: {}, key: {} } }), [
    'credentials.domain',
    'credentials.key',
  ])
  const [key] = fieldsOf(provider({ credentials: { apiKey: { title: 'Token', pattern: '^x' } } }), new Set())
  assert.deepEqual([key?.title, key?.secret, key?.pattern], ['Token', true, '^x'])
})

test('a value is judged by the same rules as on the server', () => {
  for (const [field, value, fault] of [
    [{}, '', 'faultRequired'],
    [{ optional: true }, '', undefined],
    [{ default_value: 'x' }, '', undefined],
    [{}, 'a'.repeat(1025), 'faultLong'],
    [{ secret: true }, 'a'.repeat(1025), undefined],
    [{ enum: ['a'] }, 'b', 'faultPattern'],
    [{ pattern: '^[a-z]+$' }, 'A', 'faultPattern'],
    [{ pattern: '^[a-z]+$' }, 'a', undefined],
    [{ format: 'hostname' }, 'https://a.example', 'faultHost'],
    [{ format: 'hostname' }, 'a.example', undefined],
    [{ format: 'uri' }, 'a.example', 'faultUri'],
    [{ format: 'uri' }, 'https://a.example', undefined],
    [{ format: 'uuid' }, '1', 'faultUuid'],
    [{ format: 'uuid' }, '123e4567-e89b-12d3-a456-426614174000', undefined],
    [{ format: 'email' }, 'a', 'faultEmail'],
    [{ format: 'email' }, 'a@b.example', undefined],
  ] as const)
    assert.equal(faultOf(field as object, value), fault, `${JSON.stringify(field)} ${value.slice(0, 20)}`)
  assert.equal(withoutAffixes({ prefix: 'https://', suffix: '.x.example' }, ' https://acme.x.example '), 'acme')
})

test('what is not shown is not sent', () => {
  const definition = provider({
    auth_mode: 'BASIC',
    connection_config: {
      plan: { enum: ['shared', 'dedicated'], order: 1 },
      cluster: { visible_when: { plan: ['dedicated'] }, order: 2 },
      zone: { visible_when: { cluster: 'c1' }, order: 3 },
    },
  })
  const fields = fieldsOf(definition, new Set())
  const values = { 'params.plan': 'shared', 'params.cluster': 'c1', 'params.zone': 'z', 'credentials.username': 'ada' }
  const zone = fields.find(({ name }) => name === 'zone')!
  assert.equal(isVisible(zone, fields, values), false, 'what it depends on is not shown itself')
  assert.deepEqual(given(fields, values), { params: { plan: 'shared' }, credentials: { username: 'ada' } })
  const { path, body } = headlessRequest(
    definition,
    'a b',
    't',
    given(fields, { ...values, 'params.plan': 'dedicated' }),
  )
  const url = new URL(path, 'http://x')
  assert.equal(url.pathname, '/api-auth/basic/a%20b')
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    connect_session_token: 't',
    'params[plan]': 'dedicated',
    'params[cluster]': 'c1',
    'params[zone]': 'z',
  })
  assert.deepEqual(body, { username: 'ada', password: '' })
  assert.deepEqual(
    headlessRequest(provider({ auth_mode: 'TWO_STEP' }), 'k', 't', { params: {}, credentials: { a: 'b' } }).body,
    {
      a: 'b',
      type: 'TWO_STEP',
    },
  )
})

test('what a session leaves open is asked for, at a sign-in of the one kind that takes it', () => {
  const open = ['oauth_client_id_override', 'oauth_client_secret_override', 'oauth_refresh_token_override', 'hostname']
  const names = (auth_mode: string) => fieldsOf(provider({ auth_mode }), new Set(open), open).map(idOf)
  assert.deepEqual(
    names('OAUTH2'),
    open.slice(0, 3).map(name => `credentials.${name}`),
  )
  assert.deepEqual(names('OAUTH1'), [])
  assert.deepEqual(fieldsOf(provider({ auth_mode: 'OAUTH2' }), new Set(open)), [])
})
