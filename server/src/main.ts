#!/usr/bin/env node
/** Starts the server: configuration → app → listen → stop. What start does not need is imported when it is. */
import * as nodeModule from 'node:module'

// A Node that is too old would fail on the first import it does not have, in words that help nobody.
if (Number.parseInt(process.versions.node, 10) < 24) {
  process.stderr.write(
    `Fairlead needs Node 24 or later, and this is ${process.version}. It was installed with one: start it with npx, or npm start.\n`,
  )
  process.exit(1)
}
// Node keeps the stripped and compiled modules of the last start: measured 0.45 s instead of 0.75 s of imports on two cores.
nodeModule.enableCompileCache()
// Half of libuv's threads may be waiting for a provider's DNS; four would leave two for everything else.
process.env.UV_THREADPOOL_SIZE ??= '16'

const { run } = await import('./run.ts')
await run()
