/** Chromium where there is one: CHROMIUM_PATH, or on the PATH. In CI a missing browser is a failure, elsewhere a skip in one line. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type Browser, chromium } from 'playwright-core'

const names = ['chromium', 'chromium-browser', 'google-chrome']

export function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

export function chromiumPath(): string | undefined {
  const given = process.env.CHROMIUM_PATH
  if (given) {
    if (!executable(given)) throw new Error(`CHROMIUM_PATH=${given} is not a program that can be run.`)
    return given
  }
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return names.flatMap(name => folders.map(folder => join(folder, name))).find(executable)
}

/** For `skip` of a test: the reason, or false when a browser is there. Throws in CI. */
export function skipWithoutBrowser(): string | false {
  if (chromiumPath()) return false
  const reason = `no Chromium: set CHROMIUM_PATH or put one of ${names.join(', ')} on the PATH`
  if (process.env.CI) throw new Error(`In CI the browser tests must run, and there is ${reason}.`)
  return reason
}

export const launch = (): Promise<Browser> =>
  chromium.launch({
    executablePath: chromiumPath() ?? '',
    args: [
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
    ],
  })
