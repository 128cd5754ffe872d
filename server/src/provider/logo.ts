/**
 * A provider's mark: its logo on a white tile, as an app's icon, which reads on light and dark alike; a letter on a calm ground where there is no
 * logo. The logos, and whose they are: providers/logos/README.md.
 */
import { readFile } from 'node:fs/promises'
import type { Provider } from './schema.ts'

const folder = new URL('../../../providers/logos/', import.meta.url)

export async function markOf(provider: Provider): Promise<string> {
  for (const name of [provider.name, provider.logo]) {
    const logo = name && /^[a-z0-9-]+$/.test(name) && (await logoNamed(name))
    if (logo) return tile('#fff', logo.replace('<svg ', '<svg x="10" y="10" width="28" height="28" '), '#14212b26')
  }
  return letterMark(provider)
}

const logoNamed = (name: string): Promise<string | undefined> =>
  readFile(new URL(`${name}.svg`, folder), 'utf8').catch(() => undefined)

const tile = (ground: string, content: string, line: string): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" role="img"><rect x=".5" y=".5" width="47" height="47" rx="10" fill="${ground}" stroke="${line}"/>${content}</svg>`

function letterMark({ name, display_name }: Provider): string {
  const hue = [...name].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) % 360, 7)
  const letter = /[A-Za-z0-9]/.exec(display_name)?.[0]?.toUpperCase() ?? '?'
  const ground = `hsl(${hue} 45% 35%)`
  return tile(
    ground,
    `<text x="24" y="32" font-family="system-ui,sans-serif" font-size="24" font-weight="600" text-anchor="middle" fill="#fff">${letter}</text>`,
    ground,
  )
}
