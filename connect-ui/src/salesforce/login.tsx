/**
 * Prepare, for Salesforce: not an empty field for a host name but the question people can answer, *where do you log in?* What they paste is
 * understood while they type. Provider data asks for it with `widget: salesforce_production` or `salesforce_sandbox`.
 */
import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { loginOf, type ReadHost, readHost, type SalesforceHost } from '../../../salesforce/hosts.ts'
import { Attention, Building, Check, Flask, Paste } from '../icons.tsx'
import { type Frame, Notice, Sheet } from '../parts.tsx'
import type { Key } from '../words/en.ts'
import { type Say, useSay } from '../words.ts'

export type Login = 'production' | 'sandbox'

export const loginAsked = (widget: string | undefined): Login | undefined =>
  widget === 'salesforce_production' ? 'production' : widget === 'salesforce_sandbox' ? 'sandbox' : undefined

interface Props {
  frame: Frame
  mark: { logo: string; name: string }
  /** What this integration connects. */
  login: Login
  /** The integration for the other kind, where the session allows one. */
  other: { name: string; go: () => void } | undefined
  /** Also the names the simulator is reached at. */
  localhost: boolean
  /** What was chosen before, when somebody comes back to change it. */
  pasted: string
  onBack: (() => void) | undefined
  /** No host: the log-in of the kind. */
  onGo: (answer: { host: string | undefined; pasted: string }) => void
}

type Choice = Login | 'paste'

const titles: Record<SalesforceHost['kind'], Key> = {
  production: 'sfIsProduction',
  sandbox: 'sfIsSandbox',
  developer: 'sfIsDeveloper',
  scratch: 'sfIsScratch',
  playground: 'sfIsPlayground',
  other: 'sfIsOther',
}

function titleOf(say: Say, { kind, generic, sandbox, myDomain = '' }: SalesforceHost): string {
  if (generic) return say(kind === 'sandbox' ? 'sfIsGenericSandbox' : 'sfIsGenericProduction')
  if (kind === 'sandbox' && sandbox === undefined) return say('sfIsSandboxUnnamed', { org: myDomain })
  return say(titles[kind], { org: myDomain, sandbox: sandbox ?? '' })
}

const faults: Record<Extract<ReadHost, { ok: false }>['why'], Key> = {
  empty: 'sfAddressHelp',
  malformed: 'sfFaultMalformed',
  user: 'sfFaultUser',
  instance: 'sfFaultInstance',
  site: 'sfFaultSite',
  foreign: 'sfFaultForeign',
}

export function SalesforceLogin({ frame, mark, login, other, localhost, pasted, onBack, onGo }: Props) {
  const say = useSay()
  const [choice, setChoice] = useState<Choice>(pasted ? 'paste' : login)
  const [text, setText] = useState(pasted)
  const [isTold, setTold] = useState(false)
  const read = readHost(text, { localhost })
  const isPaste = choice === 'paste'
  const chosen = isPaste ? (read.ok ? loginOf(read.host.kind) : undefined) : choice
  const isOther = chosen !== undefined && chosen !== login

  const go = (event: Event) => {
    event.preventDefault()
    if (isOther) return
    if (!isPaste) return onGo({ host: undefined, pasted: '' })
    if (!read.ok) {
      setTold(true)
      return document.getElementById('sf-address')?.focus()
    }
    onGo({ host: read.host.generic ? undefined : read.host.host, pasted: text })
  }

  const option = (value: Choice, icon: ComponentChildren, title: Key, hint: Key) => (
    <label class={choice === value ? 'option chosen' : 'option'}>
      <input
        type="radio"
        name="login"
        value={value}
        checked={choice === value}
        onChange={() => setChoice(value)}
        aria-describedby={`sf-${value}`}
      />
      {icon}
      <span>
        <strong>{say(title)}</strong>
        <span class="soft" id={`sf-${value}`}>
          {say(hint)}
        </span>
      </span>
    </label>
  )

  return (
    <Sheet {...frame} title={say('sfTitle')} mark={mark} onBack={onBack}>
      <form onSubmit={go} noValidate autocomplete="off">
        <fieldset class="options">
          <legend class="unseen">{say('sfTitle')}</legend>
          {option('production', <Building />, 'sfProduction', 'sfProductionHint')}
          {option('sandbox', <Flask />, 'sfSandbox', 'sfSandboxHint')}
          {option('paste', <Paste />, 'sfPaste', 'sfPasteHint')}
        </fieldset>
        {isPaste && (
          <div class={isTold && !read.ok ? 'field wrong' : 'field'}>
            <div class="label">
              <label for="sf-address">{say('sfAddress')}</label>
            </div>
            <div class="input">
              <input
                id="sf-address"
                type="text"
                inputMode="url"
                dir="ltr"
                autocomplete="off"
                autocapitalize="none"
                spellcheck={false}
                placeholder="acme--uat.sandbox.my.salesforce.com"
                value={text}
                aria-describedby="sf-read"
                aria-invalid={text !== '' && !read.ok}
                onInput={event => setText(event.currentTarget.value)}
              />
            </div>
            <div id="sf-read" role="status">
              <Reading read={read} text={text} isTold={isTold} />
            </div>
          </div>
        )}
        {isOther && (
          <Notice kind="degraded" icon={<Attention />}>
            <p>
              {isPaste && read.ok && ['developer', 'playground'].includes(read.host.kind) && `${say('sfDeveloper')} `}
              {say(login === 'sandbox' ? 'sfOnlySandbox' : 'sfOnlyProduction')}
            </p>
            {other ? (
              <button type="button" class="link" onClick={other.go}>
                {say('sfSwitch', { name: other.name })}
              </button>
            ) : (
              <p>{say('sfNoOther')}</p>
            )}
          </Notice>
        )}
        <button type="submit" class="go" aria-disabled={isOther}>
          {say('continue')}
        </button>
      </form>
    </Sheet>
  )
}

/** What the pasted text was understood as, or what is wrong with it. */
function Reading({ read, text, isTold }: { read: ReadHost; text: string; isTold: boolean }) {
  const say = useSay()
  if (text.trim() === '' && !isTold) return <p class="soft example">{say('sfAddressHelp')}</p>
  if (!read.ok)
    return (
      <p class="fault">
        <Attention /> {say(faults[read.why])}
      </p>
    )
  const { host } = read.host
  const isConverted = !text.toLowerCase().includes(host)
  return (
    <div class="reading">
      <Check />
      <div>
        <strong>{titleOf(say, read.host)}</strong>
        <bdi class="mono">{host}</bdi>
        {isConverted && <span class="soft">{say('sfConverted')}</span>}
        {['developer', 'playground'].includes(read.host.kind) && <span class="soft">{say('sfDeveloper')}</span>}
      </div>
    </div>
  )
}
