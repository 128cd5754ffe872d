/** A stand-in for the server process: does what its arguments say with a data folder, then waits to be killed. */
import { startEmbedded } from '../../src/db/embedded.ts'
import { lockDataDir } from '../../src/db/lock.ts'
import { migrate } from '../../src/db/migrate.ts'

const [what, place = '', more = ''] = process.argv.slice(2)
const say = (...words: unknown[]) => process.stdout.write(`${words.join(' ')}\n`)
const log = { info: say, warn: say, error: say }
process.on('SIGINT', () => say('interrupted'))
process.stdin.resume()

try {
  if (what === 'lock') await lockDataDir(place)
  if (what === 'start') {
    await startEmbedded({ dataDir: place, log, ...(more ? { toolFolders: [more] } : {}) })
  }
  if (what === 'migrate') say('applied', (await migrate({ url: place }, more)).applied.length)
  say('ready')
} catch (error) {
  say('refused', error instanceof Error ? error.message : error)
  process.stdin.pause()
}
