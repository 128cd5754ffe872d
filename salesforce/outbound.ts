/**
 * Outbound Messages: what an org POSTs when one of its flows or workflow rules says so, as SOAP
 * (https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_understanding.htm). Reads one, and writes
 * the answer that ends it: until it gets this answer the org sends a message again, for a day.
 *
 * What comes is whatever anybody who knows the address sends. A document type is refused, so there are no entities but XML's own five, and
 * nothing outside the document is ever looked at; nothing nests deeper than a message does. The session id in a message is a working
 * access token of the user who set the message up: it is read over and goes nowhere.
 */
export interface OutboundMessage {
  organizationId: string
  actionId: string
  notifications: Notification[]
}

export interface Notification {
  /** Stays the same when the message is sent again. */
  id: string
  /** As the REST API writes one, but every value a text, or null where the org has none. */
  record: { attributes: { type: string }; [field: string]: unknown }
}

const soap = 'http://schemas.xmlsoap.org/soap/envelope/'
const outbound = 'http://soap.sforce.com/2005/09/outbound'
const instance = 'http://www.w3.org/2001/XMLSchema-instance'

/** Envelope, Body, notifications, Notification, sObject, a field. */
const deepest = 6
/** Salesforce puts no more into one message. */
const mostNotifications = 100

export const acknowledgement = {
  type: 'text/xml; charset=utf-8',
  body: `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="${soap}"><soapenv:Body><notificationsResponse xmlns="${outbound}"><Ack>true</Ack></notificationsResponse></soapenv:Body></soapenv:Envelope>`,
}

/** The fault is a sentence about the form, without anything of what was sent. */
export async function readOutbound(
  body: string,
): Promise<{ ok: true; message: OutboundMessage } | { ok: false; fault: string }> {
  try {
    return { ok: true, message: messageIn(await documentOf(body)) }
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error
    return { ok: false, fault: error.message }
  }
}

class Unreadable extends Error {}

interface Element {
  uri: string
  name: string
  isNil: boolean
  /** `xsi:type` without its prefix. */
  type: string | undefined
  text: string
  children: Element[]
}

function messageIn(envelope: Element): OutboundMessage {
  if (envelope.uri !== soap || envelope.name !== 'Envelope') throw new Unreadable('It is no SOAP envelope.')
  const notifications = only(only(envelope, soap, 'Body'), outbound, 'notifications')
  const told = all(notifications, outbound, 'Notification')
  if (told.length === 0 || told.length > mostNotifications)
    throw new Unreadable(`It holds ${told.length} notifications; a message holds 1 to ${mostNotifications}.`)
  return {
    organizationId: idIn(notifications, 'OrganizationId'),
    actionId: idIn(notifications, 'ActionId'),
    notifications: told.map(one => ({ id: idIn(one, 'Id'), record: recordIn(only(one, outbound, 'sObject')) })),
  }
}

function recordIn(sObject: Element): Notification['record'] {
  if (!sObject.type) throw new Unreadable('An sObject has no xsi:type.')
  const fields = sObject.children.map(({ name, isNil, text }) => [name, isNil ? null : text])
  // Not assigned one by one: a field may be called __proto__.
  return Object.fromEntries([...fields, ['attributes', { type: sObject.type }]]) as Notification['record']
}

const all = ({ children }: Element, uri: string, name: string): Element[] =>
  children.filter(child => child.uri === uri && child.name === name)

function only(parent: Element, uri: string, name: string): Element {
  const [found, ...more] = all(parent, uri, name)
  if (!found || more.length > 0) throw new Unreadable(`${parent.name} does not hold one ${name}.`)
  return found
}

function idIn(parent: Element, name: string): string {
  const { text } = only(parent, outbound, name)
  if (!/^[a-zA-Z0-9]{15}(?:[a-zA-Z0-9]{3})?$/.test(text)) throw new Unreadable(`${name} is no id.`)
  return text
}

async function documentOf(text: string): Promise<Element> {
  // 17 ms and 4 MB that a start without messages need not have.
  const { SaxesParser } = await import('saxes')
  const parser = new SaxesParser({ xmlns: true, position: false })
  const document: Element = { uri: '', name: '', isNil: false, type: undefined, text: '', children: [] }
  const open = [document]
  const refuse = (fault: string) => () => {
    throw new Unreadable(fault)
  }
  const add = (piece: string) => {
    open.at(-1)!.text += piece
  }
  parser.on('error', refuse('It is not well-formed XML.'))
  parser.on('doctype', refuse('It has a document type.'))
  parser.on('processinginstruction', refuse('It has a processing instruction.'))
  parser.on('text', add)
  parser.on('cdata', add)
  parser.on('opentag', ({ uri, local, attributes }) => {
    if (open.length > deepest) throw new Unreadable('It nests deeper than a message does.')
    const said = (name: string) =>
      Object.values(attributes).find(attribute => attribute.uri === instance && attribute.local === name)?.value
    const isNil = said('nil') === 'true' || said('nil') === '1'
    const type = said('type')?.replace(/^.*:/, '')
    const element: Element = { uri, name: local, isNil, type, text: '', children: [] }
    open.at(-1)!.children.push(element)
    open.push(element)
  })
  parser.on('closetag', () => void open.pop())
  parser.write(text).close()
  return document.children[0]!
}
