import type { ExplainedCause } from './explained.ts'

/**
 * Every error Fairlead can answer with: its HTTP status and the sentence a caller may read.
 * Codes are stable; `message` may be replaced by a more exact sentence where the fault is found.
 * Codes of the wire contract keep its spelling and status. The documentation's page of errors is made from this table.
 */
export const errors = {
  // who is calling
  missing_auth_header: [401, 'Send your API key as "Authorization: Bearer <key>".'],
  malformed_auth_header: [401, 'The Authorization header must read "Bearer <key>".'],
  unknown_account: [401, 'This API key is not known here. Check that it belongs to this server and was not revoked.'],
  invalid_secret_key_format: [
    401,
    'An API key is a UUID, or the text this server was started with. What was sent is neither.',
  ],
  missing_public_key: [401, 'Send the connect session token as connect_session_token.'],
  invalid_connect_session_token_format: [
    401,
    'A connect session token reads "nango_connect_session_" and 64 hex digits.',
  ],
  unknown_connect_session_token: [
    401,
    'This connect session has ended or never existed. Create a new one with POST /connect/sessions.',
  ],
  deprecated_authentication: [
    401,
    'Public keys are not supported. Create a connect session with POST /connect/sessions and send its token.',
  ],
  forbidden: [403, 'This API key lacks the scope for this call.'],

  // operators
  not_signed_in: [401, 'Sign in to the dashboard first: this session has ended or never began.'],
  sign_in_failed: [401, 'The e-mail address, the password or the code is not right. Codes work once.'],
  code_required: [401, 'Enter the six digits your authenticator app shows now.'],
  sign_in_rate_limited: [429, 'Too many sign-ins failed here. Wait a quarter of an hour, then try again.'],
  confirmation_required: [403, 'Show again who you are (POST /operator/confirm), then send this once more.'],
  cross_site_request: [403, 'This request came from a page of another site. Open the dashboard by its own address.'],
  setup_done: [409, 'This server has its first operator already. Sign in, or ask an owner for an invitation.'],
  setup_link_required: [
    403,
    'Open the setup link this server printed when it started, or wrote to setup-link.txt in its data folder.',
  ],
  link_invalid: [400, 'This link was used, replaced or has ended. Ask an owner for a new one.'],
  operator_exists: [409, 'There is an operator with this e-mail address already.'],
  last_owner: [409, 'There must be an owner. Make somebody else one first.'],
  two_factor_on: [409, 'Two-factor sign-in is on already. Turn it off first.'],
  oidc_off: [404, 'This server has no identity provider. FAIRLEAD_OIDC_ISSUER names one.'],
  oidc_unreachable: [502, 'The identity provider could not be asked. Try again in a minute.'],
  oidc_ended: [
    400,
    'This sign-in is not under way in this browser: it was completed, took longer than ten minutes, or was begun elsewhere. Begin it again.',
  ],
  oidc_refused: [400, 'The identity provider ended the sign-in. Begin it again.'],
  oidc_failed: [
    401,
    'What the identity provider sent back does not hold, so nobody was signed in. The log of this server says why.',
  ],
  oidc_stranger: [403, 'Nobody here has this identity. Ask an owner for an invitation.'],
  oidc_email_unverified: [
    403,
    'The identity provider does not vouch for your e-mail address. Open the link of an invitation and go on from there.',
  ],
  oidc_not_linked: [
    403,
    'The operator with your e-mail address signs in with a password. Ask an owner for a new sign-in link, open it and choose the identity provider there.',
  ],

  // what was sent
  invalid_body: [400, 'The request body does not match what this endpoint takes.'],
  invalid_json: [400, 'The request body is not valid JSON.'],
  invalid_query_params: [400, 'The query does not match what this endpoint takes.'],
  invalid_uri_params: [400, 'The path does not match what this endpoint takes.'],
  invalid_headers: [400, 'The request headers do not match what this endpoint takes.'],
  invalid_content_type: [415, 'Send the body as application/json.'],
  body_too_large: [413, 'The request body is larger than this endpoint takes.'],
  not_found: [404, 'There is nothing here. Check the path and the ids in it.'],
  method_not_allowed: [405, 'This path does not take this method.'],
  conflict: [409, 'This clashes with what is there already.'],
  resource_capped: [400, 'There are as many of these as there may be.'],
  not_implemented: [501, 'This server does not have this part of the API.'],

  webhooks_not_read: [400, 'This server reads no webhooks of this provider.'],
  webhook_address_unknown: [404, 'There is no such address. It was replaced, or its connection is gone.'],
  webhook_unreadable: [400, 'This is no webhook of the provider this address is for.'],
  webhook_of_another_account: [
    403,
    'This webhook is of another account than the connection this address belongs to. Nothing was kept of it.',
  ],
  webhook_url_refused: [400, 'The egress policy of this server does not allow this webhook URL.'],
  webhook_url_missing: [400, 'This environment has no webhook URL. Set one with PATCH /environment/settings.'],

  // nouns
  unknown_provider_config: [400, 'No integration with this provider_config_key exists in this environment.'],
  unknown_connection: [400, 'No connection with this id exists on this integration.'],
  origin_not_allowed: [
    403,
    'This page may not start a sign-in here. Its origin has to be among allowed_origins of the environment.',
  ],
  click_missing: [403, 'Open the link again and press the button on its page in this browser.'],
  return_url_not_allowed: [
    400,
    'This return URL is not among return_urls of the environment. They are compared to the letter.',
  ],
  connection_unconfirmed: [
    424,
    'This connection waits for POST /connections/:id/confirm from your backend, and cannot be used before.',
  ],
  integration_not_allowed: [400, 'This connect session does not allow this integration.'],

  // connect: what the callback or the start can end with
  state_unknown: [
    400,
    'This sign-in is not under way here: it was already completed, is older than ten minutes, or was started elsewhere. Start it again from the product you came from.',
  ],
  sign_in_expired: [
    400,
    'Nobody came back from the provider within ten minutes, so this sign-in ended. Start it again.',
  ],
  state_missing: [
    400,
    'The provider came back without a state. Start the sign-in again from the product you came from.',
  ],
  browser_mismatch: [
    400,
    'This sign-in was started in another browser, or this browser refused our cookie. Start it again in this browser.',
  ],
  callback_malformed: [
    400,
    'The provider came back with contradictory or repeated parameters. Start the sign-in again.',
  ],
  code_missing: [400, 'The provider came back without a code and without an error. Start the sign-in again.'],
  access_denied: [
    400,
    'Access was not granted at the provider. Start again and choose "Allow" if that was not intended.',
  ],
  provider_error: [400, 'The provider ended the sign-in with an error.'],
  integration_credentials_missing: [
    400,
    'This integration has no OAuth client yet. Add its client id and secret, then start again.',
  ],
  connection_config_missing: [400, 'The provider needs a fact about the account that was not given.'],
  connection_config_invalid: [400, 'A fact about the account does not have the form the provider needs.'],
  connection_config_automated: [
    400,
    'This fact is learned from the provider itself and cannot be set from a browser. Leave it out.',
  ],
  token_exchange_refused: [400, 'The provider refused to exchange the code for tokens.'],
  token_client_invalid: [
    400,
    'The provider does not accept the client id and secret of this integration. Correct them, then start again.',
  ],
  token_exchange_unanswered: [
    502,
    'The provider did not answer the token request in time. The code was used up; start the sign-in again.',
  ],
  token_endpoint_unreachable: [
    502,
    'The token endpoint of the provider could not be reached. Start the sign-in again.',
  ],
  token_response_unreadable: [
    502,
    'The provider answered the token request with something that is not a token response.',
  ],
  token_response_too_large: [502, 'The token response of the provider is larger than any token response should be.'],
  token_response_incomplete: [
    502,
    'The token response of the provider lacks a fact this integration cannot work without.',
  ],
  token_type_unsupported: [502, 'The provider issued a type of token that Fairlead cannot present.'],
  host_not_allowed: [
    502,
    'The provider named a host for this account that is not on its list of allowed hosts. Nothing was sent there and nothing was stored.',
  ],
  account_mismatch: [
    409,
    'This sign-in came back as another account than the one the connection belongs to. Nothing was changed, and the access it brought is given back. Sign in as the account the connection belongs to, or connect the other one by itself.',
  ],
  belongs_elsewhere: [
    409,
    'This account is of another kind than this integration is for. Nothing was stored, and access that was given is given back. Connect it on an integration for its kind.',
  ],
  token_response_forged: [
    502,
    'The token response is not signed with the client secret of this integration: the secret belongs to another app, or the response was changed on its way. Nothing was stored.',
  ],
  refresh_token_missing: [
    502,
    'The provider gave no refresh token this time, so the connection could not be renewed any more. Nothing was changed. Have the integration ask for offline access and for consent, then start again.',
  ],
  refresh_token_superseded: [
    409,
    'The provider issued a refresh token that has been replaced already; its successor is stored here. Nothing was changed. Start the sign-in again.',
  ],

  // credentials that are given, not signed in for
  invalid_auth_mode: [
    400,
    'Connections of this integration are made in another way. The provider definition names it: auth_mode.',
  ],
  unknown_provider_template: [404, 'The provider of this integration is not in the catalogue of this server.'],
  provider_unsupported: [
    400,
    'The definition of this provider asks for something this version cannot do. GET /providers/:provider names it under unsupported.',
  ],
  credential_malformed: [400, 'What was given does not have the form the provider needs.'],
  credential_automated: [400, 'This is set by the integration or learned from the provider. Leave it out.'],
  missing_client_id: [400, 'Send the client_id of the account.'],
  missing_client_secret: [400, 'Send the client_secret or the client_private_key of the account.'],
  client_credentials_fetch_error: [400, 'The provider gave no token for this client id and secret.'],
  connection_test_failed: [400, 'The provider does not accept what was given. Nothing was stored.'],
  connection_test_unanswered: [
    502,
    'The provider could not be asked whether what was given works. Nothing was stored.',
  ],

  // credential
  invalid_credentials: [400, 'The provider no longer accepts this connection. Its owner has to sign in again.'],
  connection_paused: [423, 'This connection is paused. Resume it to use it.'],
  refresh_unavailable: [
    424,
    'The access token has ended and could not be renewed just now. The connection is kept; try again after Retry-After.',
  ],

  // proxy
  proxy_path_absolute: [
    400,
    'Send the path alone, not a whole URL: the connection decides the host. A URL below the base URL of the connection is taken as its path.',
  ],
  proxy_path_traversal: [400, 'The path holds a "." or ".." segment, encoded or not. Write out the path you mean.'],
  proxy_path_malformed: [
    400,
    'The path begins with "//" or holds a backslash, a control character or a broken escape. Encode what is data.',
  ],
  proxy_header_conflict: [400, 'A header that must be single was sent more than once.'],
  proxy_method_refused: [405, 'CONNECT, TRACE and protocol upgrades are not proxied.'],
  proxy_base_unknown: [
    424,
    'This connection has no base URL: the provider names none, or a fact it is built from is missing.',
  ],
  base_url_override_disabled: [
    400,
    'Base-Url-Override is off for this integration. Leave the header out or empty, or name the hosts it may lead to in base_url_hosts.',
  ],
  base_url_override_not_allowed: [
    400,
    'Base-Url-Override must be a URL without user, query and fragment whose host is one of base_url_hosts of this integration.',
  ],
  proxy_body_too_large: [
    413,
    'This provider has members added to JSON bodies, and a body that long is not read. The most is 1 MiB.',
  ],
  upstream_unreachable: [502, 'The provider could not be reached. Nothing of this request arrived there.'],
  upstream_failed: [
    502,
    'The connection to the provider broke before it answered. The request may have been processed.',
  ],
  upstream_timeout: [504, 'The provider did not begin to answer in time. The request may have been processed.'],
  provider_busy: [
    503,
    'More calls to this host are under way than Fairlead lets wait at once. Try again after Retry-After.',
  ],
  provider_failing: [
    503,
    'This host has not answered lately and is left alone for a moment. Try again after Retry-After.',
  ],
  rate_limited: [429, 'The provider said that it takes no more calls for now. Try again after Retry-After.'],
  rate_limit_reserved: [429, "What is left of the provider's daily calls is kept for calls that cannot wait."],
  egress_refused: [
    502,
    'The egress policy of this server does not allow this address. Its operator can: FAIRLEAD_EGRESS_ALLOW.',
  ],

  // backup, restore and move: said by the command line
  backup_key_missing: [
    403,
    'This backup was sealed with another encryption key. Set FAIRLEAD_ENCRYPTION_KEY to the key that was first in its list when it was taken. Nothing was written.',
  ],
  backup_altered: [
    400,
    'This is no backup of Fairlead, or it was cut short or altered. Nothing was written. Take another copy of it, or an older one.',
  ],
  backup_newer: [
    409,
    'This backup was taken by a newer version of Fairlead. Restore it with that version. Nothing was written.',
  ],
  backup_file_unusable: [400, 'The file of the backup cannot be read or written.'],
  target_not_empty: [
    409,
    'This database is not empty. Name one in which nothing was ever stored, e.g. from "createdb". Nothing was written.',
  ],
  target_in_use: [409, 'Another restore or move is writing to this database. Nothing was written.'],
  move_incomplete: [
    500,
    'The copy is not the same as the source. Run the same command again; the source is as it was.',
  ],
  schema_differs: [
    409,
    'The tables there are not those of this version of Fairlead. Start the server of this version on the source once, then do this again. Nothing was written.',
  ],

  // this server
  page_not_built: [
    503,
    'This page has not been built on this server. Run "npm run build"; a published package carries it built.',
  ],
  too_many_request: [429, 'Too many requests in one minute. Send it again after Retry-After.'],
  overloaded: [503, 'This server has more to do than it can just now. Send the request again after Retry-After.'],
  not_ready: [503, 'This server is not ready.'],
  database_unavailable: [503, 'The database could not be reached. Nothing was changed; send the request again.'],
  sealed_value_unreadable: [
    500,
    'A sealed value could not be opened. The encryption key was changed or the database was altered.',
  ],
  server_error: [500, 'Fairlead failed. Its log has the cause under this request id.'],
} as const satisfies Record<string, readonly [status: number, message: string]>

export type ErrorCode = keyof typeof errors

export interface ErrorIssue {
  code: string
  message: string
  path: (string | number)[]
}

/** The body of every JSON error. */
export interface ErrorEnvelope {
  /** `cause`: what the provider's own error means, where its definition can say. */
  error: { code: string; message: string; errors?: ErrorIssue[]; payload?: unknown; cause?: ExplainedCause }
}
