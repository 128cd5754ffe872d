/**
 * `npm run stage`: what is published, made from the workspaces. Node runs no TypeScript below node_modules, so a published package is
 * JavaScript with its declarations: compiled by tsc into dist/ beside a package.json that points there. Development needs none of this.
 *
 *   dist/npm/<folder>/          the package as it is published
 *   dist/npm/<name>-<version>.tgz
 */
import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { contractTypes } from './contract-types.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))

interface Target {
  /** The workspace's folder. */
  folder: string
  /** What the code may take for granted: `web` is fetch, URL and WebCrypto with no Node beside them; `page` has a document, too. */
  runsOn: 'web' | 'page' | 'node'
  /** A folder of the repository beside it whose pure files it uses; those travel in its dist/. */
  beside?: string
}

const targets: Target[] = [
  { folder: 'node', runsOn: 'web' },
  { folder: 'browser', runsOn: 'page' },
  { folder: 'cli', runsOn: 'node', beside: 'salesforce' },
  { folder: 'simulator', runsOn: 'node' },
]

interface Manifest {
  name: string
  version: string
  exports?: string
  bin?: Record<string, string>
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
  files?: string[]
}

/** Makes every package in `into` and answers the tarballs by package name. */
export async function stage(into = join(root, 'dist/npm'), folders = targets.map(target => target.folder)) {
  const tarballs: Record<string, string> = {}
  for (const target of targets.filter(({ folder }) => folders.includes(folder))) {
    const out = join(into, target.folder)
    await rm(out, { recursive: true, force: true })
    await mkdir(join(out, 'dist'), { recursive: true })
    await compile(target, out)
    const source = JSON.parse(await readFile(join(root, target.folder, 'package.json'), 'utf8')) as Manifest
    await writeFile(join(out, 'package.json'), `${JSON.stringify(published(source), null, 2)}\n`)
    await cp(join(root, 'LICENSE'), join(out, 'LICENSE'))
    await cp(join(root, target.folder, 'README.md'), join(out, 'README.md'))
    const packed = await run('npm', ['pack', '--json', '--pack-destination', into], { cwd: out })
    const [{ filename }] = JSON.parse(packed.stdout) as [{ filename: string }]
    tarballs[source.name] = join(into, filename)
  }
  return tarballs
}

/** What is not needed to run it stays here; what points to TypeScript points to what became of it. */
function published({ devDependencies: _, ...manifest }: Manifest): object {
  const { exports, bin } = manifest
  const built = (path: string, extension: string) =>
    path.replace(/^(\.\/)?src\//, '$1dist/').replace(/\.ts$/, extension)
  return {
    ...manifest,
    files: ['dist'],
    ...(exports && { exports: { types: built(exports, '.d.ts'), default: built(exports, '.js') } }),
    ...(bin && { bin: Object.fromEntries(Object.entries(bin).map(([name, path]) => [name, built(path, '.js')])) }),
  }
}

const libraries = {
  web: ['es2022', 'dom'],
  page: ['es2022', 'dom', 'dom.iterable'],
  node: ['es2024', 'esnext.disposable'],
}

async function compile({ folder, runsOn, beside }: Target, out: string): Promise<void> {
  const base = JSON.parse(await readFile(join(root, 'tsconfig.json'), 'utf8')) as { compilerOptions: object }
  const types = join(out, 'dist/contract.d.ts')
  await writeFile(types, contractTypes())
  const config = join(out, 'tsconfig.json')
  const compilerOptions = {
    ...base.compilerOptions,
    lib: libraries[runsOn],
    types: runsOn === 'node' ? ['node'] : [],
    target: runsOn === 'node' ? 'es2024' : 'es2022',
    noEmit: false,
    declaration: true,
    rewriteRelativeImportExtensions: true,
    rootDir: beside ? root : join(root, folder, 'src'),
    outDir: join(out, 'dist'),
    typeRoots: [join(root, 'node_modules/@types')],
    // Only types of the contract are used, and these travel with the package.
    paths: { '@fairlead/contract': [types] },
  }
  await writeFile(config, JSON.stringify({ compilerOptions, include: [join(root, folder, 'src')] }))
  try {
    await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', config])
  } catch (error) {
    throw new Error(`${folder} does not compile:\n${(error as { stdout?: string }).stdout}`)
  }
  await rm(config)
  if (beside) {
    await cp(join(out, 'dist', folder, 'src'), join(out, 'dist'), { recursive: true })
    await rm(join(out, 'dist', folder), { recursive: true })
  }
  await localise(join(out, 'dist'), types, beside)
}

/** Declarations name the contract's types where they travel, and what nobody names does not travel. */
async function localise(dist: string, types: string, beside: string | undefined): Promise<void> {
  let named = false
  for (const file of await readdir(dist, { recursive: true })) {
    if (!/\.(d\.ts|js)$/.test(file)) continue
    const path = join(dist, file)
    const text = await readFile(path, 'utf8')
    const depth = file.split(/[\\/]/).length - 1
    const to = depth === 0 ? './contract.js' : `${'../'.repeat(depth)}contract.js`
    const local = text
      .replaceAll("'@fairlead/contract'", `'${to}'`)
      .replaceAll('"@fairlead/contract"', `"${to}"`)
      .replace(/(from ['"]|import\(['"])(\.[^'"]*)\.ts(['"])/g, '$1$2.js$3')
      // From src/ it was two folders further up.
      .replaceAll(
        new RegExp(`((?:\\.\\./)*)\\.\\./\\.\\./${beside}/`, 'g'),
        (_, up: string) => `${up || './'}${beside}/`,
      )
    named ||= local.includes('contract.js')
    if (local !== text) await writeFile(path, local)
  }
  if (!named) await rm(types)
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [name, tarball] of Object.entries(await stage())) process.stdout.write(`${name}  ${tarball}\n`)
