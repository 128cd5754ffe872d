/**
 * `npm run docs`: the documentation as files, in dist/docs. A server of its own renders it, exactly as any server does, and every page that a
 * link leads to is saved. Links between pages become relative, so that it can be read from a disk, without a server, and be put below any
 * path of one (search needs that: browsers run no modules from a disk). FAIRLEAD_URL is the address the pages name.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { startApp } from '../server/src/app.ts'
import { readConfig } from '../server/src/config.ts'

const fileOf = (path: string, isPage: boolean): string => (isPage ? posix.join(path, 'index.html') : path)

const isAsset = (path: string): boolean => /\.\w+$/.test(path)

/** Every link of a page to a page, as a way from file to file. */
const relinked = (html: string, from: string): string =>
  html.replace(/(href|src)="(\/[^"#]*)(#[^"]*)?"/g, (_, attribute: string, to: string, anchor = '') => {
    const file = fileOf(to, !isAsset(to))
    return `${attribute}="${posix.relative(from, file)}${anchor}"`
  })

/** Saves everything that links below `/docs/` lead to. Answers the paths. */
export async function exportDocs(from: string, into: string): Promise<string[]> {
  const saved = new Set<string>()
  const waiting = [
    '/docs/',
    '/llms.txt',
    '/openapi.json',
    ...['minisearch.js', 'search.json'].map(name => `/docs/assets/${name}`),
  ]
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (saved.has(path)) continue
    const answer = await fetch(`${from}${path}`)
    if (!answer.ok) throw new Error(`${path} answers ${answer.status}`)
    const text = await answer.text()
    const page = answer.headers.get('content-type')?.startsWith('text/html') ?? false
    const file = join(into, fileOf(path, page))
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, page ? relinked(text, path) : text)
    saved.add(path)
    if (page)
      for (const [, to] of text.matchAll(/(?:href|src)="(?!https:)([^"#]+)/g)) {
        const { pathname } = new URL(to!, `${from}${path}`)
        if (!pathname.startsWith('/docs/')) continue
        waiting.push(pathname)
        // What /llms.txt leads to.
        if (!pathname.includes('/assets/') && !['/docs/', '/docs/api'].includes(pathname))
          waiting.push(`${pathname}.md`)
      }
  }
  return [...saved]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const into = fileURLToPath(new URL('../dist/docs', import.meta.url))
  const dataDir = await mkdtemp(join(tmpdir(), 'fairlead-docs-'))
  const port = '3903'
  const app = await startApp(
    readConfig({
      PORT: port,
      FAIRLEAD_DATA_DIR: dataDir,
      FAIRLEAD_URL: process.env.FAIRLEAD_URL ?? 'http://localhost:3003',
    }),
    pino({ level: 'silent' }),
  )
  try {
    await rm(into, { recursive: true, force: true })
    const saved = await exportDocs(`http://127.0.0.1:${app.port}`, into)
    process.stdout.write(`${saved.length} files in ${into}\n`)
  } finally {
    await app.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}
