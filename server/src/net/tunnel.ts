/**
 * FAIRLEAD_EGRESS_PROXY: a proxy on the way out, for networks that have no other way and for providers that know callers by their
 * address. Owns the variable's grammar and the two ways of asking a proxy for a connection.
 *
 *   variable = entry *( "," entry )      entry = [ ( host | "*." suffix ) "=" ] proxy      proxy = an http: or socks5: URL
 *
 * The first entry that names the host counts; one without a host is for all the others. The proxy is given the address that the policy
 * judged, never the name: a second resolution behind our back is how a checked name comes to lead inside.
 */
import type { Socket } from 'node:net'
import { Secret } from '../lib/secret.ts'

export interface EgressProxy {
  /** Undefined: every host no other entry names. */
  host: string | undefined
  kind: 'http' | 'socks5'
  address: { host: string; port: number }
  user: { name: string; password: Secret } | undefined
}

// A URL drops :80 of http:, so there it can only mean 80.
const defaultPorts = { http: 80, socks5: 1080 }

export function parseEgressProxies(text: string): { proxies: EgressProxy[]; faults: string[] } {
  const proxies: EgressProxy[] = []
  const faults: string[] = []
  if (text.trim() === '') return { proxies, faults }
  // Numbered, not quoted: an entry may hold a password.
  for (const [index, entry] of text.split(',').entries()) {
    const [, host, target = ''] = /^(?:([^=:/]+)=)?(.*)$/.exec(entry.trim())!
    const url = URL.parse(target)
    const kind = url && ({ 'http:': 'http', 'socks5:': 'socks5' } as const)[url.protocol]
    if (!url || !kind || !url.hostname || !/^\/?$/.test(url.pathname) || url.search || url.hash) {
      faults.push(
        `entry ${index + 1} is not a proxy: write http://host:port or socks5://host:port, optionally after "host=".`,
      )
    } else if (host !== undefined && !/^(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*$/.test(host)) {
      faults.push(`entry ${index + 1} names "${host}", which is not a host or *.suffix in lower case.`)
    } else {
      const name = decodeURIComponent(url.username)
      proxies.push({
        host,
        kind,
        address: { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(url.port || defaultPorts[kind]) },
        user: name === '' ? undefined : { name, password: new Secret(decodeURIComponent(url.password)) },
      })
    }
  }
  return { proxies, faults }
}

/** Undefined: this host is reached directly. */
export function proxyFor(proxies: readonly EgressProxy[], host: string): EgressProxy | undefined {
  const names = (pattern: string | undefined) =>
    pattern !== undefined && (pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern)
  return proxies.find(proxy => names(proxy.host)) ?? proxies.find(proxy => proxy.host === undefined)
}

/** A connection to `address` (an IP address) and `port` through the proxy. Throws what the proxy or the way there says against it. */
export function tunnel(proxy: EgressProxy, address: string, port: number, timeoutMs: number): Promise<Socket> {
  return proxy.kind === 'socks5'
    ? throughSocks(proxy, address, port, timeoutMs)
    : throughConnect(proxy, address, port, timeoutMs)
}

/** RFC 9110 §9.3.6. */
async function throughConnect(
  { address: at, user }: EgressProxy,
  address: string,
  port: number,
  timeoutMs: number,
): Promise<Socket> {
  // The configuration is read by this file, too, and a first start's initdb waits for that: node:http takes 50 to 100 ms.
  const { request } = await import('node:http')
  const target = `${address.includes(':') ? `[${address}]` : address}:${port}`
  const login = user && Buffer.from(`${user.name}:${user.password.reveal()}`).toString('base64')
  return new Promise((resolve, reject) => {
    const ask = request({
      method: 'CONNECT',
      host: at.host,
      port: at.port,
      path: target,
      agent: false,
      timeout: timeoutMs,
      headers: { host: target, ...(login && { 'proxy-authorization': `Basic ${login}` }) },
    })
    ask.on('connect', (answer, socket, head) => {
      if (answer.statusCode === 200 && head.length === 0) return resolve(socket.setTimeout(0).setNoDelay())
      socket.destroy()
      reject(new Error(`the egress proxy refused the connection (${answer.statusCode})`))
    })
    ask.on('response', answer => {
      answer.resume()
      ask.destroy(new Error(`the egress proxy refused the connection (${answer.statusCode})`))
    })
    ask.on('timeout', () => ask.destroy(new Error('the egress proxy did not answer')))
    ask.on('error', reject)
    ask.end()
  })
}

/** RFC 1928, with a name and password by RFC 1929. */
async function throughSocks(
  { address: at, user }: EgressProxy,
  address: string,
  port: number,
  timeoutMs: number,
): Promise<Socket> {
  // Loaded only where it is used.
  const { SocksClient } = await import('socks')
  const { socket } = await SocksClient.createConnection({
    command: 'connect',
    proxy: { ...at, type: 5, ...(user && { userId: user.name, password: user.password.reveal() }) },
    destination: { host: address, port },
    timeout: timeoutMs,
    set_tcp_nodelay: true,
  })
  return socket
}
