/** Colours somebody chose, moved as little as needed until text in them can be read. WCAG 2.2, 1.4.3: 4.5 to 1. */

/** The lightest and darkest ground of theme/tokens.css that text in the accent stands on, per theme. */
const grounds = { light: '#edf1f3', dark: '#1b272f' } as const

const channels = (colour: string): number[] => [1, 3, 5].map(at => Number.parseInt(colour.slice(at, at + 2), 16))

/** https://www.w3.org/TR/WCAG22/#dfn-relative-luminance */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = channels(colour).map(channel => {
    const part = channel / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

export function contrast(one: string, other: string): number {
  const [low = 0, high = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b)
  return (high + 0.05) / (low + 0.05)
}

/** Darker on the light theme, lighter on the dark one, a hundredth at a time: the hue stays what it was. */
export function readable(colour: string, theme: keyof typeof grounds): string {
  const towards = theme === 'light' ? 0 : 255
  for (let step = 0; step <= 100; step++) {
    const moved = channels(colour).map(channel => Math.round(channel + ((towards - channel) * step) / 100))
    const spelled = `#${moved.map(channel => channel.toString(16).padStart(2, '0')).join('')}`
    if (contrast(spelled, grounds[theme]) >= 4.5) return spelled
  }
  return theme === 'light' ? '#000000' : '#ffffff'
}
