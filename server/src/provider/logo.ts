import type { Provider } from './schema.ts'

/** A provider's letter on a calm ground, until logos under a free licence come with the catalogue. */
export function letterMark({ name, display_name }: Provider): string {
  const hue = [...name].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) % 360, 7)
  const letter = /[A-Za-z0-9]/.exec(display_name)?.[0]?.toUpperCase() ?? '?'
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" role="img"><rect width="48" height="48" rx="10" fill="hsl(${hue} 45% 35%)"/><text x="24" y="32" font-family="system-ui,sans-serif" font-size="24" font-weight="600" text-anchor="middle" fill="#fff">${letter}</text></svg>`
}
