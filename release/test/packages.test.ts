/** Each package as npm delivers it: an empty folder, no registry, no TypeScript, on our Node and on the machine's own. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { everyNode, installed, runProgram } from './packed.ts'

const tsc = fileURLToPath(new URL('../../node_modules/typescript/bin/tsc', import.meta.url))

async function filesOf(folder: string, name: string): Promise<[name: string, text: string][]> {
  const at = join(folder, 'node_modules', name)
  const names = (await readdir(at, { recursive: true })).filter(file => /\.(js|ts|json)$/.test(file))
  return Promise.all(names.map(async file => [file, await readFile(join(at, file), 'utf8')] as [string, string]))
}

test('@fairlead/node: runs on every Node from 20, brings nothing, knows its types', async t => {
  const folder = await installed(t, 'node')
  assert.deepEqual(await readdir(join(folder, 'node_modules/@fairlead')), ['node'])
  const files = await filesOf(folder, '@fairlead/node')
  for (const [name, text] of files) {
    assert.ok(!/(?<!\.d)\.ts$/.test(name), name)
    assert.doesNotMatch(text, /@fairlead\/contract|node:|from '[^.]/, name)
  }
  const manifest = JSON.parse(files.find(([name]) => name === 'package.json')![1])
  assert.equal(manifest.dependencies ?? manifest.devDependencies, undefined)
  const code = files.filter(([name]) => name.endsWith('.js')).map(([, text]) => text)
  const size = gzipSync(code.join('\n')).length
  assert.ok(size < 8 * 1024, `${size} bytes of code, compressed`)
  t.diagnostic(`${size} bytes of code, compressed`)

  await writeFile(
    join(folder, 'use.mjs'),
    `import { Fairlead, FairleadError } from '@fairlead/node'
     const fairlead = new Fairlead({ url: 'http://127.0.0.1:9', apiKey: 'x' })
     await fairlead.integrations.list().catch(error => console.log(error instanceof FairleadError, error.code))
     await fairlead.proxy.get({ provider_config_key: 'a', connection_id: 'b' }, '/../x').catch(error => console.log(error.code))`,
  )
  for (const node of everyNode())
    assert.equal(await runProgram(folder, 'use.mjs', {}, node), 'true unreachable\nproxy_path_traversal\n', node)

  // As somebody else's compiler sees it: strict, every declaration looked at, no Node types, no contract.
  await writeFile(
    join(folder, 'use.mts'),
    `import { type ErrorCode, Fairlead, FairleadError, type ListedConnection } from '@fairlead/node'
     const fairlead = new Fairlead({ url: 'http://a', apiKey: 'x' })
     for await (const connection of fairlead.connections.list({ state: 'active' })) {
       const one: ListedConnection = connection
       const answer: Response = await fairlead.proxy.get(one, '/x', { retries: 1 })
       for await (const { items } of fairlead.proxy.pages<{ Name: string }>(one, '/q')) items[0]?.Name.trim()
       const said: string = one.state.message + answer.status
       const code: ErrorCode = 'connection_paused'
       if (said && new FairleadError(code, '').code === 'unreachable') break
     }
     // @ts-expect-error no such state
     fairlead.connections.list({ state: 'fine' })
     // @ts-expect-error an end user has an id
     await fairlead.connectSessions.create({ end_user: {} })
     export {}`,
  )
  const options =
    '--noEmit --strict --exactOptionalPropertyTypes --skipLibCheck false --target es2022 --module nodenext --lib es2022,dom'
  await promisify(execFile)(process.execPath, [tsc, ...options.split(' '), '--types', '', 'use.mts'], {
    cwd: folder,
  }).catch(({ stdout }) => assert.fail(stdout))
})
