/** The program itself: what it makes of its arguments, its environment and a server that is none; and the page about it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { parseArgs, promisify } from 'node:util'
import { freePort } from '../../server/test/support/fairlead.ts'
import { createAsk } from '../src/ask.ts'
import { common, type Option, options } from '../src/command.ts'
import { commands } from '../src/commands/index.ts'
import { Declined, UsageFault } from '../src/faults.ts'
import { bar, instant, jsonText, printable, table } from '../src/output.ts'
import { bin, type Ran, run } from './support.ts'

const key = '0f0e0d0c-0b0a-4908-8706-050403020100'

async function serve(t: { after(work: () => Promise<void>): void }, listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const usage: [what: string, args: string[], env: Record<string, string>, says: RegExp][] = [
  ['an unknown command', ['dance'], {}, /There is no command "dance"\. "fairlead help" lists all\./],
  ['half a command', ['connections', 'dance'], {}, /There are: connections list, connections get,/],
  ['help for nothing', ['help', 'dance'], {}, /There is no command "dance"/],
  ['an unknown option', ['status', '--verbose'], {}, /Unknown option '--verbose'/],
  ['an option of another command', ['status', '--wait'], {}, /"status" takes no --wait\.\nfairlead status/],
  ['an option without its value', ['status', '--env'], {}, /'--env <value>' argument missing/],
  ['a missing argument', ['connections', 'get'], {}, /needs more\.\nfairlead connections get <id>/],
  ['too many arguments', ['status', 'now'], {}, /"status" does not take "now"/],
  ['an empty argument', ['connections', 'get', ''], {}, /An empty name/],
  ['no key', ['connections', 'list'], {}, /There is no API key\. Set FAIRLEAD_SECRET_KEY, or name an environment/],
  ['no key for the environment', ['connections', 'list', '--env', 'eu-1'], {}, /Set FAIRLEAD_SECRET_KEY_EU_1/],
  ['a name that is no environment', ['status', '--env', 'a b'], {}, /--env takes the name/],
  ['no address', ['status'], { FAIRLEAD_URL: 'localhost:3003' }, /FAIRLEAD_URL must be an http or https URL/],
  ['a secret in the address', ['status'], { FAIRLEAD_URL: 'http://a:b@localhost' }, /FAIRLEAD_URL must be/],
  [
    'a key twice',
    ['connections', 'list', '--env', 'dev'],
    { FAIRLEAD_SECRET_KEY_DEV: key, FAIRLEAD_SECRET_KEY_DEV_FILE: '/x' },
    /are both set/,
  ],
  [
    'a key file that is not there',
    ['connections', 'list', '--env', 'dev'],
    { FAIRLEAD_SECRET_KEY_DEV_FILE: '/nowhere' },
    /cannot be read \(ENOENT\)/,
  ],
]
for (const [what, args, env, says] of usage)
  test(`${what}: nothing is sent, exit code 2`, async t => {
    let asked = 0
    const url = await serve(t, (_req, res) => {
      asked++
      res.end()
    })
    const ran = await run(args, { FAIRLEAD_URL: url, ...env })
    assert.deepEqual([ran.code, ran.out, asked], [2, '', 0], ran.err)
    assert.match(ran.err, says)
    assert.doesNotMatch(ran.err, /^\s+at /m)
    assert.ok(!ran.err.includes(key))
  })

test('nobody there: exit code 3, which address, and how to change it', async t => {
  const url = await serve(t, req => req.destroy())
  const closed = `http://127.0.0.1:${await freePort()}`
  for (const [at, args] of [
    [closed, 'connections list'],
    [closed, 'status'],
    [url, 'status'],
  ] as const) {
    const ran = await run(args.split(' '), { FAIRLEAD_URL: at, FAIRLEAD_SECRET_KEY: key })
    assert.equal(ran.code, 3, ran.err)
    assert.match(
      ran.err,
      new RegExp(`^There is no answer from ${at} \\(\\w+\\)\\..* set FAIRLEAD_URL to where it is\\.\n$`),
    )
  }
})

const strangers: [what: string, listener: RequestListener][] = [
  ['a page', (_req, res) => void res.writeHead(200, { 'content-type': 'text/html' }).end('<h1>nginx</h1>')],
  ['another API', (_req, res) => void res.writeHead(404).end('{"error":"Not Found"}')],
  ['nothing', (_req, res) => void res.writeHead(500).end()],
]
for (const [what, listener] of strangers)
  test(`a server that answers with ${what} is not Fairlead, and the program says so`, async t => {
    const url = await serve(t, listener)
    for (const args of [['status'], ['connections', 'list']]) {
      const ran = await run(args, { FAIRLEAD_URL: url, FAIRLEAD_SECRET_KEY: key })
      assert.equal(ran.code, 1, ran.err)
      assert.match(ran.err, /Check FAIRLEAD_URL\. \(not_fairlead\)/)
    }
  })

test('a redirect is not followed with the key', async t => {
  let stolen = ''
  const elsewhere = await serve(t, (req, res) => {
    stolen = req.headers.authorization ?? ''
    res.end('{}')
  })
  const url = await serve(t, (_req, res) => void res.writeHead(302, { location: elsewhere }).end())
  const ran: Ran = await run(['connections', 'list'], { FAIRLEAD_URL: url, FAIRLEAD_SECRET_KEY: key })
  assert.equal(ran.code, 1)
  assert.ok(ran.err.includes(`answered 302, which leads to ${elsewhere}`), ran.err)
  assert.equal(stolen, '')
})

test('the key of an environment comes from its variable or its file, and goes to the server alone', async t => {
  const presented: string[] = []
  const url = await serve(t, (req, res) => {
    presented.push(req.headers.authorization ?? '')
    res.end('{"connections":[]}')
  })
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-cli-'))
  t.after(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'key'), 'key-from-a-file\n')
  const env = {
    FAIRLEAD_URL: url,
    FAIRLEAD_SECRET_KEY: 'plain',
    FAIRLEAD_SECRET_KEY_DEV: 'of-dev',
    FAIRLEAD_SECRET_KEY_EU_1_FILE: join(folder, 'key'),
  }
  for (const args of [[], ['--env', 'dev'], ['--env=eu-1']])
    assert.equal((await run(['connections', 'list', ...args], env)).code, 0)
  assert.deepEqual(presented, ['Bearer plain', 'Bearer of-dev', 'Bearer key-from-a-file'])
})

test('help and version need neither key nor server', async () => {
  const { version } = JSON.parse(await readFile(join(dirname(bin), '../package.json'), 'utf8'))
  assert.equal((await run(['--version'])).out, `${version}\n`)
  const all = await run([])
  assert.deepEqual([all.code, all.err, all.out], [0, '', (await run(['help'])).out])
  for (const { words } of commands) assert.ok(all.out.includes(`\n  ${words} `), words)
  const one = await run(['connections', 'get', '--help'])
  assert.equal(one.out, (await run(['help', 'connections', 'get'])).out)
  assert.match(one.out, /^fairlead connections get <id> \[--integration K\]\n {2}Shows one connection/)
  assert.match((await run(['help', 'connections'])).out, /fairlead connections list[\s\S]*fairlead connections delete/)
  // By its own first line, as npm links it.
  const path = `${dirname(process.execPath)}:${process.env.PATH}`
  const { stdout } = await promisify(execFile)(bin, ['--version'], { env: { PATH: path } })
  assert.equal(stdout, `${version}\n`)
})

test('the page about the commands has each of them, with what it takes, and no other', async () => {
  const page = await readFile(join(dirname(bin), '../../docs/cli.md'), 'utf8')
  const told = [...page.matchAll(/^\| `([^`]+)` \| (.*) \|$/gm)].map(([, usage, summary]) => [usage, summary])
  assert.deepEqual(
    told,
    commands.map(({ words, usage, summary }) => [
      `${words} ${usage}`.trim().replaceAll('|', '\\|'),
      `${summary}`.replaceAll('|', '\\|'),
    ]),
  )
})

test('every example is the command it stands with, and can be typed', () => {
  const withExample = commands.filter(({ example }) => example !== undefined)
  assert.ok(withExample.length >= 15)
  for (const { words, example = '', options: takes, args } of withExample) {
    assert.ok(example.startsWith(words), example)
    // As a shell cuts it.
    const typed = [...example.slice(words.length).matchAll(/'([^']*)'|(\S+)/g)].map(
      ([, quoted, plain]) => quoted ?? plain!,
    )
    const { values, positionals } = parseArgs({ args: typed, options, allowPositionals: true, strict: true })
    for (const name of Object.keys(values) as Option[])
      assert.ok([...takes, ...common].includes(name), `${example}: ${name}`)
    assert.ok(positionals.length >= args.min && positionals.length <= args.max, example)
  }
})

test('with --json a failure is JSON, too, on standard error, with the same exit code', async t => {
  const refused = await serve(t, (_req, res) => {
    const error = {
      code: 'invalid_body',
      message: 'No.',
      errors: [{ code: 'x', message: 'Too long.', path: ['a', 0] }],
    }
    res.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error }))
  })
  const rows: [string[], string, number, object][] = [
    [['connections', 'list'], refused, 1, { code: 'invalid_body', message: 'No.', details: ['a.0: Too long.'] }],
    [['dance'], refused, 2, { code: 'usage', message: 'There is no command "dance". "fairlead help" lists all.' }],
  ]
  for (const [args, FAIRLEAD_URL, code, error] of rows) {
    const ran = await run([...args, '--json'], { FAIRLEAD_URL, FAIRLEAD_SECRET_KEY: key })
    assert.deepEqual([ran.code, ran.out, JSON.parse(ran.err)], [code, '', { error }])
  }
  const closed = `http://127.0.0.1:${await freePort()}`
  const nobody = await run(['status', '--json'], { FAIRLEAD_URL: closed, FAIRLEAD_SECRET_KEY: key })
  assert.deepEqual([nobody.code, JSON.parse(nobody.err).error.code], [3, 'unreachable'])
})

test('every option a command takes is in its usage, and the other way round', () => {
  for (const { words, usage, options } of commands) {
    const named = [...usage.matchAll(/--([a-z-]+)/g)].map(([, name]) => name).toSorted()
    assert.deepEqual([...new Set(named)], [...options].toSorted(), words)
  }
})

test('who is asked decides', async () => {
  const asking = (answer: string, tty = true) => {
    const input = Object.assign(new PassThrough(), { isTTY: tty }) as unknown as NodeJS.ReadStream
    const shown = new PassThrough()
    let text = ''
    shown.on('data', piece => {
      text += piece
    })
    const ask = createAsk(input, shown as unknown as NodeJS.WriteStream, false)
    input.push(`${answer}\n`)
    return { ask, shown: () => text }
  }
  for (const yes of ['y', 'Y', 'yes', ' yes ']) await asking(yes).ask.confirm('Sure?')
  for (const no of ['', 'n', 'no', 'yesterday', 'Kill everything'])
    await assert.rejects(asking(no).ask.confirm('Sure?'), Declined)
  await assert.rejects(asking('yes', false).ask.confirm('Sure?'), UsageFault)
  const quiet = asking('s3cret')
  assert.equal(await quiet.ask.secret('Secret', 'client-secret-file'), 's3cret')
  assert.equal(quiet.shown(), 'Secret: \n')
  await assert.rejects(asking('').ask.secret('Secret', 'client-secret-file'), Declined)
  await assert.rejects(asking('s3cret', false).ask.secret('Secret', 'client-secret-file'), UsageFault)
})

test('what is printed', () => {
  assert.equal(
    table(
      ['a', 'name'],
      [
        ['1', 'x'],
        ['22', ''],
      ],
    ),
    'A   NAME\n1   x\n22',
  )
  const now = Date.parse('2026-11-22T12:00:00Z')
  for (const [iso, said] of [
    ['2026-11-22T11:59:59.500Z', 'just now (2026-11-22T11:59:59Z)'],
    ['2026-11-22T11:59:20Z', '40 s ago (2026-11-22T11:59:20Z)'],
    ['2026-11-22T11:57:01+00:00', '2 min ago (2026-11-22T11:57:01Z)'],
    ['2026-11-22T09:30:00Z', '2 h ago (2026-11-22T09:30:00Z)'],
    ['2026-11-21T11:00:00Z', '1 day ago (2026-11-21T11:00:00Z)'],
    ['2026-10-22T12:00:00Z', '31 days ago (2026-10-22T12:00:00Z)'],
    ['2026-11-22T14:00:00Z', 'in 2 h (2026-11-22T14:00:00Z)'],
    [null, '–'],
  ] as const)
    assert.equal(instant(iso, now), said)
  assert.equal(printable('Ünïcode ok \u001b[2J\n\u200e'), 'Ünïcode ok \\u001b[2J\\u000a\\u200e')
  assert.equal(jsonText('\u009b\u2028'), '"\\u009b\\u2028"')
  assert.deepEqual(
    [bar(0, 4), bar(4, 4), bar(0, 0)].map(text => text.slice(1, 25)),
    ['.'.repeat(24), '#'.repeat(24), '#'.repeat(24)],
  )
})
