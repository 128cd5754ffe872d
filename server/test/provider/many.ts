/** A large definition file of somebody's own, made up: as many entries, of the same kinds in the same mix, as such files have. */
const mix: [mode: string, count: number][] = [
  ['API_KEY', 323],
  ['OAUTH2', 293],
  ['OAUTH2_CC', 101],
  ['BASIC', 97],
  ['TWO_STEP', 62],
  ['alias', 67],
  ['MCP_OAUTH2', 24],
  ['JWT', 4],
  ['OAUTH1', 4],
  ['BILL', 2],
  ['MCP_OAUTH2_GENERIC', 2],
  ['NONE', 2],
]
const single = ['AWS_SIGV4', 'INSTALL_PLUGIN', 'SIGNATURE', 'APP', 'CUSTOM', 'TBA']

export const manyEntries = 987

const body: Record<string, (name: string) => string> = {
  API_KEY: name => `
    credentials:
        apiKey:
            type: string
            title: API Key
            description: The API key of ${name}
            example: key_123
            pattern: '^[a-z0-9_]+$'
            doc_section: '#step-1-finding-your-api-key'
            secret: true`,
  OAUTH2: name => `
    authorization_url: https://${name}.example.com/oauth/authorize
    token_url: https://${name}.example.com/oauth/token
    authorization_params:
        response_type: code
    token_params:
        grant_type: authorization_code
    refresh_params:
        grant_type: refresh_token
    scope_separator: ','
    disable_pkce: true
    token_response_metadata: [account.id]`,
  OAUTH2_CC: name => `
    token_url: https://\${connectionConfig.subdomain}.${name}.example.com/oauth/token
    token_params:
        grant_type: client_credentials
    connection_config:
        subdomain:
            type: string
            title: Subdomain
            pattern: '^[a-z0-9_-]+$'
            example: acme
            prefix: https://
            suffix: .example.com`,
  BASIC: () => `
    credentials:
        username: { type: string, title: Username }
        password: { type: string, title: Password, secret: true }`,
  TWO_STEP: name => `
    token_url: https://${name}.example.com/login
    token_params:
        username: \${credentials.username}
        password: \${credentials.password}
    token_headers:
        content-type: application/json
    token_response:
        token: data.token
        token_expiration: data.expires
        token_expiration_strategy: expireIn
    credentials:
        username: { type: string, title: Username }
        password: { type: string, title: Password, secret: true }`,
  JWT: () => `
    signature: { protocol: RSA }
    token:
        signing_key: \${credentials.privateKey}
        expires_in_ms: 900000
        header: { alg: RS256 }
        payload: { iss: '\${credentials.issuer}' }`,
  OAUTH1: name => `
    request_url: https://${name}.example.com/request
    authorization_url: https://${name}.example.com/authorize
    token_url: https://${name}.example.com/token
    signature_method: HMAC-SHA1`,
  // What nobody here has heard of.
  AWS_SIGV4: () => `
    service_of_tomorrow: yes
    proxy_of_tomorrow: { a: 1 }`,
}

export function manyDefinitions(): string {
  const all = [...mix, ...single.map((mode): [string, number] => [mode, 1])]
  const entries = all.flatMap(([mode, count]) =>
    Array.from({ length: count }, (_, i) => {
      const name = `${mode.toLowerCase().replaceAll('_', '-')}-${i}`
      if (mode === 'alias')
        return `${name}:\n    display_name: ${name}\n    alias: oauth2-${i}\n    proxy:\n        base_url: https://${name}.example.org`
      return `${name}:
    display_name: Provider ${name}
    categories: [crm, productivity]
    auth_mode: ${mode}${body[mode]?.(name) ?? ''}
    proxy:
        base_url: https://api.${name}.example.com
        headers:
            accept: application/json
            x-signature: '\${hmacSha256Hex(\${now},\${apiKey})}'
        retry:
            after: retry-after
        verification:
            method: GET
            endpoints: [/v1/me]
        paginate:
            type: cursor
            cursor_path_in_response: next
            cursor_name_in_request: cursor
    docs: https://docs.example.com/${name}
    docs_connect: https://docs.example.com/${name}/connect`
    }),
  )
  return entries.join('\n\n')
}
