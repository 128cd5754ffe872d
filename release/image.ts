/**
 * `npm run image`: the container image's own files, in dist/image, laid out as the Dockerfile copies them to `/`. Built here and not in the
 * Dockerfile's lines, so that a machine without Docker can make them, weigh them and run them.
 *
 *   fairlead/bin/node    the runtime alone, without its headers and manuals
 *   fairlead/lib/        libatomic, which the runtime links and the base image does not have
 *   fairlead/server/     the published server, its dependencies at the lockfile's versions
 *   fairlead/cli/        the published command line
 *   data/                FAIRLEAD_DATA_DIR: the journal of token answers
 *
 * No PostgreSQL: a container's database is somebody else's container.
 */
import { execFile } from 'node:child_process'
import { copyFile, cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { stage } from './stage.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))

export async function layImage(into = join(root, 'dist/image')): Promise<string> {
  const home = join(into, 'fairlead')
  const work = await mkdtemp(join(tmpdir(), 'fairlead-image-'))
  try {
    await rm(into, { recursive: true, force: true })
    await mkdir(join(home, 'bin'), { recursive: true })
    await mkdir(join(home, 'lib'))
    await mkdir(join(into, 'data'), { mode: 0o700 })
    await copyFile(process.execPath, join(home, 'bin/node'))
    await copyFile(await libatomic(), join(home, 'lib/libatomic.so.1'))
    await stage(work, ['server', 'cli'])
    for (const folder of ['server', 'cli']) await cp(join(work, folder), join(home, folder), { recursive: true })
    await cp(await lockedDependencies(work), join(home, 'server/node_modules'), {
      recursive: true,
      filter: path => !/node_modules[/\\](\.bin|\.package-lock\.json|@fairlead|@types)$/.test(path),
    })
    return into
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** What `npm ci` of the server alone leaves, without the optional packages: those are PostgreSQL and the runtime, with its headers. */
async function lockedDependencies(work: string): Promise<string> {
  const clone = join(work, 'locked')
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { workspaces: string[] }
  for (const file of ['package.json', 'package-lock.json', ...manifest.workspaces.map(one => `${one}/package.json`)]) {
    await mkdir(dirname(join(clone, file)), { recursive: true })
    await copyFile(join(root, file), join(clone, file))
  }
  const options = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--omit=dev', '--omit=optional']
  await run('npm', ['ci', ...options, '--workspace=@fairlead/server'], { cwd: clone })
  return join(clone, 'node_modules')
}

/** Where the loader of this machine finds it: the image is built on a machine of its own kind. */
async function libatomic(): Promise<string> {
  const { stdout } = await run('ldd', [process.execPath])
  const [, path] = /libatomic\.so\.1 => (\S+)/.exec(stdout) ?? []
  if (!path) throw new Error('libatomic is not installed: apt-get install libatomic1')
  return path
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.stdout.write(`${await layImage()}\n`)
