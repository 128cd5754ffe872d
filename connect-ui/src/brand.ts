/** An environment's own looks: tokens, and nothing but tokens. The server has checked the colours' contrast when they were saved. */
import type { ConnectUISettings } from '@fairlead/contract'

const fonts: Record<ConnectUISettings['font'], string> = {
  system: '',
  humanist: 'Seravek, "Gill Sans Nova", Ubuntu, Calibri, "DejaVu Sans", source-sans-pro, sans-serif',
  geometric: 'Avenir, Montserrat, Corbel, "URW Gothic", source-sans-pro, sans-serif',
  serif: 'Charter, "Bitstream Charter", "Sitka Text", Cambria, serif',
  rounded: 'ui-rounded, "Hiragino Maru Gothic ProN", Quicksand, Comfortaa, Manjari, Calibri, sans-serif',
}

/** Of controls, cards and the sheet. */
const radii: Record<ConnectUISettings['radius'], [string, string, string]> = {
  square: ['0', '0', '0'],
  soft: ['6px', '10px', '14px'],
  round: ['14px', '18px', '26px'],
}

export type Theme = ConnectUISettings['defaultTheme']
export const isTheme = (text: string | null): text is Theme => text === 'light' || text === 'dark' || text === 'system'

export function applyTheme(theme: Theme): void {
  if (theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
}

export function applyBrand({ theme, radius, font }: ConnectUISettings): void {
  const { style } = document.documentElement
  const { light, dark } = theme
  style.setProperty('--accent', `light-dark(${light.primary}, ${dark.primary})`)
  style.setProperty('--accent-strong', 'color-mix(in oklab, var(--accent) 84%, light-dark(#000, #fff))')
  style.setProperty('--accent-wash', 'color-mix(in oklab, var(--accent) 10%, var(--card))')
  style.setProperty('--on-accent', 'light-dark(#fff, #0d1418)')
  const [control, card, sheet] = radii[radius]
  style.setProperty('--radius-control', control)
  style.setProperty('--radius-card', card)
  style.setProperty('--radius-sheet', sheet)
  if (fonts[font]) style.setProperty('--font', fonts[font])
  else style.removeProperty('--font')
}
