/**
 * The built-in `salesforce-sandbox` pointed at the simulator: three keys laid over it, nothing else differs from the real thing.
 * `base` is where the simulator's sandbox log-in is reached.
 */
export const sandboxOverlay = (base: string, allowedHosts: string[]): string => `salesforce-sandbox:
  authorization_url: ${base}/services/oauth2/authorize
  token_url: ${base}/services/oauth2/token
  allowed_hosts: [${allowedHosts.map(host => `'${host}'`).join(', ')}]
`
