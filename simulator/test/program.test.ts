import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { simulate } from './support.ts'

const bin = join(import.meta.dirname, '../src/main.ts')

function start(args: string[]) {
  const child = spawn(process.execPath, [bin, ...args], { env: { PATH: process.env.PATH ?? '' } })
  let [out, err] = ['', '']
  const ended = new Promise<number | null>(resolve => child.on('close', resolve))
  const line = new Promise<string>(resolve => {
    child.stdout.setEncoding('utf8').on('data', piece => {
      out += piece
      if (out.includes('\n')) resolve(out)
    })
    child.on('close', () => resolve(out))
  })
  child.stderr.setEncoding('utf8').on('data', piece => {
    err += piece
  })
  return { child, ended, line, said: () => ({ out, err }) }
}

test('the program says what a program needs, serves, and stops when told', async t => {
  const { child, ended, line } = start([
    '--port',
    '0',
    '--json',
    '--callback',
    'http://localhost:1/cb',
    '--contacts',
    '3',
  ])
  t.after(() => child.kill())
  const told = JSON.parse(await line) as {
    url: string
    hosts: Record<string, { path: string }>
    orgs: Record<string, { clientId: string; callbacks: string[] }>
  }
  assert.deepEqual(told.orgs['acme--uat']?.callbacks, ['http://localhost:1/cb'])
  assert.equal((await fetch(`${told.hosts['acme--uat']?.path}/services/data`)).status, 200)
  child.kill('SIGTERM')
  assert.equal(await ended, 0)
})

test('--help says everything, and what is no option is refused', async () => {
  const help = start(['--help'])
  assert.equal(await help.ended, 0)
  for (const option of ['port', 'host', 'callback', 'contacts', 'auto-approve', 'rotation', 'json']) {
    assert.match(help.said().out, new RegExp(`--${option}\\b`))
  }
  for (const args of [
    ['--nonsense'],
    ['--port', 'x'],
    ['--port', '70000'],
    ['--callback', 'x'],
    ['--contacts', '-1'],
  ]) {
    const { ended, said } = start(args)
    assert.equal(await ended, 2, args.join(' '))
    assert.match(said().err, /--help/)
  }
})

test('the README names every command and setting, and every test it points to is there', async t => {
  const simulator = await simulate(t)
  const readme = await readFile(join(import.meta.dirname, '../README.md'), 'utf8')
  for (const name of [...Object.keys(simulator.control), ...Object.keys(simulator.control.state().settings)]) {
    assert.ok(readme.includes(`\`${name}\``), name)
  }
  const tests = new Map<string, string>()
  for (const file of await readdir(import.meta.dirname)) {
    const [, name] = /^(\w+)\.test\.ts$/.exec(file) ?? []
    if (name) tests.set(name, await readFile(join(import.meta.dirname, file), 'utf8'))
  }
  const table = readme.slice(readme.indexOf('| Behaviour |'), readme.indexOf('Left out:'))
  const pointers = [...table.matchAll(/\| ([^|]+) \|$/gm)].flatMap(([, cell = '']) => cell.split('; ')).slice(2)
  assert.ok(pointers.length >= 25)
  for (const pointer of pointers) {
    const [, file, title] = /^`(\w+)`: (.+)$/.exec(pointer.trim()) ?? []
    const source = file === undefined ? undefined : tests.get(file)
    // A pointer without a file goes on in the file of the one before.
    const text = source ?? [...tests.values()].join('\n')
    const wanted = title ?? pointer.trim()
    if (wanted !== 'all of it') assert.ok(text.includes(wanted), pointer)
  }
})
