/** How the connect page looks, beside the page itself: it changes while one edits. And where it may stand. */
import type { ConnectUISettings, IntegrationView, SettingsView } from '@fairlead/contract'
import { type Language, languages } from '@fairlead/contract/languages'
import { useMutation } from '@tanstack/react-query'
import { type FormEvent, useEffect, useRef, useState } from 'react'
import { post } from '../api.ts'
import { Card, Fault, Field, Loaded } from '../parts.tsx'
import { useChangeSettings, useIntegrations, useSettings } from '../queries.ts'
import { logoOf } from './integrations.tsx'

type Looks = SettingsView['connect_ui']

export function ConnectSettings({ canChange }: { canChange: boolean }) {
  const settings = useSettings()
  const integrations = useIntegrations()
  return (
    <Loaded query={settings}>
      {data => (
        <div className="stack">
          <Appearance
            saved={data.connect_ui}
            canChange={canChange}
            integration={integrations.data?.find(({ logo }) => logo) ?? integrations.data?.[0]}
          />
          <Places data={data} canChange={canChange} />
        </div>
      )}
    </Loaded>
  )
}

const radii = { square: 'Square', soft: 'Soft', round: 'Round' } as const
const fonts = {
  system: 'The device’s own',
  humanist: 'Humanist',
  geometric: 'Geometric',
  serif: 'Serif',
  rounded: 'Rounded',
} as const
const themes = { system: 'As the device', light: 'Light', dark: 'Dark' } as const
const screens = { consent: 'Consent', done: 'Connected', failed: 'Denied' } as const
function Appearance({
  saved,
  canChange,
  integration,
}: {
  saved: Looks
  canChange: boolean
  integration: IntegrationView | undefined
}) {
  const [looks, setLooks] = useState(saved)
  const [screen, setScreen] = useState<keyof typeof screens>('consent')
  const [language, setLanguage] = useState<Language>('en')
  const [moved, setMoved] = useState<string[]>([])
  const change = useChangeSettings()
  const set = (part: Partial<Looks>) => setLooks(now => ({ ...now, ...part }))
  const isChanged = JSON.stringify(looks) !== JSON.stringify(saved)
  const submit = (event: FormEvent) => {
    event.preventDefault()
    change.mutate(
      { connect_ui: looks },
      {
        onSuccess: ({ connect_ui: now }) => {
          const colours = ['primary_light', 'primary_dark'] as const
          setMoved(colours.filter(name => now[name] !== looks[name].toLowerCase()).map(name => now[name]))
          setLooks(now)
        },
      },
    )
  }
  const scene = {
    screen,
    language,
    name: integration?.display_name ?? 'Example',
    logo: integration ? logoOf(integration.logo) : '',
  }
  return (
    <div className="branding">
      <Card title="How it looks" note="Colours that could not be read are moved when you save, as little as possible.">
        <form onSubmit={submit}>
          <fieldset className="stack" disabled={!canChange}>
            <Field label="Your product’s name" hint="People read that it will get access.">
              <input
                value={looks.product_name ?? ''}
                maxLength={60}
                placeholder="Acme CRM"
                onChange={event => set({ product_name: event.target.value || null })}
              />
            </Field>
            <LogoField logo={looks.logo} set={logo => set({ logo })} />
            <div className="grid2">
              <Colour label="Colour, light" value={looks.primary_light} set={primary_light => set({ primary_light })} />
              <Colour label="Colour, dark" value={looks.primary_dark} set={primary_dark => set({ primary_dark })} />
            </div>
            <div className="grid2">
              <Choice label="Corners" words={radii} value={looks.radius} set={radius => set({ radius })} />
              <Choice label="Letters" words={fonts} value={looks.font} set={font => set({ font })} />
            </div>
            <Choice
              label="Theme"
              words={themes}
              value={looks.default_theme}
              set={default_theme => set({ default_theme })}
            />
            {moved.length > 0 && (
              <p className="notice small" role="status">
                Moved until it can be read: {moved.join(' and ')}.
              </p>
            )}
            {change.error && <Fault error={change.error} />}
            {canChange && (
              <div className="row">
                <button type="submit" className="button primary" disabled={change.isPending || !isChanged}>
                  Save
                </button>
                {isChanged && (
                  <button type="button" className="button plain" onClick={() => setLooks(saved)}>
                    Undo
                  </button>
                )}
              </div>
            )}
          </fieldset>
        </form>
      </Card>
      <section className="stack previews" aria-label="Preview">
        <div className="row wrap">
          {Object.entries(screens).map(([name, word]) => (
            <button
              key={name}
              type="button"
              className="chip"
              aria-pressed={screen === name}
              onClick={() => setScreen(name as keyof typeof screens)}
            >
              {word}
            </button>
          ))}
          <select
            aria-label="Language of the preview"
            className="end"
            value={language}
            onChange={event => setLanguage(event.target.value as Language)}
          >
            {Object.entries(languages).map(([code, name]) => (
              <option key={code} value={code}>
                {name}
              </option>
            ))}
          </select>
        </div>
        <div className="pair">
          <Preview theme="light" looks={looks} scene={scene} />
          <Preview theme="dark" looks={looks} scene={scene} />
        </div>
      </section>
    </div>
  )
}

interface Scene {
  screen: string
  language: string
  name: string
  logo: string
}

/** The connect page itself, from our own origin (connect-ui/src/preview.tsx), told what to show whenever that changes. */
function Preview({ theme, looks, scene }: { theme: 'light' | 'dark'; looks: Looks; scene: Scene }) {
  const frame = useRef<HTMLIFrameElement>(null)
  const [ready, setReady] = useState(false)
  useEffect(() => {
    const listen = ({ source, data }: MessageEvent<{ type?: unknown }>) => {
      if (source === frame.current?.contentWindow && data?.type === 'ready') setReady(true)
    }
    addEventListener('message', listen)
    return () => removeEventListener('message', listen)
  }, [])
  useEffect(() => {
    const tell = (message: object) => ready && frame.current?.contentWindow?.postMessage(message, location.origin)
    const settings: ConnectUISettings = {
      theme: { light: { primary: looks.primary_light }, dark: { primary: looks.primary_dark } },
      defaultTheme: theme,
      showWatermark: false,
      productName: looks.product_name,
      logo: looks.logo,
      radius: looks.radius,
      font: looks.font,
    }
    tell({ type: 'settings_changed', payload: settings })
    tell({ type: 'scene_changed', payload: scene })
  }, [ready, theme, looks, scene])
  return (
    <iframe
      ref={frame}
      className="preview"
      title={`The connect page, ${theme}`}
      src={`/connect/?preview&theme=${theme}`}
      tabIndex={-1}
    />
  )
}

const colourForm = /^#[0-9a-f]{6}$/i

/** By eye or by its spelling. What is half typed is not shown yet. */
function Colour({ label, value, set }: { label: string; value: string; set: (colour: string) => void }) {
  const [typed, setTyped] = useState<string>()
  return (
    <div className="field">
      <span>{label}</span>
      <div className="row tight colour">
        <input
          type="color"
          aria-label={`${label}, by eye`}
          value={value}
          onChange={event => {
            setTyped(undefined)
            set(event.target.value)
          }}
        />
        <input
          aria-label={label}
          className="mono"
          value={typed ?? value}
          pattern="#[0-9a-fA-F]{6}"
          onChange={({ target }) => {
            setTyped(target.value)
            if (colourForm.test(target.value)) set(target.value)
          }}
          onBlur={() => setTyped(undefined)}
        />
      </div>
    </div>
  )
}

function Choice<Name extends string>({
  label,
  words,
  value,
  set,
}: {
  label: string
  words: Record<Name, string>
  value: Name
  set: (name: Name) => void
}) {
  return (
    <Field label={label}>
      <select value={value} onChange={event => set(event.target.value as Name)}>
        {Object.entries<string>(words).map(([name, word]) => (
          <option key={name} value={name}>
            {word}
          </option>
        ))}
      </select>
    </Field>
  )
}

/** As the contract bounds a logo. */
const maxLogo = 70_000

function LogoField({ logo, set }: { logo: string | null; set: (logo: string | null) => void }) {
  const [fault, setFault] = useState<string>()
  const read = (file: File | undefined) => {
    setFault(undefined)
    if (!file) return
    if (file.size > maxLogo) return setFault('At most 70 KB.')
    const reader = new FileReader()
    reader.onload = () => set(String(reader.result))
    reader.readAsDataURL(file)
  }
  return (
    <div className="row tight">
      {logo && <img className="logo" src={logo} alt="Your logo" />}
      <div className="grow">
        <Field label="Logo" hint="png, jpeg, webp or svg, at most 70 KB." fault={fault}>
          <input
            type="file"
            accept="image/png,image/jpeg,image/webp,image/svg+xml"
            onChange={event => read(event.target.files?.[0])}
          />
        </Field>
      </div>
      {logo && (
        <button type="button" className="button tiny" onClick={() => set(null)}>
          Remove the logo
        </button>
      )}
    </div>
  )
}

function Places({ data, canChange }: { data: SettingsView; canChange: boolean }) {
  const change = useChangeSettings()
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const given = new FormData(event.currentTarget)
    const lines = (name: string) =>
      String(given.get(name) ?? '')
        .split(/\s+/)
        .filter(Boolean)
    change.mutate({ allowed_origins: lines('allowed_origins'), return_urls: lines('return_urls') })
  }
  const preview = useMutation({
    mutationFn: () =>
      post<{ data: { connect_link: string } }>('/connect/sessions', {
        end_user: { id: 'preview', display_name: 'Preview' },
      }),
    onSuccess: ({ data }) => void window.open(data.connect_link, '_blank', 'noopener'),
  })
  return (
    <div className="grid2">
      <Card title="Where it may stand">
        <form className="stack" onSubmit={submit}>
          <Field label="Allowed origins" hint="One a line: where your product may embed the connect page.">
            <textarea
              name="allowed_origins"
              defaultValue={data.allowed_origins.join('\n')}
              disabled={!canChange}
              placeholder="https://app.acme.com"
            />
          </Field>
          <Field label="Return URLs" hint="One a line: where it may send the browser when it is done.">
            <textarea name="return_urls" defaultValue={data.return_urls.join('\n')} disabled={!canChange} />
          </Field>
          <label className="check">
            <input
              type="checkbox"
              checked={data.confirm_connections}
              disabled={!canChange || change.isPending}
              onChange={event => change.mutate({ confirm_connections: event.target.checked })}
            />
            <span>
              Your backend confirms each new connection
              <br />
              <span className="small soft">Until then it cannot be used.</span>
            </span>
          </label>
          {change.error && <Fault error={change.error} />}
          {canChange && (
            <div>
              <button type="submit" className="button primary">
                Save
              </button>
            </div>
          )}
        </form>
      </Card>
      <Card title="Try it" note="The connect page as an end user sees it.">
        <div className="stack">
          {preview.error && <Fault error={preview.error} />}
          <p className="soft">
            It opens in a tab of its own with a session of half an hour, in the theme and language of your browser.
          </p>
          <div>
            <button
              type="button"
              className="button"
              disabled={!canChange || preview.isPending}
              onClick={() => preview.mutate()}
            >
              Open the connect page
            </button>
          </div>
        </div>
      </Card>
    </div>
  )
}
