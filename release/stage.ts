/**
 * `npm run stage`: what is published, made from the workspaces. Node runs no TypeScript below node_modules, so a published package is
 * JavaScript with its declarations: compiled by tsc into dist/ beside a package.json that points there. Development needs none of this.
 *
 *   dist/npm/<folder>/          the package as it is published
 *   dist/npm/<name>-<version>.tgz
 *   dist/npm/<folder>.cdx.json  what is in it (CycloneDX), at the versions it was tested with
 *
 * `npm run stage -- server cli` makes these two alone.
 */
import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { buildPages } from '../pages/build.ts'
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
  /**
   * The whole house: dist/ is laid out as the repository is, so that every path in the code stays true, the contract is there as code,
   * and these files and folders come along as they are.
   */
  house?: string[]
}

const targets: Target[] = [
  { folder: 'node', runsOn: 'web' },
  { folder: 'browser', runsOn: 'page' },
  { folder: 'cli', runsOn: 'node', beside: 'salesforce' },
  { folder: 'simulator', runsOn: 'node' },
  {
    folder: 'server',
    runsOn: 'node',
    house: ['server/src/db/migrations', 'providers', 'docs', 'theme/tokens.css', 'connect-ui/dist', 'dashboard/dist'],
  },
]

interface Manifest {
  name: string
  version: string
  exports?: string
  bin?: Record<string, string>
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
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
    if (target.house) await buildPages(() => {})
    await compile(target, out)
    const source = await manifestOf(target.folder)
    const complete = target.house ? withRuntime(source, await manifestOf('.')) : source
    const manifest = published(complete, target)
    await writeFile(join(out, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
    await cp(join(root, 'LICENSE'), join(out, 'LICENSE'))
    await cp(join(root, target.folder, 'README.md'), join(out, 'README.md'))
    const packed = await run('npm', ['pack', '--json', '--pack-destination', into], { cwd: out })
    const [{ filename }] = JSON.parse(packed.stdout) as [{ filename: string }]
    tarballs[source.name] = join(into, filename)
    await writeFile(join(into, `${target.folder}.cdx.json`), `${JSON.stringify(await billOf(complete), null, 2)}\n`)
  }
  return tarballs
}

interface Bill {
  metadata: { component: { name: string } }
  components: { 'bom-ref': string; name: string }[]
  dependencies: { ref: string; dependsOn: string[] }[]
}

/**
 * npm's own bill of materials, from the lockfile. It is of the repository: what one package brings is followed from its manifest.
 */
async function billOf(manifest: Manifest): Promise<Bill> {
  // Said aloud: building pages leaves NODE_ENV=production behind, and npm then leaves out what development might use, too.
  const options = ['--sbom-format', 'cyclonedx', '--package-lock-only', '--include=dev']
  const { stdout } = await run('npm', ['sbom', ...options], { cwd: root, maxBuffer: 64 * 1024 * 1024 })
  const bill = JSON.parse(stdout) as Bill
  const neededBy = new Map(bill.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]))
  const own = `${manifest.name}@${manifest.version}`
  const named = new Set(Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }))
  const brought = new Set<string>()
  const follow = (ref: string): void => {
    if (brought.has(ref)) return
    brought.add(ref)
    for (const next of neededBy.get(ref) ?? []) follow(next)
  }
  for (const ref of neededBy.get(own) ?? []) if (named.has(ref.slice(0, ref.lastIndexOf('@')))) follow(ref)
  const component = bill.components.find(part => part['bom-ref'] === own)!
  return {
    ...bill,
    metadata: { ...bill.metadata, component: { ...component, name: manifest.name } },
    components: bill.components.filter(part => brought.has(part['bom-ref'])),
    dependencies: [
      { ref: own, dependsOn: (neededBy.get(own) ?? []).filter(ref => brought.has(ref)) },
      ...bill.dependencies.filter(({ ref }) => brought.has(ref)),
    ],
  }
}

const manifestOf = async (folder: string): Promise<Manifest> =>
  JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8')) as Manifest

/** The Node that everything was tested on comes with it, as it does here; the contract is in it. */
function withRuntime(server: Manifest, repository: Manifest): Manifest {
  const { '@fairlead/contract': _, ...dependencies } = server.dependencies ?? {}
  return {
    ...server,
    dependencies,
    optionalDependencies: { ...server.optionalDependencies, ...repository.optionalDependencies },
  }
}

/** What is not needed to run it stays here; what points to TypeScript points to what became of it. */
function published({ devDependencies: _, ...manifest }: Manifest, { folder, house }: Target): object {
  const { exports, bin } = manifest
  const built = (path: string, extension: string) =>
    path.replace(/^(\.\/)?src\//, house ? `$1dist/${folder}/src/` : '$1dist/').replace(/\.ts$/, extension)
  return {
    ...manifest,
    files: ['dist'],
    // Nobody imports a server: its one export is the program, for whoever starts it.
    ...(exports && {
      exports: house ? built(exports, '.js') : { types: built(exports, '.d.ts'), default: built(exports, '.js') },
    }),
    ...(bin && { bin: Object.fromEntries(Object.entries(bin).map(([name, path]) => [name, built(path, '.js')])) }),
  }
}

const libraries = {
  web: ['es2022', 'dom'],
  page: ['es2022', 'dom', 'dom.iterable'],
  node: ['es2024', 'esnext.disposable'],
}

async function compile({ folder, runsOn, beside, house }: Target, out: string): Promise<void> {
  const base = JSON.parse(await readFile(join(root, 'tsconfig.json'), 'utf8')) as { compilerOptions: object }
  const types = join(out, 'dist/contract.d.ts')
  if (!house) await writeFile(types, contractTypes())
  const config = join(out, 'tsconfig.json')
  const compilerOptions = {
    ...base.compilerOptions,
    lib: libraries[runsOn],
    types: runsOn === 'node' ? ['node'] : [],
    target: runsOn === 'node' ? 'es2024' : 'es2022',
    noEmit: false,
    declaration: !house,
    rewriteRelativeImportExtensions: true,
    rootDir: beside || house ? root : join(root, folder, 'src'),
    outDir: join(out, 'dist'),
    typeRoots: [join(root, 'node_modules/@types')],
    // Of the contract only types are used, and these travel with the package; a house has all of it.
    paths: { '@fairlead/contract': [house ? join(root, 'contract/src/index.ts') : types] },
  }
  // What a house runs, and nothing that is only for developing it.
  const sources = house
    ? {
        include: ['main', 'maintain']
          .map(name => join(root, folder, `src/${name}.ts`))
          .concat(join(root, 'providers/*.ts')),
      }
    : { include: [join(root, folder, 'src')] }
  await writeFile(config, JSON.stringify({ compilerOptions, ...sources }))
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
  await localise(join(out, 'dist'), house ? 'contract/src/index.js' : 'contract.js', beside)
  if (!house && !(await namesContract(join(out, 'dist')))) await rm(types)
  for (const path of house ?? [])
    await cp(join(root, path), join(out, 'dist', path), {
      recursive: true,
      // Compiled already, of the build alone, or of the README.
      filter: from => !from.endsWith('.ts') && !['.sources', 'pictures'].includes(basename(from)),
    })
}

/** What names the contract names it where it travels, and every import names what became of the file. */
async function localise(dist: string, contract: string, beside: string | undefined): Promise<void> {
  for (const file of await codeIn(dist)) {
    const path = join(dist, file)
    const text = await readFile(path, 'utf8')
    const depth = file.split(/[\\/]/).length - 1
    const to = `${depth === 0 ? './' : '../'.repeat(depth)}${contract}`
    const local = text
      .replaceAll("'@fairlead/contract'", `'${to}'`)
      .replaceAll('"@fairlead/contract"', `"${to}"`)
      .replace(/(from ['"]|import\(['"])(\.[^'"]*)\.ts(['"])/g, '$1$2.js$3')
      // From src/ it was two folders further up.
      .replaceAll(
        new RegExp(`((?:\\.\\./)*)\\.\\./\\.\\./${beside}/`, 'g'),
        (_, up: string) => `${up || './'}${beside}/`,
      )
    if (local !== text) await writeFile(path, local)
  }
}

const codeIn = async (dist: string): Promise<string[]> =>
  (await readdir(dist, { recursive: true })).filter(file => /\.(d\.ts|js)$/.test(file))

/** What nobody names does not travel. */
async function namesContract(dist: string): Promise<boolean> {
  const texts = await Promise.all((await codeIn(dist)).map(file => readFile(join(dist, file), 'utf8')))
  return texts.some(text => text.includes('contract.js'))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const chosen = process.argv.slice(2)
  const tarballs = await stage(undefined, chosen.length > 0 ? chosen : undefined)
  for (const [name, tarball] of Object.entries(tarballs)) process.stdout.write(`${name}  ${tarball}\n`)
}
