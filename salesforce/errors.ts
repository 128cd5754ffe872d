/**
 * Salesforce's errors, and what they mean to the person who has to do something. Salesforce says little and the same for many reasons, so a
 * cause has several explanations, the likeliest first by what is known of the org. Pure: the callback's page, the results of a sign-in, a
 * connection's state, the doctor and the documentation all read this one table. A text that nobody has seen yet is called just that.
 */
import { type ExplainedCause, type Explanation, unexplained } from '@fairlead/contract'
import { type SetupPage, setupLink } from './setup.ts'

/** On the way to the log-in page and back, at the token endpoint, at a renewal, at a reconnect, in the API, or nothing at all. */
export type Where = 'authorize' | 'token' | 'refresh' | 'reconnect' | 'api' | 'silence'

export interface Met {
  where: Where
  error: string
  description: string
}

export interface Context {
  /** The side an org logs in on, by the integration or by the org itself. */
  login: 'production' | 'sandbox' | undefined
  /** The org's address; undefined while only a generic log-in is known. */
  org: string | undefined
  /** The callback of this server. */
  callback: string
  /** Where this server's requests come from. */
  exits: readonly string[]
}

interface Row {
  code: string
  title: string
  /** What it looks like. The documentation shows it, and a test holds each to this row. */
  seen: [where: Where, error: string, description?: string][]
  matches(met: Met): boolean
  explanations(context: Context, met: Met): (Explanation | false)[]
}

const explanation = (text: string, fix: string, link?: string): Explanation => ({ text, fix, ...(link && { link }) })

const named =
  (error: RegExp, description?: RegExp) =>
  (met: Met): boolean =>
    error.test(met.error) && (description === undefined || description.test(met.description))

const anywhere =
  (text: RegExp) =>
  ({ error, description }: Met): boolean =>
    text.test(`${error}: ${description}`)

const page = (context: Context, name: SetupPage): string | undefined => setupLink(context.org, name)
const appManager = (context: Context) => page(context, 'ManageExternalClientApplication')
const usage = (context: Context) => page(context, 'ConnectedAppsUsage')

/** In the words of the person at the keyboard. */
const here = ({ login }: Context): string => (login === 'sandbox' ? 'this sandbox' : 'this org')

const wait = explanation(
  'The app, or this setting of it, was made less than ten minutes ago. Salesforce takes up to ten minutes until it is known everywhere.',
  'Wait ten minutes, then start again.',
)

const passwords = explanation(
  'Some developers report this error with a password that holds special characters. We know of no reason why that should be so.',
  'If nothing else helps: change the password of the user who signs in to letters and digits, and try again.',
)

const rows: Row[] = [
  {
    code: 'redirect_uri_mismatch',
    title: 'The app does not know the callback address of this server',
    seen: [
      ['authorize', 'redirect_uri_mismatch', 'redirect_uri must match configuration'],
      ['token', 'redirect_uri_mismatch', 'redirect_uri must match configuration'],
      ['authorize', 'redirect_uri_missing', 'redirect_uri not provided'],
    ],
    matches: named(/^redirect_uri_(mismatch|missing)$/i),
    explanations: context => [
      explanation(
        'The callback URL of the app and the one of this server are not the same, letter by letter: http or https, the host, a slash at the end all count.',
        `Set the app's callback URL to exactly ${context.callback}`,
        appManager(context),
      ),
      wait,
    ],
  },
  {
    code: 'app_not_installed',
    title: 'The app is not installed in this org',
    seen: [['token', 'invalid_client', 'app must be installed into org']],
    matches: anywhere(/must be installed into org/i),
    explanations: context => [
      explanation(
        'The app was made in another org, and nobody has installed it here.',
        `Create an External Client App in ${here(context)} and give its key and secret to the integration, or have an administrator install the app.`,
        usage(context),
      ),
    ],
  },
  {
    code: 'app_not_found',
    title: 'There is no such app in the org that was signed in to',
    seen: [
      ['authorize', 'OAUTH_EC_APP_NOT_FOUND', 'External client app is not installed in this org'],
      ['token', 'invalid_grant', 'External client app is not installed in this org'],
      ['token', 'app_not_found'],
    ],
    matches: anywhere(/OAUTH_EC_APP_NOT_FOUND|app_not_found|external client app is not installed/i),
    explanations: context => [
      context.login === 'sandbox' &&
        explanation(
          'The sandbox was refreshed. A refresh makes a new org, and apps are not copied into it.',
          'Create the External Client App in the sandbox again and give its new key and secret to the integration.',
          appManager(context),
        ),
      explanation(
        'Somebody signed in to another org than the one the app lives in. An External Client App exists only where it was created or installed.',
        `Sign in to the org of the app, or create an External Client App in ${here(context)}.`,
        appManager(context),
      ),
      wait,
    ],
  },
  {
    code: 'app_unknown_here',
    title: 'Salesforce does not know this app at this address',
    seen: [
      ['authorize', 'invalid_client_id', 'client identifier invalid'],
      ['token', 'invalid_client_id', 'client identifier invalid'],
      ['refresh', 'invalid_client_id', 'client identifier invalid'],
    ],
    matches: named(/^invalid_client_id$/i),
    explanations: (context, { where }) => {
      const refreshed = explanation(
        'The sandbox was refreshed. A refresh makes a new org, and apps are not copied into it.',
        'Create the External Client App in the sandbox again and give its new key and secret to the integration.',
        appManager(context),
      )
      const sandbox = context.login === 'sandbox'
      return [
        sandbox && where === 'refresh' && refreshed,
        explanation(
          sandbox
            ? 'The app lives in another org: most often it was made in production, and this is a sandbox. A sandbox needs an app of its own.'
            : 'The app lives in another org: most often it was made in a sandbox, and this is the log-in of production.',
          sandbox
            ? 'Create an External Client App in the sandbox itself and use its key and secret for this integration.'
            : 'Create an External Client App in production and use its key and secret here; for a sandbox, use an integration of the provider Salesforce Sandbox.',
          appManager(context),
        ),
        context.org === undefined &&
          explanation(
            'An app that is local to one org is often unknown at the generic log-in.',
            `Give the address of the org, its My Domain${sandbox ? ', such as acme--uat.sandbox.my.salesforce.com' : ''}, and start again.`,
          ),
        wait,
        explanation(
          'The consumer key was copied with a space, or not to its end. It begins with 3MVG9 and has about 85 characters.',
          'Copy the consumer key again and save the integration.',
          appManager(context),
        ),
        explanation(
          'The browser is signed in to another org, and Salesforce looked for the app there.',
          'Start again in a private window.',
        ),
        sandbox && where !== 'refresh' && refreshed,
        passwords,
      ]
    },
  },
  {
    code: 'wrong_client_secret',
    title: 'The client secret is wrong',
    seen: [
      ['token', 'invalid_client', 'invalid client credentials'],
      ['refresh', 'invalid_client', 'invalid client credentials'],
      ['token', 'invalid_client_credentials'],
      ['token', 'invalid_basic_auth_header', 'invalid basic authentication header'],
    ],
    matches: named(/^(invalid_client(_credentials)?|invalid_basic_auth_header)$/i),
    explanations: (context, { where }) => [
      explanation(
        'The consumer secret of this integration is not that of the app: copied with a space, taken from another app, or from the org on the other side (production or sandbox).',
        'Copy the consumer secret from the app again (Settings → OAuth Settings → Consumer Key and Secret) and save the integration.',
        appManager(context),
      ),
      explanation(
        where === 'refresh'
          ? 'The secret was rotated at Salesforce. Applying a new one ends the old one, and for up to ten minutes both may behave oddly.'
          : 'The secret was rotated a moment ago; for up to ten minutes the old and the new one may behave oddly.',
        'Give the new secret to the integration. Connections are kept and renewed with it.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'app_blocked',
    title: 'An administrator blocked the app',
    seen: [
      ['authorize', 'OAUTH_APP_BLOCKED', 'this app is blocked by admin'],
      ['authorize', 'OAUTH_AUTHORIZATION_BLOCKED'],
      ['token', 'OAUTH_APP_BLOCKED', 'this app is blocked by admin'],
      ['authorize', 'app_blocked'],
      ['authorize', 'fail_close_app_blocked'],
    ],
    matches: anywhere(/OAUTH_APP_BLOCKED|OAUTH_AUTHORIZATION_BLOCKED|app_blocked|blocked by admin/i),
    explanations: context => [
      explanation(
        'Somebody pressed Block for this app in Setup → Connected Apps OAuth Usage.',
        'An administrator presses Unblock there.',
        usage(context),
      ),
      explanation(
        'API Access Control is on, and the app is not among those that were let in.',
        'An administrator installs the app there and gives the user access to it.',
        usage(context),
      ),
    ],
  },
  {
    code: 'approval_failed',
    title: 'Salesforce could not finish the approval',
    seen: [
      ['authorize', 'OAUTH_APPROVAL_ERROR_GENERIC', 'An unexpected error has occurred during authentication.'],
      ['silence', 'OAUTH_APPROVAL_ERROR_GENERIC'],
    ],
    matches: anywhere(/OAUTH_APPROVAL_ERROR_GENERIC/i),
    explanations: context => [
      explanation(
        'The integration asks for a scope the app does not have.',
        'Add the scope to the app, or take it from the integration.',
        appManager(context),
      ),
      explanation(
        'The app is not installed in the org, and the user may not approve apps that are not installed (since September 2025 that is a permission of its own).',
        'An administrator installs the app under Connected Apps OAuth Usage, or gives the user "Approve Uninstalled Connected Apps".',
        usage(context),
      ),
      explanation(
        'The user has an integration licence, which may use the API and no pages: such a user cannot consent in a browser.',
        'Sign in as another user, or connect with the JWT bearer or the client credentials flow.',
      ),
      explanation(
        'The app is blocked, or single sign-on leads in a circle.',
        'Look the app up in Connected Apps OAuth Usage.',
        usage(context),
      ),
    ],
  },
  {
    code: 'access_denied',
    title: 'Access was not granted',
    seen: [['authorize', 'access_denied', 'end-user denied authorization']],
    matches: named(/^access_denied$/i),
    explanations: () => [
      explanation(
        'Somebody pressed Deny on the page that asks for access.',
        'Start again and press Allow, if that was not intended.',
      ),
    ],
  },
  {
    code: 'user_not_approved',
    title: 'The user is not among those who may use the app',
    seen: [
      ['authorize', 'invalid_grant', 'user is not admin approved to access this app'],
      ['token', 'invalid_grant', 'user is not admin approved to access this app'],
      ['refresh', 'invalid_grant', 'user is not admin approved to access this app'],
      ['authorize', 'OAUTH_APP_ACCESS_DENIED', 'user is not admin approved to access this app'],
    ],
    matches: anywhere(/not admin approved/i),
    explanations: context => [
      explanation(
        'The app\'s policy is "Admin approved users are pre-authorized", and the user has neither the profile nor the permission set that is let in.',
        'Policies of the app → Select Profiles or Select Permission Sets: add one the user has.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'consumer_not_approved',
    title: 'The user never approved this app',
    seen: [
      ['token', 'invalid_grant', "user hasn't approved this consumer"],
      ['refresh', 'invalid_grant', "user hasn't approved this consumer"],
    ],
    matches: anywhere(/hasn.?t approved this consumer/i),
    explanations: context => [
      explanation(
        'In the JWT bearer flow nobody is asked: a user has to be let in beforehand.',
        'Set the app to "Admin approved users are pre-authorized" and add a permission set of the user; the app needs the scope refresh_token for that.',
        appManager(context),
      ),
      explanation('The approval was taken back.', 'Have the user sign in once more.', usage(context)),
    ],
  },
  {
    code: 'pkce_required',
    title: 'The app wants a code challenge',
    seen: [['authorize', 'invalid_request', 'missing required code challenge']],
    matches: anywhere(/required code challenge|code_challenge.*(required|missing)/i),
    explanations: () => [
      explanation(
        'The app, or the whole org, requires PKCE, and the sign-in came without. This server always sends it; a proxy or a provider definition of your own took it away.',
        'Take disable_pkce out of the provider definition.',
      ),
    ],
  },
  {
    code: 'code_verifier_invalid',
    title: 'The answer belongs to another sign-in',
    seen: [
      ['token', 'invalid_grant', 'invalid code verifier'],
      ['token', 'invalid_request', 'missing required code verifier'],
      ['authorize', 'invalid_request', 'code challenge method must be S256'],
    ],
    matches: anywhere(/code verifier|code_verifier|challenge method/i),
    explanations: () => [
      explanation(
        'The code that came back was made for another code verifier: two sign-ins were mixed up, or something between here and Salesforce changed the request.',
        'Start the sign-in again, in one window.',
      ),
    ],
  },
  {
    code: 'code_expired',
    title: 'The sign-in took too long or was used already',
    seen: [['token', 'invalid_grant', 'expired authorization code']],
    matches: anywhere(/expired authorization code/i),
    explanations: () => [
      explanation(
        'A code of Salesforce lives 15 minutes and is good for once.',
        'Start the sign-in again and finish it without a pause. Do not reload the page it ends on.',
      ),
    ],
  },
  {
    code: 'being_processed',
    title: 'Somebody is presenting this token at the same moment',
    seen: [
      ['token', 'invalid_grant', 'token request is already being processed'],
      ['refresh', 'invalid_grant', 'token request is already being processed'],
    ],
    matches: anywhere(/already being processed/i),
    explanations: (_, { where }) => [
      explanation(
        where === 'refresh'
          ? 'Two requests presented the same refresh token at once. The connection is kept, and its token serves on, until it is known what came of it.'
          : 'Two requests presented the same code at once, as a double click does.',
        where === 'refresh'
          ? 'Nothing has to be done. If it goes on: is the same grant used by another program as well?'
          : 'Start the sign-in again.',
      ),
    ],
  },
  {
    code: 'org_unreachable',
    title: 'The org does not exist any more, or is closed',
    seen: [
      ['token', 'inactive_org'],
      ['refresh', 'invalid_grant', 'inactive organization'],
      ['token', 'invalid_grant', 'Data Not Available'],
      ['api', 'HTTP 420'],
      ['refresh', 'HTTP 420'],
    ],
    matches: anywhere(/inactive_org|inactive organi[sz]ation|data not available|^HTTP 420/i),
    explanations: context => [
      explanation(
        context.login === 'sandbox'
          ? 'A scratch org or a trial ends by its date; a sandbox that is being refreshed or was deleted answers like this too.'
          : 'The org expired, was locked, or is being moved to another instance.',
        'Open the org in a browser. If it is there, wait and try again; if not, connect another one.',
      ),
      explanation(
        'The org was renamed, and its old address is no longer served.',
        'See under My Domain what the address is now, and connect again with it.',
        page(context, 'OrgDomain'),
      ),
    ],
  },
  {
    code: 'user_inactive',
    title: 'The user is deactivated or frozen',
    seen: [
      ['token', 'invalid_grant', 'inactive user'],
      ['refresh', 'invalid_grant', 'inactive user'],
      ['token', 'inactive_user'],
    ],
    matches: anywhere(/inactive user|inactive_user/i),
    explanations: context => [
      explanation(
        'The user who signed in was deactivated or frozen, as happens when somebody leaves.',
        'Activate the user, or reconnect as another one. A user of its own for integrations does not leave.',
        page(context, 'ManageUsers'),
      ),
    ],
  },
  {
    code: 'ip_restricted',
    title: 'The org does not let this server in from where it stands',
    seen: [
      ['token', 'invalid_grant', 'ip restricted'],
      ['refresh', 'invalid_grant', 'ip restricted'],
      ['token', 'invalid_grant', 'IP restricted or invalid login hours'],
    ],
    matches: anywhere(/ip restricted|login hours/i),
    explanations: context => {
      const from = context.exits.length > 0 ? `This server's requests come from ${context.exits.join(', ')}. ` : ''
      return [
        explanation(
          `${from}The app enforces IP restrictions, and the addresses the user's profile or the org lets in do not hold it.`,
          'Policies of the app → IP Relaxation: relax, or add the address to the ranges.',
          appManager(context),
        ),
        explanation(
          'The app has a list of addresses from which refresh tokens may be used, and this one is not on it.',
          'Settings of the app → OAuth → refresh token IP ranges: add the address.',
          appManager(context),
        ),
        explanation(
          "The user's profile has login hours, and this is outside of them.",
          'Widen the login hours of the profile.',
          page(context, 'NetworkAccess'),
        ),
      ]
    },
  },
  {
    code: 'login_record_inconsistent',
    title: "Salesforce's own record of this login is broken",
    seen: [
      ['refresh', 'invalid_grant', 'activation secret invalid'],
      ['refresh', 'invalid_grant', 'LOGIN_OAUTH_INVALID_DS'],
    ],
    matches: anywhere(/activation secret|LOGIN_OAUTH_INVALID_DS/i),
    explanations: () => [
      explanation(
        'The record of the login does not fit any more, typically after the user or the org was moved.',
        'Reconnect.',
      ),
    ],
  },
  {
    code: 'audience_invalid',
    title: 'The assertion is for another log-in',
    seen: [
      ['token', 'invalid_grant', 'audience is invalid'],
      ['token', 'invalid_grant', 'Audience validation failed'],
      ['token', 'invalid_grant', 'invalid assertion'],
      ['token', 'invalid_assertion_type'],
      ['token', 'bad_jti_claim'],
    ],
    matches: anywhere(
      /audience (is invalid|validation)|invalid.?assertion|assertion.*(expired|invalid)|bad_jti_claim/i,
    ),
    explanations: context => [
      explanation(
        context.login === 'sandbox'
          ? 'The audience of the JWT is production, and the user lives in a sandbox.'
          : 'The audience of the JWT does not fit the org: a sandbox has https://test.salesforce.com or its My Domain.',
        'Give the My Domain of the org as the host of the connection.',
        page(context, 'OrgDomain'),
      ),
      explanation(
        'The certificate of the app is not that of the private key the integration signs with.',
        'Upload the certificate that belongs to the key: Settings of the app → Flow Enablement → JWT Bearer Flow.',
        appManager(context),
      ),
      explanation('The clock of this server is more than three minutes off.', 'Set it by NTP.'),
    ],
  },
  {
    code: 'client_credentials_off',
    title: 'The client credentials flow is not switched on for this org',
    seen: [
      ['token', 'invalid_grant', 'no client credentials user enabled'],
      ['token', 'invalid_request', 'client credentials flow not enabled'],
      ['token', 'unsupported_grant_type', 'client credentials flow not enabled'],
    ],
    matches: anywhere(/client credentials (user|flow)/i),
    explanations: context => [
      explanation(
        'The app has no user to run as in this org, or the flow is off.',
        'Settings of the app: Enable Client Credentials Flow. Policies of the app: the same, and a user in Run As.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'domain_not_supported',
    title: 'This flow works only at the My Domain of the org',
    seen: [['token', 'invalid_grant', 'request not supported on this domain']],
    matches: anywhere(/not supported on this domain/i),
    explanations: context => [
      explanation(
        'Client credentials were presented at login.salesforce.com or test.salesforce.com, which belong to no org.',
        'Give the My Domain of the org as the host of the connection.',
        page(context, 'OrgDomain'),
      ),
    ],
  },
  {
    code: 'session_too_weak',
    title: 'The app wants a stronger sign-in',
    seen: [
      ['authorize', 'invalid_session_level'],
      ['authorize', 'login_error'],
    ],
    matches: named(/^(invalid_session_level|login_error)$/i),
    explanations: context => [
      explanation('The app asks for a high-assurance session.', 'Sign in with multi-factor authentication.'),
      explanation(
        'The app asks for it and the integration does not need it.',
        'Policies of the app → Session Policies: lower the required level.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'dpop_required',
    title: 'The app wants tokens bound to a key',
    seen: [
      ['token', 'use_dpop_nonce'],
      ['token', 'invalid_dpop_proof'],
    ],
    matches: anywhere(/dpop/i),
    explanations: context => [
      explanation(
        'DPoP is switched on for the app, and this server presents bearer tokens.',
        'Settings of the app → Security: switch DPoP off.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'refresh_token_ended',
    title: 'Salesforce ended this access',
    seen: [
      ['refresh', 'invalid_grant', 'expired access/refresh token'],
      ['token', 'invalid_grant', 'expired access/refresh token'],
      ['refresh', 'invalid_grant', 'token validity expired'],
    ],
    matches: anywhere(/expired access\/refresh token|token validity expired/i),
    explanations: context => [
      explanation('Somebody took the access back: the user, or an administrator.', 'Reconnect.', usage(context)),
      context.login === 'sandbox' &&
        explanation(
          'The sandbox was refreshed. That makes a new org, in which neither tokens nor apps live on.',
          'Create the External Client App in the sandbox again, give its key and secret to the integration, and connect anew.',
          appManager(context),
        ),
      explanation(
        'The app\'s refresh token policy ended it: a lifetime, or too long without use. With "immediately expire" it never worked.',
        'Policies of the app → Refresh Token Policy: valid until revoked, or 30 days without use. Then reconnect.',
        appManager(context),
      ),
      explanation(
        'The same user approved the app more than five times, and the oldest approval was dropped without a word.',
        'Delete connections of this user that nobody uses, then reconnect.',
        usage(context),
      ),
      explanation(
        "The user's password was changed, which ends every token of the user.",
        'Reconnect.',
        page(context, 'ManageUsers'),
      ),
      explanation(
        "The app's key or secret was rotated, which ends every token of the app.",
        'Give the new key and secret to the integration, then reconnect.',
        appManager(context),
      ),
      explanation(
        'Refresh tokens rotate, and a program outside of this server presented an old one.',
        'Use the grant in one place only. Then reconnect.',
      ),
    ],
  },
  {
    code: 'login_failed',
    title: 'User name, password or address were not accepted',
    seen: [
      ['token', 'invalid_grant', 'authentication failure'],
      ['token', 'invalid_grant', 'authentication failure - Invalid Password'],
    ],
    matches: anywhere(/authentication failure/i),
    explanations: () => [
      explanation(
        'The username-password flow was used. It is blocked in orgs made since summer 2023, External Client Apps do not have it, and it will end.',
        'Connect through the browser.',
      ),
    ],
  },
  {
    code: 'grant_not_supported',
    title: 'This address does not give tokens',
    seen: [
      ['token', 'unsupported_grant_type', 'grant type not supported'],
      ['refresh', 'unsupported_grant_type', 'grant type not supported'],
    ],
    matches: named(/^unsupported_grant_type$/i),
    explanations: context => [
      explanation(
        'The request went to a Lightning or Setup page, which looks like the org and is not its token endpoint.',
        'Give the My Domain of the org, which ends in .my.salesforce.com.',
        page(context, 'OrgDomain'),
      ),
      explanation(
        'The flow is switched off for the app.',
        'Settings of the app → Flow Enablement.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'flow_disabled',
    title: 'The org does not allow this way of signing in',
    seen: [
      ['authorize', 'unsupported_response_type', 'response type not supported'],
      ['authorize', 'oauth_flow_disabled'],
    ],
    matches: named(/^(unsupported_response_type|oauth_flow_disabled)$/i),
    explanations: () => [
      explanation(
        'The org blocks this OAuth flow. This server asks for a code, which is the one that is never blocked by default; a provider definition of your own may ask for something else.',
        'Setup → OAuth and OpenID Connect Settings shows what is blocked.',
      ),
    ],
  },
  {
    code: 'scope_not_on_app',
    title: 'The integration asks for a scope the app does not have',
    seen: [
      ['authorize', 'invalid_scope', 'the requested scope is not allowed'],
      ['token', 'invalid_scope'],
    ],
    matches: named(/^invalid_scope$/i),
    explanations: context => [
      explanation(
        'The app gives no more than the scopes that were selected for it.',
        'Settings of the app → OAuth Scopes: add "Manage user data via APIs (api)" and "Perform requests at any time (refresh_token)", or take the other scopes from the integration.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'login_rate_exceeded',
    title: 'The user has logged in too often',
    seen: [
      ['token', 'rate_limit_exceeded'],
      ['refresh', 'rate_limit_exceeded'],
      ['api', 'LOGIN_RATE_EXCEEDED'],
    ],
    matches: anywhere(/rate_limit_exceeded|LOGIN_RATE_EXCEEDED/i),
    explanations: context => [
      explanation(
        'A user may log in 3,600 times an hour, renewals of every program counted.',
        'Find the program that logs in so often in the login history of the user. Here it is tried again by itself.',
        page(context, 'ManageUsers'),
      ),
    ],
  },
  {
    code: 'no_session',
    title: 'Nobody was signed in',
    seen: [['authorize', 'immediate_unsuccessful', 'immediate request unsuccessful']],
    matches: named(/^immediate_unsuccessful$/i),
    explanations: () => [
      explanation(
        'The sign-in was asked to go without a page (immediate=true).',
        'Leave the parameter "immediate" out.',
      ),
    ],
  },
  {
    code: 'daily_calls_used_up',
    title: "The org's API calls of the day are used up",
    seen: [['api', 'REQUEST_LIMIT_EXCEEDED', 'TotalRequests Limit exceeded.']],
    matches: named(/^REQUEST_LIMIT_EXCEEDED$/i, /^(?!.*Concurrent)/i),
    explanations: context => [
      explanation(
        'Every program that calls the org shares one budget of 24 hours.',
        'Company Information shows it. Wait, have it raised, or find the program that used it.',
        page(context, 'CompanyProfileInfo'),
      ),
    ],
  },
  {
    code: 'api_currently_disabled',
    title: 'The org does not let this app use the API just now',
    seen: [
      ['api', 'API_CURRENTLY_DISABLED'],
      ['api', 'FUNCTIONALITY_NOT_ENABLED'],
    ],
    matches: named(/^(API_CURRENTLY_DISABLED|FUNCTIONALITY_NOT_ENABLED)$/i),
    explanations: context => [
      explanation(
        'API Access Control is on, and the app was not let in.',
        'An administrator installs the app and lets it in.',
        usage(context),
      ),
    ],
  },
  {
    code: 'api_disabled',
    title: 'The user or the edition has no API',
    seen: [['api', 'API_DISABLED_FOR_ORG', 'API is not enabled for this Organization or Partner']],
    matches: named(/^API_DISABLED_FOR_ORG$/i),
    explanations: context => [
      explanation(
        'The user lacks the permission "API Enabled".',
        'Give it by a permission set.',
        page(context, 'PermSets'),
      ),
      explanation(
        'The edition has no API: Group, Essentials, or Professional without the add-on.',
        'Ask Salesforce for the API add-on, or connect an org of another edition.',
        page(context, 'CompanyProfileInfo'),
      ),
    ],
  },
  {
    code: 'api_scope_missing',
    title: 'The token is not for the API',
    seen: [['api', 'INVALID_SESSION_ID', 'This session is not valid for use with the REST API']],
    matches: anywhere(/not valid for use with the REST API/i),
    explanations: context => [
      explanation(
        'The app, or the integration, lacks the scope api. A new token would be no better.',
        'Add "Manage user data via APIs (api)" to the app and to the scopes of the integration, then reconnect.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'session_ended',
    title: 'The session ended',
    seen: [
      ['api', 'INVALID_SESSION_ID', 'Session expired or invalid'],
      ['api', 'Bad_OAuth_Token'],
    ],
    matches: named(/^(INVALID_SESSION_ID|Bad_OAuth_Token)$/i),
    explanations: context => [
      explanation(
        'Sessions end by the timeout of the app or the org.',
        'Nothing has to be done: it is renewed once by itself and the call sent again.',
      ),
      explanation(
        'It ends again at once: sessions are locked to the address they began at.',
        'Session Settings → do not lock sessions to the IP address they originate from; or relax IP restrictions in the policies of the app.',
        appManager(context),
      ),
      explanation(
        'The org moved to another address.',
        'Nothing has to be done: a renewal brings the new one.',
        page(context, 'OrgDomain'),
      ),
    ],
  },
  {
    code: 'salesforce_unavailable',
    title: 'Salesforce is not available',
    seen: [
      ['authorize', 'server_error'],
      ['token', 'service_unavailable'],
      ['token', 'system_down'],
      ['refresh', 'unknown_error'],
      ['token', 'HTTP 503'],
      ['refresh', 'HTTP 500'],
      ['api', 'SERVER_UNAVAILABLE'],
    ],
    matches: named(/^(server_error|service_unavailable|system_down|unknown_error|SERVER_UNAVAILABLE|HTTP 5\d\d)$/i),
    explanations: (_, { where }) => [
      explanation(
        'Maintenance, or trouble on their side: https://status.salesforce.com tells.',
        where === 'refresh' || where === 'api'
          ? 'Nothing has to be done: connections are kept, and it is tried again.'
          : 'Start again in a few minutes.',
        'https://status.salesforce.com',
      ),
    ],
  },
  {
    code: 'sandbox_refreshed',
    title: 'The sandbox was refreshed',
    seen: [['reconnect', 'account_replaced']],
    matches: named(/^account_replaced$/),
    explanations: context => [
      explanation(
        'The address is the same and the org is a new one: a refresh gives a sandbox a new organization id, and destroys its tokens and apps.',
        'See that the app is there again and that the integration has its key and secret, delete this connection, and connect the sandbox anew.',
        appManager(context),
      ),
    ],
  },
  {
    code: 'sandbox_on_production',
    title: 'This is a sandbox',
    seen: [['reconnect', 'sandbox_on_production']],
    matches: named(/^sandbox_on_production$/),
    explanations: () => [
      explanation(
        'Somebody signed in to a sandbox, and this integration is for production, Developer Edition and playgrounds. A sandbox is a world of its own, with its own app.',
        'Connect it on an integration of the provider Salesforce Sandbox.',
      ),
    ],
  },
  {
    code: 'production_on_sandbox',
    title: 'This is not a sandbox',
    seen: [['reconnect', 'production_on_sandbox']],
    matches: named(/^production_on_sandbox$/),
    explanations: () => [
      explanation(
        'Somebody signed in to an org that logs in at login.salesforce.com, and this integration is for sandboxes and scratch orgs. A Developer Edition is no sandbox.',
        'Connect it on an integration of the provider Salesforce, or sign in to the sandbox: its user names end in its name, as ada@acme.com.uat.',
      ),
    ],
  },
  {
    code: 'nothing_came_back',
    title: 'Salesforce did not send anybody back',
    seen: [['silence', '']],
    matches: ({ where }) => where === 'silence',
    explanations: context => [
      explanation(
        'The page at Salesforce says "redirect_uri must match configuration": the app does not know the callback address of this server.',
        `Set the app's callback URL to exactly ${context.callback}`,
        appManager(context),
      ),
      explanation(
        `The page says "client identifier invalid": the app lives in another org than ${here(context)}, or was made less than ten minutes ago.`,
        context.org === undefined
          ? 'Give the address of the org, its My Domain, and start again; create the app in that org.'
          : 'Create the app in that org, wait ten minutes, and start again.',
        appManager(context),
      ),
      explanation(
        'The page says "External client app is not installed in this org" (OAUTH_EC_APP_NOT_FOUND): somebody signed in to another org than the app’s.',
        'Start again in a private window and sign in to the org of the app.',
        appManager(context),
      ),
      explanation(
        'The page says OAUTH_APPROVAL_ERROR_GENERIC: a scope the app does not have, an app that is not installed, or a user who may only use the API.',
        'An administrator looks the app up under Connected Apps OAuth Usage.',
        usage(context),
      ),
      explanation(
        'The page says that the app is blocked.',
        'An administrator presses Unblock under Connected Apps OAuth Usage.',
        usage(context),
      ),
      explanation('The window was closed, or the sign-in is still going on.', 'Start again.'),
    ],
  },
]

/** Never nothing: what is not in the table is said to be not in the table. */
export function explain(met: Met, context: Context): ExplainedCause {
  const row = rows.find(({ matches }) => matches(met))
  if (!row)
    return {
      code: unexplained,
      title: 'Salesforce said something this server has no explanation for',
      explanations: [
        {
          text: `Its words: ${[met.error, met.description].filter(Boolean).join(': ') || 'none'}`,
          fix: 'Look the user up in the login history of the org; its Status column often says more.',
          ...optionalLink(page(context, 'ManageUsers')),
        },
      ],
    }
  const { code, title } = row
  return { code, title, explanations: row.explanations(context, met).filter(one => one !== false) }
}

const optionalLink = (link: string | undefined) => (link === undefined ? {} : { link })

/** For the documentation and the tests: every cause with what it looks like. */
export const catalogue: readonly Pick<Row, 'code' | 'title' | 'seen'>[] = rows
