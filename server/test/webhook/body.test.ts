import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  authWebhook,
  causes,
  forwardWebhook,
  ownWebhook,
  states,
  type WebhookEventName,
  webhookEvents,
} from '@fairlead/contract'
import type { Hooks } from '../../src/provider/hooks.ts'
import { type About, bodyOf, type WebhookEvent } from '../../src/webhook/body.ts'

const about: About = {
  provider: 'acme',
  tags: { plan: 'gold', end_user_id: 'ada' },
  end_user: { id: 'ada', email: 'ada@example.com', tags: { '10': 'ten', b: 'b', '1': 'one' } },
  organization: { id: 'org', display_name: 'Org' },
  health: 'active',
  cause: null,
  said: null,
  paused: false,
  since: '2026-11-22T01:02:03.456+00:00',
}
const event = (name: WebhookEventName, changed: Partial<About> = {}): WebhookEvent => ({
  id: '0b7c3f9e-4a60-4b88-9a51-4c1c6f5d2e10',
  sequence: 7,
  environment: 'dev',
  name,
  connectionId: 'c-1',
  providerConfigKey: 'crm',
  about: { ...about, ...changed },
  payload: null,
  createdAt: new Date('2026-05-04T03:02:01.000Z'),
})
const acme = { name: 'acme', display_name: 'Acme', auth_mode: 'OAUTH2' } as const
/** One that knows what one word means. */
const hooks: Hooks = {
  explain: ({ error, description, exits, config }) => {
    assert.deepEqual([exits, config], [[], {}], 'nothing that may change between two attempts')
    if (error !== 'invalid_grant')
      return { code: 'unknown', title: 'Unknown', explanations: [{ text: error, fix: 'Ask.' }] }
    return {
      code: 'token_gone',
      title: 'The token is gone',
      explanations: [{ text: description, fix: 'Sign in again.' }],
    }
  },
}
const body = (one: WebhookEvent): string => bodyOf(one, { get: () => acme, hooks: () => hooks })

const shared =
  '"connectionId":"c-1","providerConfigKey":"crm","authMode":"OAUTH2","provider":"acme","environment":"dev"'
const rest =
  '"tags":{"plan":"gold","end_user_id":"ada"},"endUser":{"endUserId":"ada","endUserEmail":"ada@example.com","organizationId":"org","tags":{"1":"one","10":"ten","b":"b"}}'

// Byte for byte: clients compare a hash of what they parsed and wrote out again.
for (const [name, text] of [
  ['connection.created', `{"from":"nango","type":"auth",${shared},"operation":"creation","success":true,${rest}}`],
  ['connection.reauthorised', `{"from":"nango","type":"auth",${shared},"operation":"override","success":true,${rest}}`],
  [
    'connection.needs_reauth',
    `{"from":"nango","type":"auth",${shared},"operation":"refresh","success":false,${rest},"error":{"type":"invalid_grant","description":"${causes.invalid_grant}"}}`,
  ],
] as const)
  test(`${name} is the wire contract's body, to the byte`, () => {
    const failed = name === 'connection.needs_reauth'
    const written = body(event(name, failed ? { health: 'needs_reauth', cause: 'invalid_grant' } : {}))
    assert.equal(written, text)
    assert.equal(JSON.stringify(JSON.parse(written)), written, 'parsed and written out again it is the same')
    authWebhook.parse(JSON.parse(written))
  })

test('without an end user there is none, and a cause of the provider’s own is not repeated', () => {
  const bare = { end_user: null, organization: null, tags: {}, health: 'needs_reauth' as const, cause: 'x<script>' }
  assert.equal(
    body(event('connection.needs_reauth', bare)),
    `{"from":"nango","type":"auth",${shared},"operation":"refresh","success":false,"tags":{},"error":{"type":"provider_error","description":"${causes.provider_error}"}}`,
  )
})

test('what the provider said is told as what it means and what to do, where that is known', () => {
  const refused = { health: 'needs_reauth', cause: 'invalid_grant', said: ['invalid_grant', 'expired'] } as const
  const { error } = JSON.parse(body(event('connection.needs_reauth', { ...refused, said: [...refused.said] })))
  const cause = {
    code: 'token_gone',
    title: 'The token is gone',
    explanations: [{ text: 'expired', fix: 'Sign in again.' }],
  }
  assert.deepEqual(error, { type: 'invalid_grant', description: 'The token is gone. Sign in again.', cause })
  const blocked = event('connection.blocked_by_policy', {
    ...refused,
    health: 'blocked_by_policy',
    said: [...refused.said],
  })
  const { state } = JSON.parse(body(blocked)).data
  assert.deepEqual([state.message, state.explained], ['The token is gone. Sign in again.', cause])
  // What nobody knows stays what the server itself knows of it.
  const other = JSON.parse(body(event('connection.needs_reauth', { ...refused, said: ['odd', 'words'] })))
  assert.equal(other.error.description, causes.invalid_grant)
  const paused = JSON.parse(body(event('connection.needs_reauth', { ...refused, said: null, paused: true })))
  assert.equal(paused.error.description, causes.invalid_grant)
})

test('what a provider sent is wrapped as the wire contract has it', () => {
  const written = body({ ...event('webhook.forwarded'), payload: { b: '2', a: null } })
  assert.equal(
    written,
    '{"from":"acme","type":"forward","providerConfigKey":"crm","connectionId":"c-1","payload":{"b":"2","a":null}}',
  )
  forwardWebhook.parse(JSON.parse(written))
})

const since = '2026-11-22T01:02:03.456Z'

test('an event of our own carries its order, its id and the state', () => {
  const written = body(event('connection.degraded', { health: 'degraded', cause: 'in_doubt' }))
  assert.deepEqual(JSON.parse(written), {
    from: 'fairlead',
    type: 'connection.degraded',
    id: '0b7c3f9e-4a60-4b88-9a51-4c1c6f5d2e10',
    sequence: 7,
    timestamp: '2026-05-04T03:02:01.000Z',
    environment: 'dev',
    data: {
      connection_id: 'c-1',
      provider_config_key: 'crm',
      provider: 'acme',
      state: { name: 'degraded', cause: 'in_doubt', message: causes.in_doubt, since },
      end_user_id: 'ada',
      tags: about.tags,
    },
  })
  const paused = JSON.parse(body(event('connection.paused', { paused: true })))
  assert.deepEqual(paused.data.state, { name: 'paused', cause: null, message: states.paused, since })
})

test('every event of the table has a body of its shape', () => {
  for (const [name, { type }] of Object.entries(webhookEvents)) {
    const one = event(name as WebhookEventName)
    const none = { ...one, connectionId: null, providerConfigKey: null, about: {} }
    const parsed = JSON.parse(body(name === 'webhook.test' ? none : one))
    ;({ auth: authWebhook, forward: forwardWebhook, own: ownWebhook })[type].parse(parsed)
    assert.equal(parsed.type, type === 'own' ? name : type)
  }
})
