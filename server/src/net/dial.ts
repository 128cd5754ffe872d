/**
 * One checked connection: policy, DNS, TCP, TLS. Every socket that leaves Fairlead is opened here, for the proxy's pool
 * and for single requests alike, so there is one place where a name becomes an address.
 *
 * A name is resolved once; all its addresses are judged, one bad address condemns the name (a server that mixes public
 * and private answers is rebinding); the socket goes to the addresses that were judged, never through a second lookup.
 * TLS keeps the name: SNI and the certificate are about the host that was asked for.
 */
import { lookup as systemLookup } from 'node:dns/promises'
import { once } from 'node:events'
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { EgressError } from '../errors.ts'
import { singleFlight } from '../lib/single-flight.ts'
import type { EgressRules } from './allow.ts'
import { checkAddress, checkUrl, hostOf, isLocalhost, loopbackAddresses, portOf } from './policy.ts'
import { type EgressProxy, proxyFor, tunnel } from './tunnel.ts'

export interface Address {
  address: string
  family: number
}

export type Lookup = (host: string) => Promise<Address[]>

export interface DialOptions {
  rules: EgressRules
  /** On the way to the hosts they name. */
  proxies?: readonly EgressProxy[] | undefined
  /** The system's resolver unless a test brings its own. */
  lookup?: Lookup | undefined
  /** Certificate authorities to trust instead of the system's. Verification itself cannot be turned off. */
  ca?: string | Buffer | (string | Buffer)[] | undefined
  /** DNS, TCP and TLS together. */
  connectTimeoutMs?: number | undefined
}

export interface Line {
  /** What HTTP is spoken on: the TLS socket, or the TCP socket itself. */
  socket: Socket
  /** The TCP socket underneath; the only one that can be reset (a TLSSocket has no TCP handle of its own). */
  wire: Socket
}

/** Opens a connection to the URL's host and port, or throws `EgressError` `refused` or `unsent`. */
export type Dial = (url: URL) => Promise<Line>

export function dialer({ rules, proxies = [], lookup, ca, connectTimeoutMs = 10_000 }: DialOptions): Dial {
  const resolve = lookup ?? ((host: string) => systemLookup(host, { all: true }))
  // getaddrinfo occupies a libuv thread for as long as it takes (two of four by default): a name whose servers are
  // silent must not hold one per waiting connection. The shared answer is still judged by each who asked.
  const shared = singleFlight<Address[]>()

  const addressesOf = async (host: string, port: number): Promise<Address[]> => {
    const family = isIP(host)
    if (family !== 0) return [{ address: host, family }]
    if (isLocalhost(host)) {
      const address = loopbackAddresses.find(candidate => !checkAddress(rules, host, port, candidate))
      return address === undefined ? [] : [{ address, family: isIP(address) }]
    }
    return shared(host, () => resolve(host))
  }

  return async url => {
    const refuse = (refusal: string | undefined): void => {
      if (refusal !== undefined) throw new EgressError('refused', refusal)
    }
    refuse(checkUrl(rules, url))
    const host = hostOf(url)
    const port = portOf(url)
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(new Error(`no connection in ${connectTimeoutMs} ms`)), connectTimeoutMs)
    let wire: Socket | undefined
    let expired = false

    const steps = async (): Promise<Line> => {
      const addresses = await addressesOf(host, port)
      for (const { address } of addresses) refuse(checkAddress(rules, host, port, address))
      if (addresses.length === 0) throw new Error('the name has no address')
      if (expired) throw new Error('too late')
      const proxy = proxyFor(proxies, host)
      wire = proxy
        ? await tunnel(proxy, addresses[0]!.address, port, connectTimeoutMs)
        : directly(host, port, addresses)
      // Between one owner's listeners and the next one's nobody hears an error; unheard, it would end the process.
      wire.on('error', () => {})
      if (expired) wire.destroy()
      if (!proxy) await once(wire, 'connect')
      if (url.protocol === 'http:') return { socket: wire, wire }
      const socket = connectTls({
        socket: wire,
        host,
        // RFC 6066 §3: no literal addresses in SNI. The certificate is then checked against `host`.
        ...(isIP(host) === 0 ? { servername: host } : {}),
        ALPNProtocols: ['http/1.1'],
        minVersion: 'TLSv1.2',
        // Said aloud so that NODE_TLS_REJECT_UNAUTHORIZED=0 changes nothing.
        rejectUnauthorized: true,
        ...(ca === undefined ? {} : { ca }),
      })
      socket.on('error', () => {})
      await once(socket, 'secureConnect')
      // 'secureConnect' is emitted from inside OpenSSL's reading of the server's last flight; what is written before that
      // call returns is queued behind our own Finished and leaves a loop turn later. Measured: without this turn a request
      // written at once was not sent while the loop stood still, which would stretch the send window without bound.
      await new Promise(setImmediate)
      if (socket.destroyed) throw new Error('the connection broke right after the TLS handshake')
      return { socket, wire }
    }

    try {
      return await Promise.race([steps(), late.promise])
    } catch (error) {
      expired = true
      wire?.destroy()
      if (error instanceof EgressError) throw error
      const { code, message } = error as NodeJS.ErrnoException
      throw new EgressError('unsent', `could not connect to ${url.host}: ${code ?? message}`, error)
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Begins to connect to one of the judged addresses. */
function directly(host: string, port: number, addresses: Address[]): Socket {
  const judged: LookupFunction = (_host, _options, callback) => callback(null, addresses)
  return connectTcp({
    host,
    port,
    lookup: judged,
    // RFC 8305 with Node's rule that an attempt is given up, not kept, when the next begins: 250 ms (the default)
    // would lose distant servers, so each address but the last gets a second.
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: 1000,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
  })
}
