/** An nginx in front of a server under test, as people run one: it keeps its connections to us and shares them between its callers. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../support/fairlead.ts'

const binary = ['nginx', '/usr/sbin/nginx'].find(name => spawnSync(name, ['-v'], { stdio: 'ignore' }).status === 0)

export const hasNginx = binary !== undefined

export interface Nginx {
  url: string
  /** Method and target of every request it read, in order; written when a request is over. */
  read(): Promise<string[]>
}

/** It keeps one connection to `behind`, so that whatever one caller leaves on it the next caller would get. */
export async function startNginx(t: { after(work: () => Promise<void>): void }, behind: string): Promise<Nginx> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-nginx-'))
  const config = join(folder, 'nginx.conf')
  await writeFile(
    config,
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
    events { worker_connections 256; }
    http {
      log_format lines '$request_method $request_uri'; access_log ${folder}/access.log lines; client_body_temp_path ${folder}; proxy_temp_path ${folder};
      fastcgi_temp_path ${folder}; uwsgi_temp_path ${folder}; scgi_temp_path ${folder};
      upstream fairlead { server ${new URL(behind).host}; keepalive 1; }
      server {
        listen 127.0.0.1:${port};
        underscores_in_headers on;
        location / {
          proxy_pass http://fairlead; proxy_http_version 1.1; proxy_set_header Connection "";
          proxy_request_buffering off; proxy_buffering off;
        }
      }
    }`,
  )
  const child = spawn(binary!, ['-c', config, '-e', join(folder, 'error.log')], { stdio: 'ignore' })
  t.after(async () => {
    child.kill()
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    await rm(folder, { recursive: true, force: true })
  })
  await listens(port, child)
  const read = async () => (await readFile(join(folder, 'access.log'), 'utf8')).split('\n').slice(0, -1)
  return { url: `http://127.0.0.1:${port}`, read }
}

async function listens(port: number, child: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    const socket = connect(port, '127.0.0.1')
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (open) return
    if (child.exitCode !== null) break
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  throw new Error('nginx did not start')
}
