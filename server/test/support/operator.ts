/** Somebody at the dashboard, without a browser: a cookie jar and the headers a page of ours sends. */
import assert from 'node:assert/strict'
import { type Answer, Browser, type Fairlead } from './fairlead.ts'

export const password = 'correct horse battery'

export interface Person {
  browser: Browser
  /** As the dashboard calls: same origin, in the environment `dev`. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
}

export function newPerson(fairlead: Pick<Fairlead, 'url'>): Person {
  const browser = new Browser()
  return {
    browser,
    call: (method, path, body, headers = {}) =>
      browser.open(`${fairlead.url}${path}`, {
        method,
        headers: {
          Origin: fairlead.url,
          'Fairlead-Environment': 'dev',
          ...(body !== undefined && { 'Content-Type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
  }
}

export async function newOwner(fairlead: Pick<Fairlead, 'url'>, email = 'owner@acme.com'): Promise<Person> {
  const person = newPerson(fairlead)
  const done = await person.call('POST', '/operator/setup', { email, name: 'Olive Owner', password })
  assert.equal(done.status, 200, done.text)
  return person
}

/** Invited by the owner, signed in. */
export async function invited(fairlead: Fairlead, owner: Person, role: 'owner' | 'admin' | 'viewer'): Promise<Person> {
  const { json, text } = await owner.call('POST', '/operators', { email: `${role}@acme.com`, role })
  assert.ok(json.link, text)
  const person = newPerson(fairlead)
  const link = new URL(json.link).hash.slice(1)
  const joined = await person.call('POST', '/operator/link', { link, name: `The ${role}`, password })
  assert.equal(joined.json.operator?.role, role, joined.text)
  return person
}
