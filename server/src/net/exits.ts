/** By which addresses requests leave, for whoever has to put them on a provider's list of trusted addresses. */
import { lookup } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'
import { checkAddress } from './policy.ts'
import type { EgressProxy } from './tunnel.ts'

export interface Exits {
  /** Public addresses of this machine's own interfaces; none behind a NAT, whose address nothing here knows. */
  own: string[]
  proxies: {
    /** What is reached through it: a host, `*.suffix`, or null for all others. */
    hosts: string | null
    proxy: string
    /** Empty when its name does not resolve. */
    addresses: string[]
  }[]
}

export async function exitsOf(proxies: readonly EgressProxy[]): Promise<Exits> {
  const interfaces = Object.values(networkInterfaces()).flatMap(list => list ?? [])
  const isPublic = (address: string) => checkAddress([], address, 443, address) === undefined
  return {
    own: interfaces.map(({ address }) => address).filter(isPublic),
    proxies: await Promise.all(
      proxies.map(async ({ host, address }) => {
        const found = await lookup(address.host, { all: true }).catch(() => [])
        return {
          hosts: host ?? null,
          proxy: `${address.host}:${address.port}`,
          addresses: found.map(one => one.address),
        }
      }),
    ),
  }
}

export const addressesOf = ({ own, proxies }: Exits): string[] => [
  ...new Set([...own, ...proxies.flatMap(({ addresses }) => addresses)]),
]
