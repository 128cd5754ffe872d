#!/usr/bin/env node
// `salesforce-simulator` (`npm run simulator` in the repository): starts it and prints everything needed to use it.

import { parseArgs } from 'node:util'
import { PASSWORD, startSimulator } from './index.ts'

const HELP = `salesforce-simulator: a Salesforce to connect to without Salesforce

  salesforce-simulator [options]

  --port N            where it listens; when busy, the next free one      (PORT, 4500)
  --host ADDRESS      the address it listens on                           (HOST, 127.0.0.1)
  --callback URL      callback URL of the seeded apps; may be repeated    (CALLBACKS, comma-separated;
                                                                           http://localhost:3003/oauth/callback)
  --contacts N        contacts in each seeded org                         (2347: two pages)
  --auto-approve      no log-in and consent pages: the answer is Allow    (AUTO_APPROVE=1)
  --rotation          refresh tokens of the seeded apps rotate            (ROTATION=1)
  --json              print what is needed to use it as one line of JSON
  --help

It keeps everything in memory and reaches nothing outside this computer. POST /__admin/<command> breaks it on purpose:
GET /__admin/ lists the commands, the README describes them.
`

function options() {
  try {
    return parseArgs({
      options: {
        port: { type: 'string' },
        host: { type: 'string' },
        callback: { type: 'string', multiple: true },
        contacts: { type: 'string' },
        'auto-approve': { type: 'boolean' },
        rotation: { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values
  } catch (error) {
    return wrong(error instanceof Error ? error.message : String(error))
  }
}

function wrong(message: string): never {
  process.stderr.write(`${message}\nsalesforce-simulator --help says what there is.\n`)
  process.exit(2)
}

function whole(text: string, name: string, max: number): number {
  const number = Number(text)
  if (!/^\d+$/.test(text) || number > max) return wrong(`${name} must be a whole number from 0 to ${max}`)
  return number
}

const given = options()
const { env } = process
if (given.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const wanted = whole(given.port ?? env.PORT ?? '4500', '--port', 65_535)
const callbacks = given.callback ?? env.CALLBACKS?.split(',').map(c => c.trim())
const unusable = callbacks?.find(callback => !URL.canParse(callback))
if (unusable !== undefined) wrong(`--callback is not a URL: ${unusable}`)

const simulator = await startSimulator({
  port: wanted,
  morePorts: wanted === 0 ? 0 : Math.min(50, 65_535 - wanted),
  host: given.host ?? env.HOST ?? '127.0.0.1',
  autoApprove: given['auto-approve'] ?? env.AUTO_APPROVE === '1',
  rotation: given.rotation ?? env.ROTATION === '1',
  ...(given.contacts === undefined ? {} : { contacts: whole(given.contacts, '--contacts', 100_000) }),
  ...(callbacks ? { callbacks } : {}),
})

const hosts = ['acme--uat', 'acme', 'test', 'login']
const orgs = ['acme--uat', 'acme']
const usersOf = (org: string) => simulator.control.state().users.filter(user => user.org === org)

const asJson = () =>
  JSON.stringify({
    url: simulator.url,
    port: simulator.port,
    hosts: Object.fromEntries(hosts.map(of => [of, { path: simulator.base(of), name: simulator.base(of, 'name') }])),
    orgs: Object.fromEntries(
      orgs.map(org => {
        const { clientId, clientSecret, callbacks, scopes } = simulator.app(org)
        const users = usersOf(org).map(({ username, password }) => ({ username, password }))
        return [org, { clientId, clientSecret, callbacks, scopes, users }]
      }),
    ),
  })

const describeOrg = (org: string) => {
  const app = simulator.app(org)
  return `
  ${org === 'acme' ? 'Production' : 'Sandbox'} ${org}
    client id      ${app.clientId}
    client secret  ${app.clientSecret}
    callback       ${app.callbacks.join(', ')}
    scopes         ${app.scopes.join(' ')}; PKCE required; rotation ${app.rotation ? 'on' : 'off'}
    users          ${usersOf(org)
      .map(user => user.username)
      .join(', ')}   password ${PASSWORD}`
}

const asText = () => `
Salesforce simulator: nothing here reaches Salesforce

  ${simulator.url}/    everything below as a page

  In a browser                                                In any program
${hosts.map(h => `  ${simulator.base(h, 'name').padEnd(60)}${simulator.base(h)}`).join('\n')}
${orgs.map(describeOrg).join('\n')}

  The callback must match one on the app exactly: --callback https://my.app/callback

  Break things (GET ${simulator.url}/__admin/ lists every command)
    curl -X POST ${simulator.url}/__admin/expireAccessTokens
    curl -X POST ${simulator.url}/__admin/drop -d '{"endpoint":"token","grantType":"refresh_token"}'
    curl -X POST ${simulator.url}/__admin/fail -d '{"endpoint":"rest","status":503,"times":3}'
    curl ${simulator.url}/__admin/requests

  Ctrl-C stops it; its memory goes with it.
`

process.stdout.write(given.json ? `${asJson()}\n` : asText())

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    simulator.close().then(() => process.exit(0))
  })
}
