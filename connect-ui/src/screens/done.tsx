/** Done: which account it is, in words; then it closes by itself where a page may. */
import { useEffect } from 'preact/hooks'
import type { Result } from '../api.ts'
import { Check } from '../icons.tsx'
import { type Frame, Sheet } from '../parts.tsx'
import { useSay } from '../words.ts'

interface Props {
  frame: Frame
  name: string
  mark: { logo: string; name: string }
  result: Pick<Result, 'operation' | 'account' | 'is_pending'>
  /** Undefined where this page cannot close itself. */
  onClose: (() => void) | undefined
  /** It does not close, it leads back to the product. */
  goesBack?: boolean
}

/** Long enough to read two lines. */
const closesAfterMs = 4_000

export function Done({ frame, name, mark, result, onClose, goesBack = false }: Props) {
  const say = useSay()
  useEffect(() => {
    if (!onClose) return
    const timer = setTimeout(onClose, closesAfterMs)
    return () => clearTimeout(timer)
  }, [onClose])
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
      <p class="soft under">{say(goesBack ? 'doneGoingBack' : onClose ? 'doneClosing' : 'doneCloseYourself')}</p>
    </Sheet>
  )
}
