import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { Command, Context } from '../command.ts'
import { Refused, UsageFault } from '../faults.ts'
import { printable } from '../output.ts'

/** `salesforce/ID`; an id may hold slashes, a key may not. */
function account(arg: string): [integration: string, connection: string] {
  const cut = arg.indexOf('/')
  if (cut < 1 || cut === arg.length - 1)
    throw new UsageFault(`"${printable(arg)}" names no connection: write it as integration/connection.`)
  return [arg.slice(0, cut), arg.slice(cut + 1)]
}

function headersOf(given: string[] = []): Headers {
  const headers = new Headers()
  for (const line of given) {
    const [, name, value] = /^([^:\s]+):\s*(.*)$/.exec(line) ?? []
    if (name === undefined || value === undefined) throw new UsageFault(`A header reads "Name: value".`)
    headers.append(name, value)
  }
  return headers
}

/** Text, a file (`@path`) or standard input (`@-`), as curl has it. */
async function bodyOf(data: string | undefined): Promise<RequestInit['body']> {
  if (!data?.startsWith('@')) return data
  if (data === '@-') return Buffer.concat(await Readable.from(process.stdin).toArray())
  return readFile(data.slice(1)).catch(({ code }) => {
    throw new UsageFault(`--data names a file that cannot be read (${code}).`)
  })
}

async function proxy({ client, screen, values, args }: Context): Promise<undefined> {
  const [method, named, path] = args as [string, string, string]
  if (!/^(get|post|put|patch|delete|head|options)$/i.test(method))
    throw new UsageFault(`"${printable(method)}" is no method: GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.`)
  const [integration, connection] = account(named)
  const headers = headersOf(values.header)
  headers.set('Provider-Config-Key', integration)
  headers.set('Connection-Id', connection)
  const body = await bodyOf(values.data)
  if (body !== undefined && !headers.has('Content-Type')) headers.set('Content-Type', 'application/json')
  const answer = await client.answer(method.toUpperCase(), `/proxy/${path.replace(/^\//, '')}`, headers, body)
  const code = answer.headers.get('fairlead-error')
  if (code !== null) {
    const { error } = (await answer.json()) as { error: { message: string } }
    throw new Refused(answer.status, code, error.message)
  }
  for await (const bytes of answer.body ?? []) await screen.pass(bytes)
  if (!answer.ok) {
    screen.say(`The provider answered ${answer.status} ${printable(answer.statusText)}`.trimEnd())
    process.exitCode = 1
  }
}

export const proxied: Command[] = [
  {
    words: 'proxy',
    usage: '<method> <integration/connection> <path> [--header "Name: value"]… [--data TEXT]',
    summary:
      'Calls the account’s API and prints the answer as it comes. -H and -d as curl has them, also -d @FILE. Exit code 1 unless it is 2xx',
    example: "proxy GET salesforce/CONNECTION '/services/data/v66.0/query?q=SELECT+Name+FROM+Account'",
    options: ['header', 'data'],
    args: { min: 3, max: 3 },
    run: proxy,
  },
]
