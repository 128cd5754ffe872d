// Outbound Messages: SOAP that an org POSTs to an endpoint when a flow says so (fact sheet §6.5; the shape is that of the WSDL an org
// generates for its message). Sent when the admin API asks for it, and once: who wants it again sends the same notification ids.

import { toId18 } from './ids.ts'
import { sourceOf } from './records.ts'
import { objectType } from './schema.ts'
import { openSession } from './tokens.ts'
import type { Org, Row, World } from './world.ts'
import { BadInput, makeApp, nextId, PLATFORM_CLI } from './world.ts'

export type OutboundInput = {
  org: string
  url: string
  object: string
  /** The first record unless said. */
  recordIds?: string[]
  /** Every field unless said; Id is always there. */
  fields?: string[]
  /** One for each record; new ones unless said. */
  notificationIds?: string[]
  /** "Send Session ID": a token of the org's first user goes along. */
  withSession?: boolean
}

export type Outbound = { notificationIds: string[]; status: number; acknowledged: boolean }

export async function sendOutboundMessage(world: World, org: Org, input: OutboundInput): Promise<Outbound> {
  const type = objectType(input.object)
  if (!type) throw new BadInput(`unknown object ${input.object}`)
  const found = sourceOf(world, org).rows(type)
  const rows = input.recordIds?.map(id => rowIn(found, id)) ?? found.slice(0, 1)
  if (rows.length < 1 || rows.length > 100) throw new BadInput('a message tells of 1 to 100 records')
  const notificationIds = input.notificationIds ?? rows.map(() => nextId(world, '04l'))
  if (notificationIds.length !== rows.length) throw new BadInput('give a notification id for each record')
  const sessionId = input.withSession ? newSession(world, org) : null
  const response = await fetch(input.url, {
    method: 'POST',
    headers: {
      'content-type': 'text/xml; charset=UTF-8',
      soapaction: '""',
      'user-agent': 'Jakarta Commons-HttpClient/3.1',
    },
    body: envelope(org, type.name, rows, { ...input, notificationIds, sessionId, actionId: nextId(world, '04k') }),
    redirect: 'manual',
  })
  const answer = await response.text()
  // Salesforce wants to read it; anything else is a failure to deliver.
  const acknowledged = response.status === 200 && /<(?:\w+:)?Ack>\s*true\s*<\/(?:\w+:)?Ack>/.test(answer)
  return { notificationIds, status: response.status, acknowledged }
}

function rowIn(rows: Row[], id: string): Row {
  const row = rows.find(one => one.Id === toId18(id))
  if (!row) throw new BadInput(`there is no record ${id}`)
  return row
}

function newSession(world: World, org: Org): string {
  const user = world.users.find(one => one.org === org.key)
  if (!user) throw new BadInput(`${org.key} has no user`)
  const app = makeApp(world, { org: org.key, name: 'Outbound Message', clientId: PLATFORM_CLI })
  return openSession(world, user, app, ['api'], null).token
}

type Sent = { fields?: string[]; notificationIds: string[]; sessionId: string | null; actionId: string }

function envelope(
  org: Org,
  object: string,
  rows: Row[],
  { fields, notificationIds, sessionId, actionId }: Sent,
): string {
  const host = `https://${org.domain}.my.salesforce.com/services/Soap`
  const version = `${org.apiVersionMax}.0/${org.id.slice(0, 15)}`
  const record = (row: Row) =>
    Object.entries(row)
      .filter(([name]) => name === 'Id' || !fields || fields.includes(name))
      .map(([name, value]) =>
        value === null ? `<sf:${name} xsi:nil="true"/>` : `<sf:${name}>${escaped(String(value))}</sf:${name}>`,
      )
      .join('')
  const notifications = rows.map(
    (row, n) =>
      `<Notification><Id>${notificationIds[n]}</Id><sObject xsi:type="sf:${object}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">${record(row)}</sObject></Notification>`,
  )
  return `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <soapenv:Body>
  <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
   <OrganizationId>${org.id}</OrganizationId>
   <ActionId>${actionId}</ActionId>
   ${sessionId === null ? '<SessionId xsi:nil="true"/>' : `<SessionId>${escaped(sessionId)}</SessionId>`}
   <EnterpriseUrl>${host}/c/${version}</EnterpriseUrl>
   <PartnerUrl>${host}/u/${version}</PartnerUrl>
   ${notifications.join('\n   ')}
  </notifications>
 </soapenv:Body>
</soapenv:Envelope>`
}

const escaped = (text: string): string => text.replace(/[&<>"]/g, char => `&#${char.charCodeAt(0)};`)
