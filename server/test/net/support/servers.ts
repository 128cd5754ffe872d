/** Servers and certificates for the egress tests. Everything opened is closed by the test context that asked for it. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

export interface Listening {
  port: number
  /** Connections accepted so far. */
  sockets: Socket[]
}

/** Listens with whatever server on a free port; counts the TCP connections; ends them with the test. */
export async function listen(t: TestContext, server: Server, host = '127.0.0.1'): Promise<Listening> {
  const sockets: Socket[] = []
  server.on('connection', (socket: Socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
  })
  server.on('tlsClientError', () => {})
  server.listen(0, host)
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, sockets }
}

/** A TCP server that speaks by hand. */
export function rawServer(t: TestContext, onSocket: (socket: Socket) => void): Promise<Listening> {
  return listen(t, createServer(onSocket))
}

/** A server that sends `text` once it has read the end of a request head. */
export function answering(t: TestContext, text: string | Buffer, then: (socket: Socket) => void = s => s.end()) {
  return rawServer(t, socket => {
    let head = ''
    socket.on('data', chunk => {
      if (head.includes('\r\n\r\n')) return
      head += chunk.toString('latin1')
      if (head.includes('\r\n\r\n')) socket.write(text, () => then(socket))
    })
  })
}

/** A port nobody listens on. */
export async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = (server.address() as AddressInfo).port
  server.close()
  await once(server, 'close')
  return port
}

interface Certificate {
  key: string
  cert: string
}

let made: Certificate | undefined

/** A self-signed certificate for api.example, acme.localhost and 127.0.0.1; its own authority. */
export function certificate(): Certificate {
  if (made) return made
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-cert-'))
  try {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const names = 'subjectAltName=DNS:api.example,DNS:acme.localhost,IP:127.0.0.1'
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    execFileSync(
      'openssl',
      ['req', '-x509', ...curve, '-days', '2', '-subj', '/CN=test', '-addext', names, '-keyout', key, '-out', cert],
      { stdio: 'pipe' },
    )
    made = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
    return made
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The same, a day after its end. */
export function expiredCertificate(): Certificate {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-cert-'))
  try {
    const { key, cert } = certificate()
    const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    writeFileSync(keyFile, key)
    writeFileSync(certFile, cert)
    const expired = execFileSync('openssl', ['x509', '-in', certFile, '-signkey', keyFile, '-days', '-1'], {
      stdio: 'pipe',
    })
    return { key, cert: expired.toString() }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
