/**
 * Connect UI, screen by screen: choose → prepare → consent → sign in → done, or a failure that says what to do. One state says where
 * somebody is; every screen is a function of it.
 */

import type { ConnectSessionView, IntegrationView } from '@fairlead/contract'
import type { Language } from '@fairlead/contract/languages'
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { type Api, apiFor, type Provider, Refused, type Result } from './api.ts'
import { applyBrand, applyTheme, isTheme } from './brand.ts'
import type { Failed } from './failure.ts'
import { type Asked, fieldsOf, given, headlessRequest, signsInThere, type Values } from './form.ts'
import { logoOf } from './logo.ts'
import { type Frame, Sheet } from './parts.tsx'
import { loginAsked, SalesforceLogin } from './salesforce/login.tsx'
import { Choose } from './screens/choose.tsx'
import { Consent } from './screens/consent.tsx'
import { Done } from './screens/done.tsx'
import { FailedScreen } from './screens/failed.tsx'
import { Prepare } from './screens/prepare.tsx'
import { SigningIn } from './screens/signing-in.tsx'
import { isFramed, type Message, mayFrame, openSession, returnUrlOf, tellerTo } from './session.ts'
import { beginSignIn, openSocket, type SignIn, type Socket, type Watched } from './sign-in.ts'
import type { Words } from './words/en.ts'
import { directionOf, loadWords, Speaking, sayIn } from './words.ts'

type View =
  | { at: 'loading' }
  | { at: 'choose' }
  | { at: 'prepare' }
  | { at: 'consent' }
  | { at: 'signing'; signIn: SignIn; watched: Watched; isBlocked: boolean }
  | { at: 'done'; result: Pick<Result, 'operation' | 'account' | 'is_pending' | 'missing_scopes'> }
  | { at: 'failed'; failed: Failed }

/** What is known once the session was opened. */
interface Visit {
  token: string
  api: Api
  socket: Socket
  session: ConnectSessionView
  integrations: IntegrationView[]
  tell: (message: Message) => void
  /** Where this tab goes when all is done. */
  returnUrl: string | undefined
}

/** What somebody is connecting. */
interface Target {
  integration: IntegrationView
  provider: Provider
  fields: Asked[]
  /** The integration for the other kind of log-in, where the question is which. */
  other: IntegrationView | undefined
}

const failedBy = (error: unknown): Failed =>
  error instanceof Refused
    ? { code: error.code, description: error.message }
    : { code: 'server_error', description: String(error) }

export function App(first: { language: Language; words: Words }) {
  const [{ language, words }, setSpoken] = useState(first)
  const [view, setView] = useState<View>({ at: 'loading' })
  const [visit, setVisit] = useState<Visit>()
  const [target, setTarget] = useState<Target>()
  const [values, setValues] = useState<Values>({})
  /** The address as it was pasted, so that whoever comes back finds it again. */
  const [pasted, setPasted] = useState('')
  const [isBusy, setBusy] = useState(false)

  const settings = visit?.session.connectUISettings
  const product = settings?.productName ?? undefined
  const say = useMemo(() => sayIn(words, product ?? words.yourProduct), [words, product])

  useEffect(() => {
    document.documentElement.lang = language
    document.documentElement.dir = directionOf(language)
  }, [language])

  const speak = useCallback(async (wanted: Language) => {
    const loaded = await loadWords(wanted)
    setSpoken({ language: wanted, words: loaded })
  }, [])

  const fail = useCallback((failed: Failed) => setView({ at: 'failed', failed }), [])

  const close = useCallback(() => {
    if (isFramed()) visit?.tell({ type: 'close' })
    else if (visit?.returnUrl) location.assign(visit.returnUrl)
    else window.close()
  }, [visit])
  const canClose = isFramed() || Boolean(window.opener) || visit?.returnUrl !== undefined

  async function choose(at: Visit, integration: IntegrationView): Promise<void> {
    try {
      const provider = await at.api.provider(integration.provider)
      const { reconnect, integrations_config_defaults: defaults } = at.session
      const preset = Object.entries(defaults?.[integration.unique_key]?.connection_config ?? {})
      const answered = new Set([...preset.map(([name]) => name), ...(reconnect?.known ?? [])])
      const leftOpen = preset.filter(([, value]) => value === '').map(([name]) => name)
      // Signing in again asks for nothing that can be left out: what was said the first time still holds.
      const fields = fieldsOf(provider, answered, leftOpen).filter(
        field => !reconnect || !field.optional || field.of !== 'params',
      )
      setTarget({ integration, provider, fields, other: await otherLogin(at, provider) })
      setValues({})
      setPasted('')
      setView({ at: fields.length > 0 || !signsInThere(provider) ? 'prepare' : 'consent' })
    } catch (error) {
      fail(failedBy(error))
    }
  }

  async function open(): Promise<void> {
    const opening = await openSession()
    if (opening.kind === 'none') return fail({ code: 'no_session', description: '' })
    const { token, parent } = opening.opened
    const api = apiFor(token, language)
    try {
      const session = await api.session()
      const tell = tellerTo(parent, session.allowed_origins)
      if (!isTheme(new URL(location.href).searchParams.get('theme'))) applyTheme(session.connectUISettings.defaultTheme)
      applyBrand(session.connectUISettings)
      if (!mayFrame(parent, session.allowed_origins))
        return fail({ code: 'frame_not_allowed', description: parent ?? '' })
      const back = returnUrlOf(session.return_urls)
      if (back.isRefused) return fail({ code: 'return_url_not_allowed', description: '' })
      const integrations = await api.integrations()
      const socket = openSocket(session.websocketsPath)
      const opened = { token, api, socket, session, integrations, tell, returnUrl: back.url }
      setVisit(opened)
      const [only, ...others] = integrations
      if (only && others.length === 0) await choose(opened, only)
      else setView({ at: 'choose' })
    } catch (error) {
      fail(failedBy(error))
    }
  }

  const isOpening = useRef(false)
  useEffect(() => {
    if (isOpening.current) return
    isOpening.current = true
    void open()
  })

  // In a frame this page lies over another one: Escape and a click beside the sheet leave it.
  useEffect(() => {
    if (!isFramed()) return
    const onKey = (event: KeyboardEvent) => event.key === 'Escape' && close()
    const onClick = (event: MouseEvent) => event.target === document.getElementById('root') && close()
    window.addEventListener('keydown', onKey)
    window.addEventListener('click', onClick)
    return () => {
      window.removeEventListener('keydown', onKey)
      window.removeEventListener('click', onClick)
    }
  }, [close])

  const frame: Frame = {
    brand: { product, logo: settings?.logo ?? undefined },
    language,
    onLanguage: speak,
    onClose: isFramed() ? close : undefined,
  }

  return <Speaking.Provider value={say}>{screen()}</Speaking.Provider>

  function screen() {
    if (view.at === 'loading')
      return (
        <Sheet {...frame} title={say('loading')}>
          <div class="skeleton" aria-hidden="true">
            <span />
            <span />
            <span />
          </div>
        </Sheet>
      )
    if (!visit || !target) {
      if (view.at === 'failed')
        return (
          <FailedScreen
            frame={frame}
            name={say('loading')}
            mark={undefined}
            failed={view.failed}
            onAgain={() => location.reload()}
            onBack={undefined}
          />
        )
      return (
        <Choose frame={frame} integrations={visit?.integrations ?? []} onChoose={one => visit && choose(visit, one)} />
      )
    }
    return signInScreen(visit, target, view)
  }

  function signInScreen(visit: Visit, target: Target, view: View) {
    const { integration, provider, fields, other } = target
    const { session, integrations, token } = visit
    const name = integration.display_name
    const mark = { logo: logoOf(integration), name }
    const shown = { frame, name, mark }
    const isThere = signsInThere(provider)
    const toChoice = integrations.length > 1 ? () => setView({ at: 'choose' }) : undefined
    const toForm = fields.length > 0 ? () => setView({ at: 'prepare' }) : undefined
    const docs = docsOf(session, target)

    const begin = () => {
      const { signIn, blocked } = beginSignIn({
        api: visit.api,
        socket: visit.socket,
        integration: integration.unique_key,
        token,
        ...given(fields, values),
        returnUrl: visit.returnUrl,
        onChange: watched => setView(now => (now.at === 'signing' ? { ...now, watched } : now)),
        onEnd: result => end(visit, integration, result),
        onLost: refused => fail(failedBy(refused)),
      })
      const watched: Watched = { phase: 'opening', closed: false, silent: false }
      setView({ at: 'signing', signIn, watched, isBlocked: blocked })
      // No window is allowed, so the whole tab goes; the last page of the sign-in then says how it ended.
      if (blocked && !isFramed()) location.assign(signIn.hereUrl)
    }

    const submit = async () => {
      setBusy(true)
      try {
        const { path, body } = headlessRequest(provider, integration.unique_key, token, given(fields, values))
        const { connectionId, missing_scopes = [] } = await visit.api.post(path, body)
        const operation = session.isReconnecting ? 'override' : 'creation'
        end(visit, integration, {
          attempt: null,
          connection_id: connectionId,
          success: true,
          is_pending: false,
          operation,
          account: null,
          missing_scopes,
          error: null,
        })
      } catch (error) {
        const failed = failedBy(error)
        visit.tell({ type: 'error', payload: { errorType: failed.code, errorMessage: failed.description } })
        fail(failed)
      } finally {
        setBusy(false)
        // What opens an account is in this page no longer than it takes to send it.
        setValues(now => Object.fromEntries(Object.entries(now).filter(([id]) => !id.startsWith('credentials.'))))
      }
    }

    switch (view.at) {
      case 'choose':
        return <Choose frame={frame} integrations={integrations} onChoose={one => choose(visit, one)} />
      case 'prepare': {
        const asked = fields.find(field => loginAsked(field.widget))
        const login = loginAsked(asked?.widget)
        if (asked && login && fields.length === 1)
          return (
            <SalesforceLogin
              frame={frame}
              mark={mark}
              login={login}
              other={other && { name: other.display_name, go: () => void choose(visit, other) }}
              localhost={[provider.allowed_hosts].flat().some(host => String(host).endsWith('.localhost'))}
              pasted={pasted}
              onBack={toChoice}
              onGo={answer => {
                setPasted(answer.pasted)
                setValues({ [`params.${asked.name}`]: answer.host ?? '' })
                setView({ at: 'consent' })
              }}
            />
          )
        return (
          <Prepare
            {...shown}
            fields={fields}
            values={values}
            onValues={setValues}
            docs={docs}
            isAll={!isThere}
            isBusy={isBusy}
            onBack={toChoice}
            onGo={() => (isThere ? setView({ at: 'consent' }) : void submit())}
          />
        )
      }
      case 'consent':
        return (
          <Consent
            {...shown}
            who={session.endUser?.display_name ?? session.endUser?.email ?? undefined}
            scopes={scopesOf(session, target, language)}
            at={signInHost(provider, given(fields, values).params)}
            reconnect={session.reconnect}
            onBack={toForm ?? toChoice}
            onChange={toForm}
            onGo={begin}
          />
        )
      case 'signing': {
        const { signIn, watched, isBlocked } = view
        const leave = () => {
          signIn.stop()
          setView({ at: 'consent' })
        }
        return (
          <SigningIn
            {...shown}
            signIn={signIn}
            watched={watched}
            isBlocked={isBlocked}
            callback={session.callback_url}
            onCancel={leave}
            onAgain={() => {
              signIn.stop()
              begin()
            }}
            onHere={isFramed() ? undefined : () => location.assign(signIn.hereUrl)}
          />
        )
      }
      case 'done':
        return (
          <Done
            {...shown}
            result={view.result}
            missing={view.result.missing_scopes.map(scope => inWords(provider, scope, language))}
            onClose={canClose ? close : undefined}
            goesBack={visit.returnUrl !== undefined}
          />
        )
      case 'failed':
        return (
          <FailedScreen
            {...shown}
            failed={view.failed}
            onAgain={() => setView({ at: isThere ? 'consent' : 'prepare' })}
            onBack={toForm ?? toChoice}
          />
        )
    }
  }

  function end(visit: Visit, integration: IntegrationView, result: Result): void {
    const { error, connection_id: connectionId } = result
    if (error) {
      visit.tell({ type: 'error', payload: { errorType: error.type, errorMessage: error.description } })
      fail({ code: error.code, description: error.description, error })
      return
    }
    if (connectionId)
      visit.tell({
        type: 'connect',
        payload: { providerConfigKey: integration.unique_key, connectionId, isPending: result.is_pending },
      })
    setView({ at: 'done', result })
  }
}

/** Where help is: the session's own page before the provider data's. Only https, because it is a link somebody clicks. */
function docsOf({ overrides }: ConnectSessionView, { integration, provider }: Target): string | undefined {
  const docs = overrides?.[integration.unique_key]?.docs_connect ?? provider.docs_connect
  return docs?.startsWith('https://') ? docs : undefined
}

function scopesOf({ scopes }: ConnectSessionView, { integration, provider }: Target, language: Language) {
  return (scopes[integration.unique_key] ?? []).map(scope => inWords(provider, scope, language))
}

function inWords(provider: Provider, scope: string, language: Language) {
  const described = provider.scope_descriptions?.[scope]
  return { name: scope, words: typeof described === 'object' ? (described[language] ?? described.en) : described }
}

/** The host of the page somebody will sign in at: the first spelling of it in provider data that can be filled in. */
function signInHost({ authorization_url: template }: Provider, params: Values): string | undefined {
  if (typeof template !== 'string') return undefined
  for (const spelling of template.split(' || ')) {
    const filled = spelling.replace(/\$\{connectionConfig\.(\w+)\}/g, (all, name: string) => params[name] || all)
    if (!filled.includes('${')) return URL.parse(filled)?.host
  }
  return undefined
}

const loginOfProvider = ({ connection_config = {} }: Provider) =>
  Object.values(connection_config)
    .map(field => loginAsked(field.widget))
    .find(Boolean)

/** By what its provider asks for, never by its name. Only looked for where a question of this kind is asked. */
async function otherLogin({ api, integrations }: Visit, provider: Provider): Promise<IntegrationView | undefined> {
  const login = loginOfProvider(provider)
  if (!login) return undefined
  for (const integration of integrations.filter(one => one.provider !== provider.name)) {
    const found = loginOfProvider(await api.provider(integration.provider))
    if (found && found !== login) return integration
  }
  return undefined
}
