/** What is left of a path: words and versions, and nothing that may be an id or a secret. */
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { pathTemplate } from '../../src/activity/template.ts'

const cases: [path: string, template: string][] = [
  ['/services/data/v66.0/query?q=SELECT+Secret__c', '/services/data/v66.0/query'],
  ['services/data/v66.0/limits', '/services/data/v66.0/limits'],
  ['/services/data/v66.0/sobjects/Account/001xx000003DGb2', '/services/data/v66.0/sobjects/Account/{id}'],
  ['/services/data/v66.0/sobjects/Account/001xx000003DGb2AAG', '/services/data/v66.0/sobjects/Account/{id}'],
  ['/services/data/v66.0/sobjects/Address2__c/describe', '/services/data/v66.0/sobjects/Address2__c/describe'],
  [
    '/services/data/v66.0/composite/tree/AccountContactRelation',
    '/services/data/v66.0/composite/tree/AccountContactRelation',
  ],
  ['/services/oauth2/userinfo', '/services/oauth2/userinfo'],
  ['/crm/v3/objects/contacts/12345', '/crm/v3/objects/contacts/{id}'],
  ['/chat.postMessage', '/chat.postMessage'],
  ['/v1/customers/cus_NffrFeUfNV2Hib', '/v1/customers/{id}'],
  ['/admin/api/2024-10/orders/450789469.json', '/admin/api/2024-10/orders/{id}'],
  ['/calendars/ada@example.com/events', '/calendars/{id}/events'],
  ['/users/Jos%C3%A9/x', '/users/{id}/x'],
  [`/v9.2/contacts(${randomUUID()})/name`, '/v9.2/contacts({id})/name'],
  ['/v4/spreadsheets/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgVE2upms:batchUpdate', '/v4/spreadsheets/{id}:batchUpdate'],
  [`/jobs/${randomUUID()}/results`, '/jobs/{id}/results'],
  ['/x/deadbeefcafe', '/x/{id}'],
  ['/x;jsessionid=abc/y', '/{id}/y'],
  ['/a#fragment', '/a'],
  ['/a//b/', '/a//b/'],
  ['', '/'],
  ['?q=1', '/'],
]
for (const [path, template] of cases) test(`${path} → ${template}`, () => assert.equal(pathTemplate(path), template))

test('a secret in a path is not kept', () => {
  const jwt = `eyJhbGciOiJSUzI1NiJ9.eyJ${randomBytes(20).toString('base64url')}.${randomBytes(32).toString('base64url')}`
  for (const secret of [
    '00D8d000000abcd!AQ4Aabcdefgh',
    jwt,
    randomUUID(),
    `pat-na1-${randomUUID()}`,
    `sk_live_${randomBytes(18).toString('base64url')}`,
    ...Array.from({ length: 300 }, () => randomBytes(24).toString('base64url')),
    ...Array.from({ length: 300 }, () => randomBytes(16).toString('hex')),
  ])
    assert.equal(pathTemplate(`/oauth/tokens/${secret}/revoke`), '/oauth/tokens/{id}/revoke')
})

test('however long it is', () => {
  assert.ok(pathTemplate('/word'.repeat(10_000)).length <= 255)
  assert.ok(pathTemplate(`/${'worded'.repeat(10_000)}`).length <= 255)
  assert.ok(pathTemplate('/averylongwordthatissaidtobeone'.repeat(20)).length <= 255)
})
