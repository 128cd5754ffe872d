/**
 * `npm run conformance`: installs the independent parties into conformance/node_modules when they are missing or older than their
 * lockfile, checks the types of the tests, which the root's `tsc` cannot see without them, and runs the tests.
 */
import { spawnSync } from 'node:child_process'
import { globSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'

const here = import.meta.dirname
const root = join(here, '..')

function run(what: string, command: string, ...args: string[]): void {
  process.stdout.write(`conformance: ${what}\n`)
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

/** npm writes this file last, so that it tells a finished installation from a broken one. */
const installed = statSync(join(here, 'node_modules', '.package-lock.json'), { throwIfNoEntry: false })
if (!installed || installed.mtimeMs < statSync(join(here, 'package-lock.json')).mtimeMs) {
  const npm = process.env.npm_execpath
  const args = ['ci', '--prefix', here, '--ignore-scripts', '--no-audit', '--no-fund']
  if (npm) run('installing', process.execPath, npm, ...args)
  else run('installing', 'npm', ...args)
}

run('types', process.execPath, join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', here)

const tests = globSync('test/**/*.test.ts', { cwd: here }).map(name => relative(root, join(here, name)))
const globals = '--test-global-setup=server/test/support/global.ts'
run(`${tests.length} test files`, process.execPath, '--test', globals, ...tests)
