/** Done: which account it is, in words; then it closes by itself where a page may. */
import { useEffect } from 'preact/hooks'
import type { Result } from '../api.ts'
import { Attention, Check } from '../icons.tsx'
import { type Frame, Notice, Sheet } from '../parts.tsx'
import { useSay } from '../words.ts'

interface Props {
  frame: Frame
  name: string
  mark: { logo: string; name: string }
  result: Pick<Result, 'operation' | 'account' | 'is_pending'>
  /** Asked for and not granted, in plain words where the provider's data has them. */
  missing: { name: string; words: string | undefined }[]
  /** Undefined where this page cannot close itself. */
  onClose: (() => void) | undefined
  /** It does not close, it leads back to the product. */
  goesBack?: boolean
}

/** Long enough to read two lines. */
const closesAfterMs = 4_000

export function Done({ frame, name, mark, result, missing, onClose, goesBack = false }: Props) {
  const say = useSay()
  // What somebody has to read does not go away by itself.
  const stays = missing.length > 0
  useEffect(() => {
    if (!onClose || stays) return
    const timer = setTimeout(onClose, closesAfterMs)
    return () => clearTimeout(timer)
  }, [onClose, stays])
  const { account } = result
  return (
    <Sheet
      {...frame}
      title={say(result.operation === 'override' ? 'doneAgain' : 'doneTitle', { name })}
      mark={mark}
      seal={
        <div class="seal" aria-hidden="true">
          <Check />
        </div>
      }
    >
      <p>{say(result.is_pending ? 'donePending' : 'doneText', { name })}</p>
      {stays && (
        <Notice kind="degraded" icon={<Attention />}>
          <p>{say('doneLess', { name })}</p>
          <ul>
            {missing.map(scope => (
              <li key={scope.name}>
                <code>{scope.name}</code>
                {scope.words && `: ${scope.words}`}
              </li>
            ))}
          </ul>
          <p>{say('doneLessDo', { name })}</p>
        </Notice>
      )}
      {account && (
        <section class="account">
          <strong>
            <bdi>{account.label}</bdi>
          </strong>
          <dl>
            {account.details
              .filter(({ value }) => value !== account.label)
              .map(({ label, value }) => (
                <div key={label}>
                  <dt>{label}</dt>
                  <dd>
                    <bdi class="mono">{value}</bdi>
                  </dd>
                </div>
              ))}
          </dl>
        </section>
      )}
      {onClose && (
        <button type="button" class="go" onClick={onClose}>
          {say('finish')}
        </button>
      )}
      {!(stays && onClose) && (
        <p class="soft under">{say(goesBack ? 'doneGoingBack' : onClose ? 'doneClosing' : 'doneCloseYourself')}</p>
      )}
    </Sheet>
  )
}
