/** Starting what stands beside this program: in the repository, or installed in the same folder. What it says is its own; so is how it ends. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Command } from '../command.ts'
import { UsageFault } from '../faults.ts'

/** `main` serves; `maintain` works on its database. */
export function serverProgram(name: 'main' | 'maintain'): string {
  const inRepository = beside(`server/src/${name}.ts`)
  if (inRepository) return inRepository
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')])
    try {
      return join(dirname(createRequire(from).resolve('@fairlead/server')), `${name}.js`)
    } catch {
      // Not installed there.
    }
  throw new UsageFault('The server is not installed here. "npm install @fairlead/server" brings it.')
}

function demo(): string {
  const program = beside('demo/main.ts')
  if (!program) throw new UsageFault('The demo is not part of what is published. Run it in the repository of Fairlead.')
  return program
}

function beside(path: string): string | undefined {
  const program = fileURLToPath(new URL(`../../../${path}`, import.meta.url))
  return existsSync(program) ? program : undefined
}

export function start(program: string, args: string[]): Promise<undefined> {
  const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit' })
  // The terminal tells the whole group; a supervisor tells this process alone.
  const pass = (signal: NodeJS.Signals) => void child.kill(signal)
  process.on('SIGTERM', pass).on('SIGINT', () => {})
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      process.exitCode = code ?? 128 + (signal ? constants.signals[signal] : 0)
      resolve(undefined)
    })
  })
}

export const running: Command[] = [
  {
    words: 'start',
    usage: '',
    summary: 'Starts the server in this terminal, with the environment as it is',
    options: [],
    args: { min: 0, max: 0 },
    // In this process: another one would take 0.1 s to come up and 50 MB beside the server for as long as it runs.
    run: async () => {
      await import(pathToFileURL(serverProgram('main')).href)
    },
  },
  {
    words: 'demo',
    usage: '[--once]',
    summary: 'Starts a server and a Salesforce simulator, connects a sandbox and asks it for its accounts',
    options: ['once'],
    args: { min: 0, max: 0 },
    run: ({ values }) => start(demo(), values.once ? ['--once'] : []),
  },
]
