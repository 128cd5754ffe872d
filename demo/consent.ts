import { request as httpRequest } from 'node:http'

interface Page {
  status: number
  location: string | undefined
  cookies: string[]
  text: string
}

/** One GET. Names under `localhost` are loopback (RFC 6761); browsers know that, the system's resolver may not. */
function get(url: URL, cookie: string): Promise<Page> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: '127.0.0.1',
        port: url.port,
        path: `${url.pathname}${url.search}`,
        // As a browser says of a click on a page of the same site.
        headers: { host: url.host, 'sec-fetch-site': 'same-origin', ...(cookie && { cookie }) },
      },
      response => {
        let text = ''
        response.setEncoding('utf8').on('data', piece => {
          text += piece
        })
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            location: response.headers.location,
            cookies: response.headers['set-cookie'] ?? [],
            text,
          }),
        )
      },
    )
    request.on('error', reject).end()
  })
}

/**
 * What a browser does when its user consents: keeps cookies by host and follows every redirect, from our start page over the provider
 * to our callback. Throws unless the callback says that the account is connected.
 */
export async function walkConsent(start: string): Promise<void> {
  const jars = new Map<string, Map<string, string>>()
  let url = new URL(start)
  for (let hops = 0; hops < 10; hops++) {
    const jar = jars.get(url.host) ?? new Map<string, string>()
    jars.set(url.host, jar)
    const page = await get(url, [...jar].map(([name, value]) => `${name}=${value}`).join('; '))
    for (const line of page.cookies) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      if (name && value !== undefined) jar.set(name, value)
    }
    if (page.location) {
      url = new URL(page.location, url)
      continue
    }
    if (page.status === 200 && url.pathname === '/oauth/callback') return
    const heading = /<h1[^>]*>([^<]*)/.exec(page.text)?.[1] ?? page.text.slice(0, 200)
    throw new Error(`${url.host}${url.pathname} answered ${page.status}: ${heading}`)
  }
  throw new Error('The sign-in never ended: too many redirects.')
}
