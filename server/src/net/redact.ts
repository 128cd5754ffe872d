/**
 * What a log may show of a URL or of somebody else's text. `Secret` keeps our own values from printing; this file is for
 * strings that arrive from outside with a secret inside: request lines, redirects, error texts of a peer. Two tables,
 * names and shapes; hiding too much costs a reader a word, hiding too little costs a customer a token.
 */

const hidden = '[redacted]'

/** Names that mean a secret wherever they stand. */
const secretNames = [
  'access_token',
  'refresh_token',
  'id_token',
  'client_secret',
  'oauth_client_secret_override',
  'client_assertion',
  'assertion',
  'code_verifier',
  'oauth_token',
  'oauth_token_secret',
  'oauth_verifier',
  'connect_session_token',
  'session_token',
  'api_key',
  'apikey',
  'x_api_key',
  'secret_key',
  'private_key',
  'password',
  'passwd',
]

/** Names too common in prose and JSON to hide there ("state: active", "code: ECONNREFUSED"), but secrets in a URL. */
const secretParameters = new Set([
  ...secretNames,
  'code',
  'state',
  'token',
  'key',
  'secret',
  'sid',
  'sig',
  'signature',
  'authorization',
  'auth',
  'nonce',
  'otp',
  'ticket',
  'id_token_hint',
  'login_ticket',
  'user_code',
  'device_code',
])

/** Values that are secrets by their looks. Every pattern is linear: no nested repetition. */
const shapes: [RegExp, string][] = [
  // RFC 6750 §2.1, RFC 7617: the rest of an Authorization header.
  [/\b(Bearer|Basic|OAuth) +[\w.~+/=!%-]{8,}/gi, `$1 ${hidden}`],
  // The same word in prose: "token validity expired" is a reason and holds no secret. One lower-case word is no token.
  [/\b([Tt]oken|TOKEN) +(?![a-z]{8,14}(?:[\s,;:)]|\.?$|\.\s))[\w.~+/=!%-]{8,}/g, `$1 ${hidden}`],
  // Salesforce access token or session id: organisation id, "!", the rest.
  [/\b00D[A-Za-z0-9]{12,15}(?:!|%21)[\w.%+/=-]+/g, hidden],
  // Salesforce refresh token.
  [/\b5Aep[\w.%=-]{20,}/g, hidden],
  // JWT and JWE (RFC 7519, RFC 7516): base64url of `{"`, two or more further parts.
  [/\beyJ[\w-]{5,}(?:\.[\w-]*){2,4}/g, hidden],
  [/\b(?:nango|fairlead)_connect_session_[\w-]+/gi, hidden],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?/g, hidden],
  // user:password@ of a URL.
  [/\/\/[^\s/?#@"']*@/g, `//${hidden}@`],
  // name=value, name: value, "name":"value", in whatever text.
  [
    new RegExp(
      `\\b(${secretNames.join('|').replaceAll('_', '[_-]')})(\\\\?["']? ?(?:[=:]|%3D) ?\\\\?["']?)[^"'&,;\\s\\\\}]+`,
      'gi',
    ),
    `$1$2${hidden}`,
  ],
]

/** Hides what looks like a secret in any text. */
export function redactText(text: string): string {
  return shapes.reduce((redacted, [shape, replacement]) => redacted.replace(shape, replacement), text)
}

/** Text of somebody else's, fit for a log or a page: without the secrets that were sent to them, which some repeat. */
export const withhold = (text: string, sent: (string | undefined)[]): string =>
  sent.reduce<string>((clean, secret) => (secret ? clean.replaceAll(secret, hidden) : clean), redactText(text))

/** A URL, absolute or not, fit for a log: values of secret parameters hidden in query and fragment, then by shape. */
export function redactUrl(url: string | URL): string {
  return redactText(String(url).replace(/([?&#])([^=&#?]+)=[^&#]*/g, redactPair))
}

function redactPair(pair: string, separator: string, name: string): string {
  return secretParameters.has(plainName(name)) ? `${separator}${name}=${hidden}` : pair
}

/** `Client-Secret`, `client%5Fsecret` and `tokens[access_token]` are all what they say at the end. */
function plainName(name: string): string {
  let decoded = name
  try {
    decoded = decodeURIComponent(name)
  } catch {
    // A malformed escape: judge the name as written.
  }
  return decoded
    .toLowerCase()
    .replaceAll('-', '_')
    .replace(/^.*\[(.+)\]$/, '$1')
}

/** Names that mean a secret in somebody's document, compared in lower case and without separators: `accessToken`, `X-Api-Key`, `client_secret`. */
const secretMember =
  /(?:tokens?|secrets?|password|passwd|passphrase|pwd|apikey|privatekey|secretkey|accesskey|authorization|assertion|codeverifier|sessionid|cookie|credentials?|signature)$|^(?:sid|auth|otp|pin|jwt|sig)$/
const isSecretMember = (name: string): boolean => secretMember.test(name.replace(/[^a-z]/gi, '').toLowerCase())

/** Every pattern: what precedes the name, the name, what stands between, the value. Linear each. */
const members: RegExp[] = [
  // JSON, with a text, a number or a list of either; the last one may be cut off.
  /(")([^"\\]{1,100})("\s*:\s*)("(?:[^"\\]|\\.)*"?|\[[^\]{]*\]?|-?\d[\w.+-]*)/gs,
  // JSON in a text of JSON.
  /(\\+")([^"\\]{1,100})(\\+"\s*:\s*\\+")([^"\\]*)/g,
  // XML: an element's text, an attribute.
  /(<(?:[\w.-]+:)?)([\w.-]{1,100})((?:\s[^<>]*)?>)([^<]+)/g,
  /(\s(?:[\w.-]+:)?)([\w.-]{1,100})(\s*=\s*["'])([^"'<]+)/g,
]

/**
 * A body, or the beginning of one, fit to be kept: without values of secret names, secret shapes, and `known` values in the usual
 * wrappings. Escapes of JSON that only hide plain characters are resolved first. `type` is the media type.
 */
export function redactBody(text: string, type: string, known: string[]): string {
  let clean = text.replace(/\\u00([2-7][0-9a-f])|\\\//gi, (whole, hex?: string) => {
    const char = hex === undefined ? '/' : String.fromCharCode(Number.parseInt(hex, 16))
    return char === '"' || char === '\\' || char === '\x7f' ? whole : char
  })
  for (const value of known) {
    if (value.length < 8) continue
    for (const spelling of spellings(value)) {
      clean = clean.replaceAll(spelling, hidden)
      clean = withoutBeginning(clean, spelling)
    }
  }
  if (type.endsWith('x-www-form-urlencoded')) clean = redactUrl(`?${clean}`).slice(1)
  for (const member of members)
    clean = clean.replace(member, (all, before: string, name: string, between: string, value: string) =>
      isSecretMember(name) ? `${before}${name}${between}${value.startsWith('"') ? `"${hidden}"` : hidden}` : all,
    )
  return redactText(clean)
}

/** As it is, percent-encoded by two schools, in hexadecimal, and in base64 wherever it begins in what was encoded. */
function spellings(value: string): Set<string> {
  const encoded = encodeURIComponent(value)
  const strict = encoded.replace(/[!'()*]/g, char => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
  const hex = Buffer.from(value).toString('hex')
  const small = (text: string) => text.replace(/%../g, coded => coded.toLowerCase())
  const all = [value, encoded, strict, small(encoded), small(strict), hex, hex.toUpperCase()]
  for (const ahead of [0, 1, 2]) {
    const bytes = Buffer.concat([Buffer.alloc(ahead), Buffer.from(value)])
    // The characters that hold bits of a neighbour are not the value's alone.
    const inner = bytes.toString('base64').slice(ahead === 0 ? 0 : ahead + 1, Math.floor((bytes.length * 8) / 6))
    all.push(inner, inner.replaceAll('+', '-').replaceAll('/', '_'))
  }
  return new Set(all)
}

/** A text that was cut may end with the beginning of a secret. */
function withoutBeginning(text: string, secret: string): string {
  for (let length = Math.min(secret.length, text.length); length >= 6; length--)
    if (text.endsWith(secret.slice(0, length))) return text.slice(0, -length) + hidden
  return text
}
