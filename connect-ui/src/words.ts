/** The page's languages. English is there at once; another comes as a file of its own before anything is drawn. */
import { type Language, languages } from '@fairlead/contract/languages'
import { createContext } from 'preact'
import { useContext } from 'preact/hooks'
import { en, type Key, type Words } from './words/en.ts'

const loaders: Record<Exclude<Language, 'en'>, () => Promise<Words>> = {
  de: async () => (await import('./words/de.ts')).de,
  es: async () => (await import('./words/es.ts')).es,
  fr: async () => (await import('./words/fr.ts')).fr,
  ja: async () => (await import('./words/ja.ts')).ja,
  pt: async () => (await import('./words/pt.ts')).pt,
  ar: async () => (await import('./words/ar.ts')).ar,
}

export const directionOf = (language: Language): 'ltr' | 'rtl' => (language === 'ar' ? 'rtl' : 'ltr')

export const isLanguage = (text: string): text is Language => Object.hasOwn(languages, text)

/** The one asked for, else the first of the browser's that is here. `de-AT` is `de`. */
export function languageOf(asked: string | null, browser: readonly string[]): Language {
  for (const wish of [asked ?? '', ...browser]) {
    const [language = ''] = wish.toLowerCase().split(/[-_]/)
    if (isLanguage(language)) return language
  }
  return 'en'
}

/** English when the file does not come: a page in the wrong language beats none. */
export const loadWords = (language: Language): Promise<Words> =>
  language === 'en' ? Promise.resolve(en) : loaders[language]().catch(() => en)

/** The sentence of a key, with its names filled in. */
export type Say = (key: Key, names?: Record<string, string>) => string

export const sayIn =
  (words: Words, product: string): Say =>
  (key, names = {}) => {
    const filled = words[key].replace(
      /\{(\w+)\}/g,
      (_, name: string) => names[name] ?? (name === 'product' ? product : ''),
    )
    return filled.charAt(0).toUpperCase() + filled.slice(1)
  }

export const Speaking = createContext<Say>(sayIn(en, en.yourProduct))
export const useSay = (): Say => useContext(Speaking)
