import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { BadInput } from '../src/index.ts'
import { readXml } from '../src/xml.ts'
import { simulate } from './support.ts'

const ack =
  '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse></e:Body></e:Envelope>'

test('an Outbound Message is SOAP about records of the org, and done when it is acknowledged', async t => {
  const { control } = await simulate(t)
  const taken: { type: string | undefined; body: string }[] = []
  let answer = ack
  const server = createServer(async (req, res) => {
    let body = ''
    for await (const chunk of req.setEncoding('utf8')) body += chunk
    taken.push({ type: req.headers['content-type'], body })
    res.end(answer)
  }).listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const message = { org: 'acme--uat', url, object: 'Account', fields: ['Name', 'Phone'] }

  const sent = await control.sendOutboundMessage({ ...message, withSession: true })
  assert.deepEqual([sent.status, sent.acknowledged], [200, true])
  const [one] = taken
  assert.equal(one?.type, 'text/xml; charset=UTF-8')
  const notifications = readXml(one.body).children[0]?.children[0]
  assert.deepEqual(
    notifications?.children.map(({ name }) => name),
    ['OrganizationId', 'ActionId', 'SessionId', 'EnterpriseUrl', 'PartnerUrl', 'Notification'],
  )
  const [organizationId, , sessionId, , , notification] = notifications!.children
  const { orgs, sessions } = control.state()
  assert.equal(organizationId!.text, orgs.find(({ key }) => key === 'acme--uat')!.id)
  assert.ok(sessions.some(({ token }) => token === sessionId!.text))
  const [id, sObject] = notification!.children
  assert.deepEqual([id!.text], sent.notificationIds)
  assert.deepEqual(sObject!.children.map(({ name }) => name).sort(), ['sf:Id', 'sf:Name', 'sf:Phone'])

  const again = await control.sendOutboundMessage({ ...message, notificationIds: sent.notificationIds })
  assert.deepEqual(again.notificationIds, sent.notificationIds)
  assert.match(taken[1]!.body, /<SessionId xsi:nil="true"\/>/)
  answer = ack.replace('true', 'false')
  assert.equal((await control.sendOutboundMessage(message)).acknowledged, false)
  answer = 'Ack true'
  assert.equal((await control.sendOutboundMessage(message)).acknowledged, false)

  for (const wrong of [
    { object: 'Nothing' },
    { org: 'nowhere' },
    { recordIds: ['001'] },
    { recordIds: [] },
    { notificationIds: [] },
  ])
    await assert.rejects(async () => control.sendOutboundMessage({ ...message, ...wrong }), BadInput)
  assert.equal(taken.length, 4)
})
