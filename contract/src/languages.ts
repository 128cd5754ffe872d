/** The languages of the connect page, by how they call themselves. By itself, because what runs in a browser takes it without the schemas. */
export const languages = {
  en: 'English',
  de: 'Deutsch',
  es: 'Español',
  fr: 'Français',
  ja: '日本語',
  pt: 'Português',
  ar: 'العربية',
} as const
export type Language = keyof typeof languages
