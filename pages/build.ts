/**
 * Builds the pages that run in a browser: each workspace of `pages` becomes static files in its own `dist/`, which the server serves
 * (server/src/http/static.ts). `npm run build` builds what is missing or older than its sources; `npm start` does so first, and so do
 * tests and the demo. The server itself never builds: a published package carries the files.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import type { PluginOption } from 'vite'

interface Page {
  /** The workspace. */
  folder: string
  /** Where it is served. */
  base: string
  /** Whose JSX it is written in. */
  jsx: 'preact' | 'react'
  /** What it is made of beside its own folder. */
  uses: string[]
  plugins?: () => Promise<PluginOption[]>
}

const pages: Page[] = [
  { folder: 'connect-ui', base: '/connect/', jsx: 'preact', uses: ['theme', 'contract/src'] },
  { folder: 'dashboard', base: '/app/', jsx: 'react', uses: ['theme', 'contract/src'] },
]

const root = join(import.meta.dirname, '..')
const dist = (page: Page) => join(root, page.folder, 'dist')
/** What the files in `dist/` were made from. Contents, not times: a checkout gives every file a new time. */
const stamp = '.sources'

/** Builds what has to be built, and says so in one line each. */
export async function buildPages(say: (line: string) => void): Promise<void> {
  for (const page of pages) {
    if (await isBuilt(page)) continue
    await alone(async () => {
      if (await isBuilt(page)) return
      const from = performance.now()
      await build(page)
      say(`Built ${page.folder} (${((performance.now() - from) / 1000).toFixed(1)} s)`)
    })
  }
}

const isBuilt = async (page: Page): Promise<boolean> =>
  (await readFile(join(dist(page), stamp), 'utf8').catch(() => '')) === (await sourcesOf(page))

async function sourcesOf({ folder, uses }: Page): Promise<string> {
  const hash = createHash('sha256')
  for (const part of [folder, ...uses, 'pages']) {
    const entries = await readdir(join(root, part), { recursive: true, withFileTypes: true })
    const files = entries
      .filter(entry => entry.isFile())
      .map(entry => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
      .filter(path => !/\/(dist(\.new)?|node_modules)\//.test(path))
      .sort()
    for (const path of files) hash.update(`${path}\0`).update(await readFile(join(root, path)))
  }
  return hash.digest('hex')
}

/** One build at a time on this machine, as in db/lock.ts: the kernel holds the lock, so it ends with a killed process. */
async function alone(work: () => Promise<void>): Promise<void> {
  const { DatabaseSync } = await import('node:sqlite')
  const lock = new DatabaseSync(join(root, 'node_modules/.fairlead-build.lock'), { timeout: 180_000 })
  try {
    lock.exec('begin exclusive')
    await work()
  } finally {
    lock.close()
  }
}

async function build(page: Page): Promise<void> {
  const vite = await import('vite')
  const made = `${dist(page)}.new`
  const sources = await sourcesOf(page)
  await vite.build({
    root: join(root, page.folder),
    base: page.base,
    configFile: false,
    envDir: false,
    logLevel: 'warn',
    oxc: { jsx: { runtime: 'automatic', importSource: page.jsx } },
    plugins: (await page.plugins?.()) ?? [],
    build: {
      outDir: made,
      // light-dark() as it is written: in every browser since May 2024.
      cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
      emptyOutDir: true,
      // Every file has its own address: a strict policy allows neither inline scripts nor data: in a style sheet's stead.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
      chunkSizeWarningLimit: 700,
      // 'use client' says something to servers that render; there is none here.
      rolldownOptions: { onLog: (level, entry, tell) => entry.code !== 'MODULE_LEVEL_DIRECTIVE' && tell(level, entry) },
    },
  })
  await Promise.all((await readdir(join(made, 'assets'))).map(name => compress(join(made, 'assets', name))))
  await writeFile(join(made, stamp), sources)
  await rm(dist(page), { recursive: true, force: true })
  await rename(made, dist(page))
}

const brotli = promisify(brotliCompress)
const deflate = promisify(gzip)

/** Once and as small as it gets, so that no request pays for it. */
async function compress(path: string): Promise<void> {
  if (!/\.(js|css|svg|json)$/.test(path)) return
  const bytes = await readFile(path)
  await writeFile(`${path}.br`, await brotli(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }))
  await writeFile(`${path}.gz`, await deflate(bytes, { level: 9 }))
}

if (import.meta.main) await buildPages(line => void process.stdout.write(`${line}\n`))
