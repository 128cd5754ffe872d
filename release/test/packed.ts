/** A package as its users get it: packed, and installed by npm into an empty folder; without a registry where it needs none. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { executable } from '../../server/test/browser/chromium.ts'
import { stage } from '../stage.ts'

const run = promisify(execFile)
type Test = { after(work: () => Promise<void>): void }

const repository = fileURLToPath(new URL('../..', import.meta.url))

/** An empty folder with the tarballs of these workspaces installed in it. */
export async function installed(t: Test, ...workspaces: string[]): Promise<string> {
  const into = await mkdtemp(join(tmpdir(), 'fairlead-packed-'))
  t.after(() => rm(into, { recursive: true, force: true }))
  const tarballs = Object.values(await stage(into, workspaces))
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-empty-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'package.json'), '{ "private": true }')
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', ...tarballs], { cwd: folder })
  return folder
}

/** What a stranger's machine has: its own Node and npm, nothing of this repository, and a home with nothing in it. */
export async function strangersEnv(t: Test): Promise<Record<string, string>> {
  const home = await mkdtemp(join(tmpdir(), 'fairlead-home-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  const { stdout: cache } = await run('npm', ['config', 'get', 'cache'])
  // The downloads of this machine are shared, so that a test costs the registry nothing it has given before.
  return { HOME: home, PATH: machinesPath().join(delimiter), npm_config_cache: cache.trim(), CI: 'true' }
}

/** An empty folder with these tarballs and what they depend on, as `npm install` leaves it where install scripts are off. */
export async function installedByStranger(t: Test, tarballs: string[], env: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-empty-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'package.json'), '{ "private": true }')
  const options = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund']
  await run('npm', ['install', ...options, ...tarballs], { cwd: folder, env })
  return folder
}

/** Starts a program that stays, and waits until it has written a line for which `found` answers something. */
export async function startProgram<T>(
  t: Test,
  command: string[],
  options: { cwd: string; env: Record<string, string> },
  found: (line: string) => T | undefined,
): Promise<T> {
  const [program = '', ...args] = command
  // A group of its own: npx starts a shell that starts the program.
  const child = spawn(program, args, { ...options, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  t.after(() => ended(child))
  let said = ''
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', code => reject(new Error(`${command.join(' ')} ended with ${code}:\n${said}`)))
    child.stderr.on('data', chunk => (said += chunk))
    let rest = ''
    child.stdout.on('data', chunk => {
      said += chunk
      const lines = `${rest}${chunk}`.split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        const answer = found(line)
        if (answer !== undefined) resolve(answer)
      }
    })
  })
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const exit = once(child, 'exit')
  process.kill(-child.pid, 'SIGTERM')
  await exit
}

/** Writes the programs of a page into the folder; each begins with a comment that names its file. */
export async function programsOf(page: string, folder: string): Promise<string[]> {
  const text = await readFile(join(repository, page), 'utf8')
  const names: string[] = []
  for (const [, code = '', name = ''] of text.matchAll(/^```js\n(\/\/ (\S+\.mjs)\n[\s\S]*?)^```$/gm)) {
    await writeFile(join(folder, name), code)
    names.push(name)
  }
  return names
}

export async function runProgram(
  folder: string,
  program: string,
  env: Record<string, string>,
  node = process.execPath,
): Promise<string> {
  const { stdout } = await run(node, [program], { cwd: folder, env: { PATH: process.env.PATH, ...env } })
  return stdout
}

/** The one that runs this, and the machine's own: a package says `>=20`, and npm brings us a newer one. */
export function everyNode(): string[] {
  const machines = machinesPath()
    .map(folder => join(folder, 'node'))
    .find(executable)
  return machines ? [process.execPath, machines] : [process.execPath]
}

const machinesPath = (): string[] =>
  (process.env.PATH ?? '').split(delimiter).filter(folder => folder && !folder.includes('node_modules'))
