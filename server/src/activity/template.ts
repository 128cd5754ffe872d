/**
 * The path of a call without what is in it: `/sobjects/Account/001xx000003DGb2AAG` becomes `/sobjects/Account/{id}`. What is kept is what
 * looks like a word or a version, and everything else goes: an id nobody thought of costs a reader a word, a token that stands in a path
 * (some providers revoke by DELETE /tokens/<token>) would be kept for two weeks.
 */

const left = '{id}'
const maxLength = 255
const maxSegments = 20

/** `v66.0`, `2024-10` (an API's dated version). */
const version = /^(?:v\d{1,4}(?:\.\d{1,4}){0,2}|20\d\d-[01]\d(?:-[0-3]\d)?)$/i
/** `Contacts(guid'…')`. */
const called = /^([A-Za-z_]+)\(.*\)$/

/** Segments that were kept before: nearly all of a path's, and a look is ten times cheaper than judging. Ids are never in it. */
const known = new Set<string>()
const mostKnown = 5_000

/** By the length of a path, the last one of it and its template: most calls ask what was asked a moment ago. */
const latest: { path: string; template: string }[] = Array.from({ length: 256 }, () => ({ path: '', template: '/' }))

/** `path` as it was sent; a query or fragment is cut off. */
export function pathTemplate(path: string): string {
  const end = path.search(/[?#]/)
  const whole = end < 0 ? path : path.slice(0, end)
  const kept = latest[whole.length]
  if (kept?.path === whole) return kept.template
  const template = templateOf(whole)
  if (kept) latest[whole.length] = { path: whole, template }
  return template
}

function templateOf(path: string): string {
  const segments = path.split('/')
  if (segments[0] === '') segments.shift()
  let template = ''
  for (const segment of segments.slice(0, maxSegments)) template += `/${shown(segment)}`
  if (segments.length > maxSegments) template += '/…'
  return template.length > maxLength ? `${template.slice(0, maxLength - 1)}…` : template || '/'
}

function shown(segment: string): string {
  if (segment === '' || known.has(segment)) return segment
  // A method of a resource: `{id}:batchUpdate`.
  if (segment.includes(':')) return segment.split(':').map(part).join(':')
  return part(segment)
}

function part(text: string): string {
  if (isWord(text) || version.test(text)) {
    if (known.size >= mostKnown) known.clear()
    known.add(text)
    return text
  }
  const name = called.exec(text)?.[1]
  return name && isWord(name) ? `${name}(${left})` : left
}

/**
 * Letters and separators; few digits, at the end of a piece (`Address2__c`). Of what is long, a fifth are vowels, and capitals stand only
 * where a word begins. Of 100,000 random values of 128 bits in base64url two are taken for one.
 */
function isWord(text: string): boolean {
  if (text.length > 64) return false
  let letters = 0
  let vowels = 0
  let digits = 0
  let small = false
  /** Capitals that do not begin the piece they stand in. */
  let inner = 0
  let consonants = 0
  let before: Kind = 'separator'
  let hex = true
  for (let i = 0; i < text.length; i++) {
    const kind = kindOf(text.charCodeAt(i))
    if (kind === undefined) return false
    if (kind === 'digit') {
      if (before === 'separator' || ++digits > 2) return false
    } else if (kind !== 'separator') {
      letters++
      if (before === 'digit') return false
      if (kind === 'small') small = true
      else if (before !== 'separator') inner++
      if (isVowel(text.charCodeAt(i))) {
        vowels++
        consonants = 0
      } else if (++consonants > 6) return false
      if ((text.charCodeAt(i) | 32) > 102) hex = false
    } else consonants = 0
    before = kind
  }
  if (letters === 0 || (hex && letters + digits >= 8)) return false
  return letters <= 10 || (vowels * 5 >= letters && (!small || inner * 6 <= letters))
}

type Kind = 'small' | 'capital' | 'digit' | 'separator'

/** Undefined: a character no word has. */
function kindOf(code: number): Kind | undefined {
  if (code >= 97 && code <= 122) return 'small'
  if (code >= 65 && code <= 90) return 'capital'
  if (code >= 48 && code <= 57) return 'digit'
  // - . _ $
  return code === 45 || code === 46 || code === 95 || code === 36 ? 'separator' : undefined
}

/** a e i o u y */
function isVowel(code: number): boolean {
  const small = code | 32
  return small === 97 || small === 101 || small === 105 || small === 111 || small === 117 || small === 121
}
