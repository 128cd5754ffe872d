/** A package as its users get it: packed, and installed by npm into an empty folder without a registry. */
import { execFile } from 'node:child_process'
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
  const folders = (process.env.PATH ?? '').split(delimiter).filter(folder => folder && !folder.includes('node_modules'))
  const machines = folders.map(folder => join(folder, 'node')).find(executable)
  return machines ? [process.execPath, machines] : [process.execPath]
}
