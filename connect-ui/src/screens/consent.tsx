/** Consent preview: who gets access, to what, for how long and how to end it; for a reconnect, which account is expected. */
import type { ConnectSessionView } from '@fairlead/contract'
import { Check, Clock, Exit, Lock, Outward } from '../icons.tsx'
import { type Frame, Sheet } from '../parts.tsx'
import { useSay } from '../words.ts'

interface Props {
  frame: Frame
  name: string
  mark: { logo: string; name: string }
  who: string | undefined
  /** In plain words where the provider's data has them, else as they are called. */
  scopes: { name: string; words: string | undefined }[]
  /** Where the sign-in will be, when it was chosen here. */
  at: string | undefined
  reconnect: ConnectSessionView['reconnect']
  onBack: (() => void) | undefined
  onChange: (() => void) | undefined
  onGo: () => void
}

export function Consent({ frame, name, mark, who, scopes, at, reconnect, onBack, onChange, onGo }: Props) {
  const say = useSay()
  const { product } = frame.brand
  const title = reconnect
    ? say('reconnectTitle', { name })
    : product
      ? say('consentTitle', { name })
      : say('consentTitleUnnamed', { name })
  const told = scopes.filter(scope => scope.words !== undefined)
  const untold = scopes.filter(scope => scope.words === undefined)
  return (
    <Sheet {...frame} title={title} mark={mark} onBack={onBack}>
      {reconnect && (
        <>
          <p>{say('reconnectLead')}</p>
          <section class="account" aria-label={say('reconnectAccount')}>
            <h2>{say('reconnectAccount')}</h2>
            <dl>
              {(reconnect.account?.details ?? []).map(({ label, value }) => (
                <div key={label}>
                  <dt>{label}</dt>
                  <dd>
                    <bdi class="mono">{value}</bdi>
                  </dd>
                </div>
              ))}
            </dl>
          </section>
        </>
      )}
      {who && <p>{say('consentAs', { who })}</p>}
      <h2>{say('consentWill')}</h2>
      <ul class="ticks">
        {told.map(scope => (
          <li key={scope.name}>
            <Check /> <span>{scope.words}</span>
          </li>
        ))}
        {told.length === 0 && (
          <li>
            <Check /> <span>{say('consentWillAct', { name })}</span>
          </li>
        )}
      </ul>
      {untold.length > 0 && (
        <p class="soft">
          {say('consentScopes', { name })}:{' '}
          {untold.map(scope => (
            <>
              <code key={scope.name}>{scope.name}</code>{' '}
            </>
          ))}
        </p>
      )}
      <dl class="terms">
        {/* Whoever signs in again has agreed to this before. */}
        {!reconnect && (
          <>
            <div>
              <dt>
                <Clock /> {say('consentLong')}
              </dt>
              <dd>{say('consentLongText')}</dd>
            </div>
            <div>
              <dt>
                <Exit /> {say('consentEnd')}
              </dt>
              <dd>{say('consentEndText', { name })}</dd>
            </div>
          </>
        )}
        {at && (
          <div>
            <dt>
              <Lock /> {say('consentAt')}
            </dt>
            <dd>
              <bdi class="mono">{at}</bdi>{' '}
              {onChange && (
                <button type="button" class="link" onClick={onChange}>
                  {say('change')}
                </button>
              )}
            </dd>
          </div>
        )}
      </dl>
      <button type="button" class="go" onClick={onGo}>
        {say('consentGo', { name })} <Outward />
      </button>
      <p class="soft under">{say('consentPassword', { name })}</p>
    </Sheet>
  )
}
