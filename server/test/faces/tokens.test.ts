/** The tokens' promise: text and controls are readable in both themes. WCAG 2.2, 1.4.3 and 1.4.11. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

const source = readFileSync(new URL('../../../theme/tokens.css', import.meta.url), 'utf8')
const colours = new Map(
  [...source.matchAll(/--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);/g)].map(([, name, light, dark]) => [
    name!,
    { light: light!, dark: dark! },
  ]),
)

/** https://www.w3.org/TR/WCAG22/#dfn-relative-luminance */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map(at => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

function contrast(one: string, other: string): number {
  const [low = 0, high = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b)
  return (high + 0.05) / (low + 0.05)
}

const grounds = ['ground', 'card', 'raised', 'sunken']
const states = ['active', 'degraded', 'attention', 'paused']
const pairs: [text: string, on: string, atLeast: number][] = [
  ...['ink', 'soft', 'accent', 'accent-strong', ...states].flatMap(text =>
    grounds.map((on): [string, string, number] => [text, on, 4.5]),
  ),
  ...states.map((state): [string, string, number] => [state, `${state}-wash`, 4.5]),
  ...['accent', 'ink', 'soft'].map((text): [string, string, number] => [text, 'accent-wash', 4.5]),
  ...states.map((state): [string, string, number] => ['ink', `${state}-wash`, 4.5]),
  ['on-accent', 'accent', 4.5],
  ['on-accent', 'accent-strong', 4.5],
  ...grounds.map((on): [string, string, number] => ['edge', on, 3]),
]

for (const theme of ['light', 'dark'] as const)
  test(`colours can be read in the ${theme} theme`, () => {
    const faint = pairs
      .map(([text, on, atLeast]) => ({
        text,
        on,
        atLeast,
        is: contrast(colours.get(text)![theme], colours.get(on)![theme]),
      }))
      .filter(({ is, atLeast }) => is < atLeast)
      .map(({ text, on, atLeast, is }) => `--${text} on --${on}: ${is.toFixed(2)}, not ${atLeast}`)
    assert.deepEqual(faint, [])
  })
