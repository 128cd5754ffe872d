/** Runs the real program as a child process: what it prints, where, and how it exits. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const bin = fileURLToPath(new URL('../src/main.ts', import.meta.url))

export interface Ran {
  code: number | null
  out: string
  err: string
  /** Standard output as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: a test reads members of whatever came back
  json: any
}

/** With nothing of this process's environment but the path; `input` is its standard input, which is never a terminal. */
export function run(args: string[], env: Record<string, string> = {}, input = ''): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...args], { env: { PATH: process.env.PATH ?? '', ...env } })
    let out = ''
    let err = ''
    child.stdout.setEncoding('utf8').on('data', piece => {
      out += piece
    })
    child.stderr.setEncoding('utf8').on('data', piece => {
      err += piece
    })
    child.on('error', reject)
    child.on('close', code => {
      let json: unknown
      try {
        json = JSON.parse(out)
      } catch {}
      resolve({ code, out, err, json })
    })
    child.stdin.on('error', () => {}).end(input)
  })
}
