/**
 * One sign-in at a provider, watched from here until its end is known. The end is learned from the server, never from the window: a
 * provider may cut its window off from this page (Cross-Origin-Opener-Policy), and then it looks closed while somebody types in it.
 */
import { type Api, Refused, type Result } from './api.ts'

export type Phase = 'opening' | 'waiting' | 'returned'

export interface Watched {
  phase: Phase
  /** The window looks closed. Only a hint. */
  closed: boolean
  /** Nothing has come back for a minute. */
  silent: boolean
}

export interface SignIn {
  id: string
  /** In a window or tab of its own, while this page waits for the end of it. */
  url: string
  /** With this tab: nobody waits here any more, so its last page stays. */
  hereUrl: string
  /** Brings the window to the front; opens it again when it is gone. */
  show(): void
  stop(): void
}

interface Options {
  api: Api
  socket: Socket
  integration: string
  token: string
  params: Record<string, string>
  credentials: Record<string, string>
  /** Where this tab goes in the end, when it has to go to the provider itself. */
  returnUrl: string | undefined
  /** Said again and again while it goes on. */
  onChange: (watched: Watched) => void
  onEnd: (result: Result) => void
  onLost: (refused: Refused) => void
}

const silentMs = 60_000
const pollMs = 1_000
/** With a socket that tells the end by itself, asking only serves the line that says how far it is. */
const calmPollMs = 2_500

/** 128 random bits as a UUID, also where `crypto.randomUUID` is missing because the page is not https. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

export interface Socket {
  /** Its id at the server, once that has greeted; each is given away once. */
  take(): string | undefined
  isAlive(): boolean
  onMessage: (() => void) | undefined
}

/**
 * The wire contract's channel (§10). It only makes the end known sooner: what blocks it delays nothing for more than a second. An id is one
 * sign-in's, or the next would find the end of this one; when it has told that end, another socket gets another id.
 */
export function openSocket(path: string): Socket {
  let id: string | undefined
  let web: WebSocket | undefined
  const socket: Socket = {
    take: () => {
      const taken = id
      id = undefined
      return taken
    },
    isAlive: () => web?.readyState === WebSocket.OPEN,
    onMessage: undefined,
  }
  const connect = () => {
    web?.close()
    const opened = new WebSocket(new URL(path, location.href.replace(/^http/, 'ws')))
    opened.onmessage = event => {
      const said = JSON.parse(String(event.data)) as { message_type?: string; ws_client_id?: string }
      if (said.message_type === 'connection_ack') id = said.ws_client_id
      if (said.message_type !== 'success' && said.message_type !== 'error') return
      socket.onMessage?.()
      connect()
    }
    web = opened
  }
  try {
    connect()
  } catch {
    // A policy or an extension forbids it. Asking does as well.
  }
  return socket
}

/** Begins. Called inside the click, because a browser opens a window only then. Undefined when it was blocked. */
export function beginSignIn(options: Options): { signIn: SignIn; blocked: boolean } {
  const { api, socket, integration, token, params, credentials, returnUrl } = options
  const id = socket.take() ?? newId()
  const query = new URLSearchParams({ connect_session_token: token })
  for (const [name, value] of Object.entries(params)) query.set(`params[${name}]`, value)
  for (const [name, value] of Object.entries(credentials)) query.set(`credentials[${name}]`, value)
  const start = `/oauth/connect/${encodeURIComponent(integration)}?${query}`
  const url = `${start}&ws_client_id=${id}`
  const hereUrl = returnUrl === undefined ? start : `${start}&return_url=${encodeURIComponent(returnUrl)}`
  const open = (): Window | null => {
    const width = 560
    const height = 720
    const left = Math.max(0, (window.screen.width - width) / 2)
    const top = Math.max(0, (window.screen.height - height) / 3)
    return window.open(url, `fairlead-${id}`, `popup,width=${width},height=${height},left=${left},top=${top}`)
  }
  let opened = open()
  const blocked = opened === null
  const began = performance.now()
  const watched: Watched = { phase: 'opening', closed: false, silent: false }
  let stopped = false
  let asking = false
  let timer: ReturnType<typeof setTimeout> | undefined

  const stop = () => {
    stopped = true
    clearTimeout(timer)
    socket.onMessage = undefined
  }

  async function ask(): Promise<void> {
    if (stopped || asking) return
    asking = true
    try {
      const { data, under_way = [] } = await api.results()
      if (stopped) return
      const result = data.find(one => one.attempt === id)
      if (result) {
        stop()
        // The page in the window closes itself when it may; this is for a browser that asks who opened it.
        opened?.close()
        return options.onEnd(result)
      }
      if (under_way.includes(id)) watched.phase = 'waiting'
      else if (watched.phase === 'waiting') watched.phase = 'returned'
    } catch (error) {
      // Away for a moment is no end; a session that has ended is.
      if (error instanceof Refused && error.code !== 'offline' && error.code !== 'server_error') {
        stop()
        return options.onLost(error)
      }
    } finally {
      asking = false
    }
    watched.closed = opened?.closed ?? false
    watched.silent = performance.now() - began > silentMs && watched.phase !== 'returned'
    options.onChange({ ...watched })
    clearTimeout(timer)
    timer = setTimeout(ask, socket.isAlive() && watched.phase !== 'returned' ? calmPollMs : pollMs)
  }
  socket.onMessage = () => void ask()
  timer = setTimeout(ask, pollMs)

  return {
    blocked,
    signIn: {
      id,
      url,
      hereUrl,
      stop,
      show: () => {
        if (opened && !opened.closed) opened.focus()
        else opened = open()
      },
    },
  }
}
