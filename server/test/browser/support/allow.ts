import type { BrowserContext, Page } from 'playwright-core'

/** Where the provider sends this tab after "Allow"; the tab does not go there. */
export async function allowAndStop(context: BrowserContext, page: Page): Promise<string> {
  // Playwright's own routes do not see redirects.
  const devtools = await context.newCDPSession(page)
  await devtools.send('Fetch.enable', { patterns: [{ urlPattern: '*/secur/consent', requestStage: 'Response' }] })
  type Paused = { requestId: string; responseHeaders?: { name: string; value: string }[] }
  const paused = new Promise<Paused>(resolve => void devtools.once('Fetch.requestPaused', resolve))
  const clicked = page.getByRole('button', { name: 'Allow' }).click()
  const { requestId, responseHeaders } = await paused
  await devtools.send('Fetch.failRequest', { requestId, errorReason: 'Aborted' })
  await clicked
  await devtools.detach()
  return responseHeaders?.find(({ name }) => name.toLowerCase() === 'location')?.value ?? ''
}
