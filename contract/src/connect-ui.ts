/** How an environment's connect page looks. Tokens only: a page of ours in somebody's colours, not somebody's page. */
import { z } from '@hono/zod-openapi'

const colour = z.string().regex(/^#[0-9a-f]{6}$/i, 'A colour reads #0b6b75.')

/** A picture in the settings themselves, so that no page of ours asks another server for it. */
const logo = z
  .string()
  .max(100_000, 'At most 100,000 characters: a logo of some 70 KB.')
  .regex(
    /^data:image\/(png|jpeg|webp|svg\+xml);base64,[A-Za-z0-9+/]+={0,2}$/,
    'A logo is a data URL with base64: data:image/png;base64,… (png, jpeg, webp or svg+xml).',
  )

const looks = {
  product_name: z.string().trim().min(1).max(60).nullable().openapi({
    description: 'What your product is called. People read that it will get access.',
  }),
  logo: logo.nullable(),
  primary_light: colour,
  primary_dark: colour,
  default_theme: z.enum(['light', 'dark', 'system']),
  radius: z.enum(['square', 'soft', 'round']),
  font: z.enum(['system', 'humanist', 'geometric', 'serif', 'rounded']).openapi({
    description: 'A family of fonts that devices bring along; nothing is loaded.',
  }),
}

export const connectUi = z.strictObject(looks).openapi('ConnectUiLooks')
export type ConnectUi = z.infer<typeof connectUi>

/** What is named changes; the rest stays. */
export const connectUiChange = connectUi.partial()

export const defaultConnectUi: ConnectUi = {
  product_name: null,
  logo: null,
  primary_light: '#0b6b75',
  primary_dark: '#56c2cc',
  default_theme: 'system',
  radius: 'soft',
  font: 'system',
}

const theme = z.object({ primary: z.string() })

/** The same, as `GET /connect/session` tells it to the page. */
export const connectUISettings = z.object({
  theme: z.object({ light: theme, dark: theme }),
  defaultTheme: looks.default_theme,
  showWatermark: z.boolean(),
  productName: z.string().nullable(),
  logo: z.string().nullable(),
  radius: looks.radius,
  font: looks.font,
})
export type ConnectUISettings = z.infer<typeof connectUISettings>
