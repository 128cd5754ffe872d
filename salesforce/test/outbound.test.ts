/** One envelope is read, and whatever else comes is refused with a sentence that repeats nothing of it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { acknowledgement, readOutbound } from '../outbound.ts'

const org = '00DHs0000010001AAA'
const sObject = (fields: string) =>
  `<sObject xsi:type="sf:Account" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">${fields}</sObject>`
const notification = (id: string, fields = '<sf:Id>001Hs0000010002AAA</sf:Id>') =>
  `<Notification><Id>${id}</Id>${sObject(fields)}</Notification>`
const secret = '00DHs0000010001!AQcAQHsession'

function envelope(notifications: string, { before = '', organization = org } = {}): string {
  return `<?xml version="1.0" encoding="UTF-8"?>${before}
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <soapenv:Body>
    <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
      <OrganizationId>${organization}</OrganizationId>
      <ActionId>04kHs0000010003AAA</ActionId>
      <SessionId>${secret}</SessionId>
      <EnterpriseUrl>https://acme.my.salesforce.com/services/Soap/c/68.0/00DHs0000010001</EnterpriseUrl>
      <PartnerUrl>https://acme.my.salesforce.com/services/Soap/u/68.0/00DHs0000010001</PartnerUrl>
      ${notifications}
    </notifications>
  </soapenv:Body>
</soapenv:Envelope>`
}

test('a message with two notifications, as records of the REST API, without its session', async () => {
  const fields = `<sf:Id>001Hs0000010002AAA</sf:Id><sf:Name>Ä &amp; B &#x2014; &lt;C&gt;</sf:Name><sf:Phone xsi:nil="true"/><sf:Site/>
    <sf:Description><![CDATA[a <b> ]]>c</sf:Description><sf:__proto__>x</sf:__proto__>`
  const read = await readOutbound(
    envelope(notification('04lHs0000010004AAA', fields) + notification('04lHs0000010005')),
  )
  assert.ok(read.ok)
  assert.equal(
    JSON.stringify(read.message),
    `{"organizationId":"${org}","actionId":"04kHs0000010003AAA","notifications":[{"id":"04lHs0000010004AAA","record":{"Id":"001Hs0000010002AAA","Name":"Ä & B — <C>","Phone":null,"Site":"","Description":"a <b> c","__proto__":"x","attributes":{"type":"Account"}}},{"id":"04lHs0000010005","record":{"Id":"001Hs0000010002AAA","attributes":{"type":"Account"}}}]}`,
  )
  assert.equal(Object.getPrototypeOf(read.message.notifications[0]!.record), Object.prototype)
  assert.doesNotMatch(JSON.stringify(read), /session/i)
})

test('other prefixes mean the same', async () => {
  const text = envelope(notification('04lHs0000010004AAA'))
    .replaceAll('soapenv', 's')
    .replaceAll('sf:', 'ens:')
    .replace('xmlns:sf', 'xmlns:ens')
  assert.equal((await readOutbound(text)).ok, true)
})

const one = notification('04lHs0000010004AAA')
const laughs = Array.from({ length: 9 }, (_, n) => `<!ENTITY l${n + 1} "${`&l${n};`.repeat(10)}">`).join('')
const refused: [what: string, text: string, fault: RegExp][] = [
  ['nothing', '', /well-formed/],
  ['JSON', '{"a":1}', /well-formed/],
  ['a form', 'a=1&b=2', /well-formed/],
  ['HTML', '<!DOCTYPE html><html></html>', /document type/],
  [
    'an entity of a file',
    envelope(one, { before: '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>' }),
    /document type/,
  ],
  ['an external subset', envelope(one, { before: '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' }), /document type/],
  [
    'a parameter entity',
    envelope(one, { before: '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/">%p;]>' }),
    /document type/,
  ],
  [
    'a billion laughs',
    envelope(notification('04lHs0000010004AAA', '<sf:Name>&l9;</sf:Name>'), {
      before: `<!DOCTYPE x [<!ENTITY l0 "lol">${laughs}]>`,
    }),
    /document type/,
  ],
  [
    'an entity nobody declared',
    envelope(notification('04lHs0000010004AAA', '<sf:Name>&file;</sf:Name>')),
    /well-formed/,
  ],
  [
    'a stylesheet',
    envelope(one, { before: '<?xml-stylesheet href="http://127.0.0.1:9/"?>' }),
    /processing instruction/,
  ],
  ['a cut message', envelope(one).slice(0, -20), /well-formed/],
  ['two documents', envelope(one) + envelope(one).slice(38), /well-formed/],
  ['a prefix that is bound to nothing', envelope(one).replace('xmlns:sf=', 'xmlns:zz='), /well-formed/],
  ['U+0000', envelope(notification('04lHs0000010004AAA', '<sf:Name>&#0;</sf:Name>')), /well-formed/],
  ['a hundred thousand elements in one another', envelope('<a>'.repeat(100_000)), /deeper/],
  [
    'another envelope',
    envelope(one).replaceAll('schemas.xmlsoap.org/soap/envelope', 'www.w3.org/2003/05/soap-envelope'),
    /no SOAP envelope/,
  ],
  ['another body', envelope(one).replace('2005/09/outbound', '2005/09/inbound'), /one notifications/],
  ['two bodies', envelope(one).replace('<soapenv:Body>', '<soapenv:Body/><soapenv:Body>'), /one Body/],
  ['no notification', envelope(''), /0 notifications/],
  ['101 notifications', envelope(one.repeat(101)), /101 notifications/],
  ['two organizations', envelope(`<OrganizationId>${org}</OrganizationId>${one}`), /one OrganizationId/],
  ['an organization that is no id', envelope(one, { organization: '*' }), /OrganizationId is no id/],
  ['an organization in two pieces', envelope(one, { organization: `<x>${org}</x>` }), /OrganizationId is no id/],
  ['a notification that is no id', envelope(notification("x' or '1")), /Id is no id/],
  [
    'a notification without a record',
    envelope('<Notification><Id>04lHs0000010004AAA</Id></Notification>'),
    /one sObject/,
  ],
  ['a record of no type', envelope(one.replace('xsi:type="sf:Account"', '')), /no xsi:type/],
  ['a field of elements', envelope(notification('04lHs0000010004AAA', '<sf:A><sf:B>1</sf:B></sf:A>')), /deeper/],
]
for (const [what, text, fault] of refused)
  test(`refused: ${what}`, async () => {
    const read = await readOutbound(text)
    assert.ok(!read.ok, JSON.stringify(read))
    assert.match(read.fault, fault)
    assert.doesNotMatch(read.fault, /session|passwd|127\.0/i)
  })

test('the answer is one that its own reader would take', () => {
  assert.match(
    acknowledgement.body,
    /<notificationsResponse xmlns="http:\/\/soap\.sforce\.com\/2005\/09\/outbound"><Ack>true<\/Ack>/,
  )
})
