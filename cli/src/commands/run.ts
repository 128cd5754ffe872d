/** Starting what stands beside this program in the repository. What it says is its own; so is how it ends. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Command } from '../command.ts'
import { UsageFault } from '../faults.ts'

export function beside(path: string, args: string[]): Promise<undefined> {
  const program = fileURLToPath(new URL(`../../../${path}`, import.meta.url))
  if (!existsSync(program))
    throw new UsageFault('This program came without the server. Run this in the repository of Fairlead.')
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
    run: () => beside('server/src/main.ts', []),
  },
  {
    words: 'demo',
    usage: '[--once]',
    summary: 'Starts a server and a Salesforce simulator, connects a sandbox and asks it for its accounts',
    options: ['once'],
    args: { min: 0, max: 0 },
    run: ({ values }) => beside('demo/main.ts', values.once ? ['--once'] : []),
  },
]
