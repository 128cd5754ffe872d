/** `/connection…` and its query, as older clients spell `/connections…`; anything else as it is. Their import is flat, and a route of its own. */
export const currentPath = (method: string | undefined, url: string): string =>
  method === 'POST' && /^\/connection(?=[?]|$)/.test(url) ? url : url.replace(/^\/connection(?=[/?]|$)/, '/connections')
