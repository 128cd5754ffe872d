/** Begins: theme and language before anything is drawn, then the page. */
import { render } from 'preact'
import { App } from './app.tsx'
import { applyTheme, isTheme } from './brand.ts'
import { Preview } from './preview.tsx'
import { isFramed } from './session.ts'
import './style.css'
import { directionOf, languageOf, loadWords } from './words.ts'

const { searchParams: asked } = new URL(location.href)
const theme = asked.get('theme')
if (isTheme(theme)) applyTheme(theme)
const language = languageOf(asked.get('lang'), navigator.languages)
document.documentElement.lang = language
document.documentElement.dir = directionOf(language)
const isPreview = asked.has('preview')
document.documentElement.classList.toggle('framed', isFramed() && !isPreview)
const words = await loadWords(language)
const root = document.getElementById('root')!
render(isPreview ? <Preview language={language} words={words} /> : <App language={language} words={words} />, root)
