/** A large definition file of somebody's own, made up: as many entries, of the same kinds in the same mix, as such files have. */
const mix: [mode: string, count: number][] = [
  ['API_KEY', 336],
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

export const manyEntries = 1000

/** The rest of what such files may say, a group at a time: every field of the wire contract's definition schema stands in some entry. */
const extras: Record<string, string[]> = {
  OAUTH2: [
    `
    authorization_url_skip_encode: [scopes]
    authorization_url_skip_empty: true
    authorization_url_fragment: /login
    authorization_url_replacements: { '%20': '+' }
    authorization_code_param_in_callback: auth_code
    authorization_code_param_in_webhook: auth_code
    default_scopes: [read, 'write:all']
    available_scopes: [read, 'write:all', admin]`,
    `
    token_url_skip_encode: [region]
    token_request_auth_method: basic
    authorization_method: header
    body_format: json
    alternate_access_token_response_path: data.authed_user.access_token
    expires_in_unit: milliseconds
    token_expiration_buffer: 3600`,
    `
    redirect_uri_metadata: [realmId, shop]
    webhook_response_metadata: [tenant]
    connection_configuration: [subdomain]
    refresh_token_response_metadata: [team.id]
    decode_url: true
    setup_guide_url: https://docs.example.com/setup
    webhook_routing_script: someWebhookRouting
    webhook_user_defined_secret: true
    webhook_allowed_query_params: [challenge]
    post_connection_script: somePostConnection
    pre_connection_deletion_script: somePreDeletion`,
    `
    token_url_by_mode: unknown to everybody
    connection_config:
        region:
            type: string
            title: Region
            description: Where it is
            example: eu
            enum: [eu, us]
            default_value: eu
            order: 1
            hidden: false
            optional: true
            warnings: { title: Mind, text: It cannot be changed }
        instance:
            type: string
            title: Instance
            format: hostname
            automated: true
            visible_when: { region: [eu, us] }
    integration_config:
        appId: { type: string, title: App, secret: true }
    assertion_option: { saml: { title: SAML } }`,
  ],
  API_KEY: [
    `
    credentials_verification_script: someVerification`,
    `
    connection_config:
        port: { type: string, title: Port, example: 8443, default_value: 443, pattern: '^d+$' }
        verbose: { type: string, title: Verbose, default_value: true }`,
  ],
  TWO_STEP: [
    `
    token_request_method: POST
    body_format: json
    token_expires_in_ms: 0
    additional_steps:
        - token_url: https://login.example.com/second
          token_params: { ticket: '\${step1.ticket}' }
          token_headers: { accept: application/json }
    token_response_headers: [set-cookie]
    refresh_url: https://login.example.com/again
    refresh_token_params: { token: '\${credentials.refreshToken}' }
    refresh_token_headers: { accept: application/json }`,
  ],
  OAUTH1: [
    `
    request_params: { scope: read }
    request_http_method: POST
    token_http_method: POST`,
  ],
  MCP_OAUTH2: [
    `
    client_registration: dynamic
    registration_url: https://login.example.com/register
    registration_params: { client_name: Acme }`,
  ],
}
const extraOf = (mode: string, i: number): string => {
  const groups = extras[mode] ?? []
  // Every fifth entry has one, as most definitions are short.
  return i % 5 === 0 ? (groups[(i / 5) % groups.length] ?? '') : ''
}

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
    auth_mode: ${mode}${body[mode]?.(name) ?? ''}${extraOf(mode, i)}
    proxy:
        base_url: https://api.${name}.example.com
        headers:
            accept: application/json
            x-signature: '\${hmacSha256Hex(\${now},\${apiKey})}'
        query:
            version: '2'
        decompress: false
        forward_headers_on_redirect: false
        retry:
            after: retry-after
            at: x-reset
            remaining: x-remaining
            error_code: ['429', '5xx', 420]
            in_body: { path: error.message, value: 'after (\\d+)', strategy: after }
        verification:
            method: GET
            endpoints: [/v1/me, /v1/users]
            base_url_override: https://api.${name}.example.com
            headers: { accept: application/json }
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
