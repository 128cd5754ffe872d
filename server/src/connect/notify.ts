/**
 * How a page learns what became of a sign-in: the one file that owns every way. First a record that stays with the session (GET
 * /connect/session/results) and is written in the transaction of what it tells; then a message on the WebSocket of the page that waits, in
 * whichever process that socket ends; then what the last page in the popup says to the page that opened it. Whoever loses the second
 * and third finds the first.
 */
import type { ConnectAccount, ConnectError, ErrorCode } from '@fairlead/contract'
import type { WebSocket } from 'ws'
import type { KeyedHash } from '../account/pepper.ts'
import type { Failure } from '../errors.ts'
import { type WebSockets, webSockets } from '../http/websocket.ts'
import type { Log } from '../lib/log.ts'
import { minutes } from '../lib/time.ts'
import type { AddressOf } from '../net/caller-address.ts'
import type { Db } from '../seams.ts'
import { browserOf, channelId } from './browser.ts'
import { addResult, type Result, resultsOf, setOpener } from './store.ts'

/** A sign-in, as its end is told. */
export interface Attempt {
  sessionId: number
  /** The `ws_client_id` it was begun with. */
  attempt: string | null
  integrationKey: string
  connectionId: string | null
}

export interface Success {
  operation: 'creation' | 'override'
  account: ConnectAccount | null
  isPending: boolean
  /** Asked for and not granted. */
  missingScopes: string[]
}

/** In the transaction that stores the connection: there is no moment at which one is there without the other. */
export const tellSuccess = (tx: Db, attempt: Attempt, success: Success): Promise<unknown> =>
  addResult(tx, { ...attempt, ...success, error: null })

export const tellFailure = (db: Db, attempt: Attempt, failure: Failure): Promise<unknown> =>
  addResult(db, {
    ...{ ...attempt, operation: null, account: null, isPending: false, missingScopes: [] },
    error: connectError(failure),
  })

/** The wire's `error_type` for our codes; whatever is not here is `unknown_err`. */
const errorTypes: Partial<Record<ErrorCode, string>> = {
  access_denied: 'callback_err',
  provider_error: 'callback_err',
  code_missing: 'callback_err',
  callback_malformed: 'callback_err',
  state_missing: 'state_err',
  state_unknown: 'state_err',
  sign_in_expired: 'state_err',
  browser_mismatch: 'state_cookie_err',
  token_exchange_refused: 'token_err',
  token_client_invalid: 'token_err',
  token_exchange_unanswered: 'token_err',
  token_endpoint_unreachable: 'token_err',
  token_response_unreadable: 'token_err',
  token_response_too_large: 'token_err',
  token_response_incomplete: 'token_err',
  token_type_unsupported: 'token_err',
  refresh_token_missing: 'token_err',
  refresh_token_superseded: 'token_err',
  host_not_allowed: 'token_err',
  account_mismatch: 'connection_validation_failed',
  unknown_provider_config: 'unknown_config_key',
  integration_not_allowed: 'provider_config_err',
  integration_credentials_missing: 'provider_config_err',
  connection_config_missing: 'url_param_err',
  connection_config_invalid: 'url_param_err',
  connection_config_automated: 'url_param_err',
  belongs_elsewhere: 'connection_validation_failed',
  token_response_forged: 'token_err',
  unknown_connect_session_token: 'account_or_environment_retrieval_err',
}

export function connectError(failure: Failure): ConnectError {
  const payload = (failure.payload ?? {}) as Pick<ConnectError, 'provider_said' | 'expected' | 'got'>
  const { provider_said: said, expected, got } = payload
  return {
    type: errorTypes[failure.code] ?? 'unknown_err',
    code: failure.code,
    description: said ? `${failure.message} The provider said: ${said}` : failure.message,
    ...(said && { provider_said: said }),
    ...(expected && got && { expected, got }),
    ...(failure.explained && { cause: failure.explained }),
  }
}

/** The last message on a socket. */
const messageOf = (result: Result): object =>
  result.error
    ? {
        message_type: 'error',
        provider_config_key: result.integrationKey,
        connection_id: result.connectionId ?? '',
        error_type: result.error.type,
        error_desc: result.error.description,
      }
    : {
        message_type: 'success',
        provider_config_key: result.integrationKey,
        connection_id: result.connectionId,
        is_pending: result.isPending,
      }

export interface Channel {
  sockets: WebSockets
  /** A sign-in begins under this id. The origin of the page that waits for it, when its socket is here. */
  begun(attempt: string): string | null
  /** Some process says that a sign-in began under this id. */
  asked(attempt: string): Promise<void>
  /** Some process says that it ended. */
  ended(attempt: string): Promise<void>
  /** What other processes said may have been missed. */
  missed(): Promise<void>
}

interface Waiting {
  socket: WebSocket
  /** RFC 6454: of the page, as its browser tells it. */
  origin: string | null
  isBegun: boolean
  isTold: boolean
}

/** Each is an idle TCP connection and a few KB. */
const maxSockets = 10_000
/** A page asks for an id and begins a sign-in with it at once; a socket that nothing came of is somebody else's. */
const idleMs = minutes(2)

interface Deps {
  db: Db
  keyedHash: KeyedHash
  addressOf: AddressOf
  log: Log
}

export function createChannel({ db, keyedHash, addressOf, log }: Deps): Channel {
  const waiting = new Map<string, Waiting>()
  const names = new WeakMap<WebSocket, string>()

  const tell = async (attempts: string[]) => {
    for (const result of await resultsOf(db, attempts)) {
      const page = waiting.get(result.attempt ?? '')
      if (!page || page.isTold) continue
      page.isTold = true
      page.socket.send(JSON.stringify(messageOf(result)))
    }
  }

  const sockets = webSockets({
    path: '/',
    max: maxSockets,
    heartbeat: JSON.stringify({ message_type: 'heartbeat' }),
    opened(socket, req) {
      const origin = isOrigin(req.headers.origin) ? req.headers.origin : null
      const id = channelId(keyedHash, { browser: browserOf(addressOf, req), origin })
      names.set(socket, id)
      waiting.set(id, { socket, origin, isBegun: false, isTold: false })
      socket.on('close', () => waiting.delete(id))
      socket.send(JSON.stringify({ message_type: 'connection_ack', ws_client_id: id }))
    },
    isNeeded(socket, ageMs) {
      const page = waiting.get(names.get(socket) ?? '')
      return page !== undefined && !page.isTold && (page.isBegun || ageMs < idleMs)
    },
  })

  return {
    sockets,

    begun(attempt) {
      const page = waiting.get(attempt)
      if (page) page.isBegun = true
      return page?.origin ?? null
    },

    async asked(attempt) {
      const page = waiting.get(attempt)
      if (!page) return
      page.isBegun = true
      if (page.origin) await setOpener(db, attempt, page.origin)
    },

    ended: attempt => (waiting.has(attempt) ? tell([attempt]) : Promise.resolve()),

    async missed() {
      const begun = [...waiting].filter(([, page]) => page.isBegun && !page.isTold).map(([attempt]) => attempt)
      if (begun.length === 0) return
      log.info({ sockets: begun.length }, 'looking for results that were not announced')
      await tell(begun)
    },
  }
}

const isOrigin = (text: string | undefined): text is string =>
  text !== undefined && /^https?:/.test(text) && URL.parse(text)?.origin === text

/** JSON inside a script element: `</script>` in a text, such as a parameter's name, must not end the element. */
const scriptJson = (value: unknown): string => JSON.stringify(value).replaceAll('<', '\\u003c')

export type PageMessage =
  | { type: 'nango_oauth_callback_success' }
  | { type: 'nango_oauth_callback_error'; payload: { message: string; errorType: string } }

/**
 * The script of the last page: says how it ended to the page that opened this window, by the origin its WebSocket came from and no other,
 * and to pages of our own origin. It closes when that page has heard, and after a success in any case.
 */
export function announce(message: PageMessage, opener: string | null, isAwaited: boolean): string {
  const closes = message.type === 'nango_oauth_callback_success'
  return `
history.replaceState(null,'',location.pathname);
const message=${scriptJson(message)},opened=${scriptJson(opener)};
if(opened)try{window.opener?.postMessage(message,opened)}catch{}
try{const channel=new BroadcastChannel('nango-oauth-callback');channel.postMessage(message);channel.close()}catch{}
addEventListener('message',({source,origin,data})=>{if(source&&source===window.opener&&(origin===opened||origin===location.origin)&&data?.type==='nango_oauth_callback_ack')window.close()});
document.querySelector('[data-close]')?.addEventListener('click',()=>window.close());
${closes ? `if(${isAwaited}||window.opener)setTimeout(()=>window.close(),500);` : ''}`
}
