import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Secret } from '../../src/lib/secret.ts'
import { signatures } from '../../src/webhook/sign.ts'
import { verifiesStandard, verifiesWire } from './support/verify.ts'

// The specification's own vectors.
for (const [key, id, at, body, signature] of [
  [
    'whsec_plJ3nmyCDGBKInavdOK15jsl',
    'msg_loFOjxBNrRLzqYUf',
    1731705121,
    '{"event_type":"ping","data":{"success":true}}',
    'v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=',
  ],
  [
    'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    'msg_p5jXN8AQM9LWM0D4loKWxJek',
    1614265330,
    '{"test": 2432232314}',
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  ],
] as const)
  test(`the vector ${id} of Standard Webhooks`, () => {
    const headers = signatures({ id, body }, [new Secret(key)], at)
    assert.deepEqual(
      [headers['webhook-id'], headers['webhook-timestamp'], headers['webhook-signature']],
      [id, String(at), signature],
    )
  })

const keys = ['first', 'second'].map(name => `whsec_${Buffer.from(name.repeat(6)).toString('base64')}`)
const body = '{"tags":{"ключ":"ü"},"n":1}'
const at = 1_800_000_000
const sent = (signing: string[]) => ({
  body,
  headers: signatures(
    { id: 'one', body },
    signing.map(key => new Secret(key)),
    at,
  ),
})

test('during a rotation both keys verify, and the contract’s single signature is by the current one', () => {
  const both = sent(keys)
  assert.deepEqual(
    keys.map(key => verifiesStandard(both, key, at)),
    [true, true],
  )
  assert.deepEqual(
    keys.map(key => verifiesWire(both, key)),
    [true, false],
  )
})

test('nothing else verifies', () => {
  const good = sent([keys[0]!])
  assert.ok(verifiesStandard(good, keys[0]!, at))
  assert.ok(!verifiesStandard(good, keys[1]!, at), 'another key')
  assert.ok(!verifiesStandard({ ...good, body: `${body} ` }, keys[0]!, at), 'another body')
  const renamed = { ...good, headers: { ...good.headers, 'webhook-id': 'two' } }
  assert.ok(!verifiesStandard(renamed, keys[0]!, at), 'another id')
  const later = { ...good, headers: { ...good.headers, 'webhook-timestamp': String(at + 1) } }
  assert.ok(!verifiesStandard(later, keys[0]!, at), 'another instant')
  assert.ok(!verifiesWire({ ...good, body: '{}' }, keys[0]!))
})
