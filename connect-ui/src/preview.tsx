/**
 * A screen as it would look, for the dashboard's settings: what it shows arrives as messages from our own origin, while it changes. It is a
 * picture: nothing in it can be pressed, and it never takes the focus from the form beside it.
 */

import type { ConnectUISettings } from '@fairlead/contract'
import type { Language } from '@fairlead/contract/languages'
import { useEffect, useMemo, useState } from 'preact/hooks'
import { applyBrand, applyTheme } from './brand.ts'
import { Consent } from './screens/consent.tsx'
import { Done } from './screens/done.tsx'
import { FailedScreen } from './screens/failed.tsx'
import type { Words } from './words/en.ts'
import { directionOf, loadWords, Speaking, sayIn } from './words.ts'

interface Scene {
  screen: 'consent' | 'done' | 'failed'
  language: Language
  /** Whose it is. */
  name: string
  logo: string
}

type Told = { type: 'settings_changed'; payload: ConnectUISettings } | { type: 'scene_changed'; payload: Scene }

const nothing = () => {}
const template: Omit<Scene, 'language'> = { screen: 'consent', name: 'Example', logo: '' }

export function Preview(first: { language: Language; words: Words }) {
  const [words, setWords] = useState(first.words)
  const [settings, setSettings] = useState<ConnectUISettings>()
  const [scene, setScene] = useState<Scene>({ ...template, language: first.language })
  useEffect(() => {
    document.body.inert = true
    const listen = ({ origin, data }: MessageEvent<Told>) => {
      if (origin !== location.origin || !data?.payload) return
      if (data.type === 'settings_changed') {
        applyBrand(data.payload)
        applyTheme(data.payload.defaultTheme)
        setSettings(data.payload)
      } else if (data.type === 'scene_changed') setScene(data.payload)
    }
    window.addEventListener('message', listen)
    window.parent.postMessage({ type: 'ready' }, location.origin)
    return () => window.removeEventListener('message', listen)
  }, [])
  const { language, screen, name, logo } = scene
  useEffect(() => {
    document.documentElement.lang = language
    document.documentElement.dir = directionOf(language)
    void loadWords(language).then(setWords)
  }, [language])
  const product = settings?.productName ?? undefined
  const say = useMemo(() => sayIn(words, product ?? words.yourProduct), [words, product])
  const shown = {
    frame: {
      brand: { product, logo: settings?.logo ?? undefined },
      language,
      onLanguage: nothing,
      onClose: nothing,
    },
    name,
    mark: { logo, name },
  }
  return (
    <Speaking.Provider value={say}>
      {screen === 'consent' && (
        <Consent
          {...shown}
          who="Ada Lovelace"
          scopes={[]}
          at={undefined}
          reconnect={undefined}
          onBack={nothing}
          onChange={undefined}
          onGo={nothing}
        />
      )}
      {screen === 'done' && (
        <Done
          {...shown}
          missing={[]}
          result={{
            operation: 'creation',
            is_pending: false,
            account: { label: 'Analytical Engines', details: [{ label: 'User', value: 'ada@engines.example' }] },
          }}
          onClose={undefined}
        />
      )}
      {screen === 'failed' && (
        <FailedScreen
          {...shown}
          failed={{ code: 'access_denied', description: '' }}
          onAgain={nothing}
          onBack={undefined}
        />
      )}
    </Speaking.Provider>
  )
}
