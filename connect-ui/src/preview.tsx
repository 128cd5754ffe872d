/** The consent screen with invented names, for the dashboard's settings: they arrive as messages from our own origin, while they change. */
import type { ConnectUISettings } from '@fairlead/contract'
import { useEffect, useMemo, useState } from 'preact/hooks'
import { applyBrand, applyTheme } from './brand.ts'
import { Consent } from './screens/consent.tsx'
import type { Words } from './words/en.ts'
import { type Language, loadWords, Speaking, sayIn } from './words.ts'

const nothing = () => {}

export function Preview(first: { language: Language; words: Words }) {
  const [{ language, words }, setSpoken] = useState(first)
  const [settings, setSettings] = useState<ConnectUISettings>()
  useEffect(() => {
    const listen = (event: MessageEvent<{ type?: unknown; payload?: ConnectUISettings }>) => {
      if (event.origin !== location.origin || event.data?.type !== 'settings_changed' || !event.data.payload) return
      applyBrand(event.data.payload)
      applyTheme(event.data.payload.defaultTheme)
      setSettings(event.data.payload)
    }
    window.addEventListener('message', listen)
    window.parent.postMessage({ type: 'ready' }, location.origin)
    return () => window.removeEventListener('message', listen)
  }, [])
  const product = settings?.productName ?? undefined
  const say = useMemo(() => sayIn(words, product ?? words.yourProduct), [words, product])
  return (
    <Speaking.Provider value={say}>
      <Consent
        frame={{
          brand: { product, logo: settings?.logo ?? undefined },
          language,
          onLanguage: async wanted => setSpoken({ language: wanted, words: await loadWords(wanted) }),
          onClose: nothing,
        }}
        name="Example"
        mark={{ logo: '/images/template-logos/salesforce.svg', name: 'Example' }}
        who="Ada"
        scopes={[]}
        at="login.example.com"
        reconnect={undefined}
        onBack={nothing}
        onChange={nothing}
        onGo={nothing}
      />
    </Speaking.Provider>
  )
}
