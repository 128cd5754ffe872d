/** Child processes of a benchmark: started, pinned to a core where the system can, asked for their CPU time, ended with the benchmark. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Process {
  pid: number
  /** Microseconds of CPU so far, user and system, all threads. */
  cpu(): number
  /** Resident memory in MB. */
  rss(): number
  stop(): Promise<void>
}

/** From one core only, so that two processes do not take turns on it unnoticed. Nothing happens where there is no taskset. */
export function pin(pid: number, core: number): void {
  spawnSync('taskset', ['-a', '-c', '-p', String(core), String(pid)], { stdio: 'ignore' })
}

/** Resolves when `port` takes connections. */
export async function start(command: string, args: string[], port: number, env?: NodeJS.ProcessEnv): Promise<Process> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], ...(env && { env }) })
  const gone = once(child, 'exit')
  for (let tries = 0; !(await listening(port)); tries++) {
    if (child.exitCode !== null || tries > 600) throw new Error(`${command} ${args.join(' ')} did not start`)
    await sleep(50)
  }
  const pid = child.pid!
  return { pid, cpu: () => cpuOf(pid), rss: () => rssOf(pid), stop: () => end(child, gone) }
}

async function end(child: ChildProcess, gone: Promise<unknown>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
  await gone
}

async function listening(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/**
 * proc(5): fields 14 and 15 of stat, in ticks of 10 ms, and 16 and 17 of the children it has waited for; the process's name may hold spaces
 * and ends at the last ")".
 */
export function cpuOf(pid: number, { withEnded = false } = {}): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = fields.slice(11, withEnded ? 15 : 13).reduce((sum, field) => sum + Number(field), 0)
  return ticks * 10_000
}

const rssOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address ? address.port : 0
}
