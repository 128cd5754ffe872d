/**
 * Every bench in this folder, one after the other, each in a process of its own; further arguments are handed on. But scale.ts, which takes a
 * quarter of an hour: `npm run bench:scale`.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const benches = [
  'start.ts',
  'proxy.ts',
  'read.ts',
  'oauth.ts',
  'keep-alive.ts',
  'streaming.ts',
  'isolation.ts',
  'replicas.ts',
  'move.ts',
]
for (const bench of benches) {
  const { status } = spawnSync(process.execPath, [join(import.meta.dirname, bench), ...process.argv.slice(2)], {
    stdio: 'inherit',
  })
  if (status !== 0) process.exitCode = 1
}
