/** Choose: which of the integrations the session allows. Skipped when there is one. */
import type { IntegrationView } from '@fairlead/contract'
import { useRef, useState } from 'preact/hooks'
import { Onward, Search } from '../icons.tsx'
import { logoOf } from '../logo.ts'
import { type Frame, Sheet } from '../parts.tsx'
import { useSay } from '../words.ts'

interface Props {
  frame: Frame
  integrations: IntegrationView[]
  onChoose: (integration: IntegrationView) => void
}

const plain = (text: string): string => text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase()

export function Choose({ frame, integrations, onChoose }: Props) {
  const say = useSay()
  const [sought, setSought] = useState('')
  const list = useRef<HTMLUListElement>(null)
  const found = integrations.filter(({ display_name, provider }) =>
    plain(`${display_name} ${provider}`).includes(plain(sought.trim())),
  )

  /** Arrow keys walk from the search through the list; the tab key passes it as one. */
  const walk = (event: KeyboardEvent) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return
    const buttons = [...(list.current?.querySelectorAll('button') ?? [])]
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement)
    const next = buttons[at + (event.key === 'ArrowDown' ? 1 : -1)]
    if (!next) return
    event.preventDefault()
    next.focus()
  }

  if (integrations.length === 0)
    return (
      <Sheet {...frame} title={say('nothingToConnect')}>
        <p>{say('nothingToConnectWhy')}</p>
        <p>{say('nothingToConnectDo')}</p>
      </Sheet>
    )

  return (
    <Sheet {...frame} title={say('chooseTitle')}>
      <p>{say('chooseLead')}</p>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: arrow keys are a shortcut; every button is reached without them */}
      <div onKeyDown={walk}>
        {integrations.length > 5 && (
          <label class="search">
            <span class="unseen">{say('search')}</span>
            <Search />
            <input
              type="search"
              placeholder={say('search')}
              value={sought}
              autocomplete="off"
              spellcheck={false}
              onInput={event => setSought(event.currentTarget.value)}
              onKeyDown={event => {
                if (event.key === 'Enter' && found[0]) onChoose(found[0])
              }}
            />
          </label>
        )}
        <p class="unseen" role="status">
          {sought && say('resultsCount', { count: String(found.length) })}
        </p>
        <ul class="choices" ref={list}>
          {found.map(integration => (
            <li key={integration.unique_key}>
              <button type="button" class="choice" onClick={() => onChoose(integration)}>
                <img class="mark" src={logoOf(integration)} alt="" />
                <span>{integration.display_name}</span>
                <Onward />
              </button>
            </li>
          ))}
        </ul>
        {found.length === 0 && (
          <p class="empty">
            {say('nothingFound', { text: sought })}{' '}
            <button type="button" class="link" onClick={() => setSought('')}>
              {say('showAll')}
            </button>
          </p>
        )}
      </div>
    </Sheet>
  )
}
