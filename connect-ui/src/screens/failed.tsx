/** A failure in three lines and one button: what happened, why most likely, what to do now. */
import { type Failed, tell } from '../failure.ts'
import { Attention, Outward } from '../icons.tsx'
import { type Frame, Sheet } from '../parts.tsx'
import { useSay } from '../words.ts'

interface Props {
  frame: Frame
  name: string
  mark: { logo: string; name: string } | undefined
  failed: Failed
  onAgain: () => void
  onBack: (() => void) | undefined
}

export function FailedScreen({ frame, name, mark, failed, onAgain, onBack }: Props) {
  const say = useSay()
  const told = tell(failed)
  const { cause, provider_said: said, expected, got } = failed.error ?? {}
  const names = { name, description: failed.description, origin: failed.description }
  const button = told.button === 'back' && !onBack ? 'again' : told.button
  return (
    <Sheet
      {...frame}
      title={cause?.title ?? say(told.title, names)}
      mark={mark}
      onBack={onBack}
      seal={
        <div class="seal bad" aria-hidden="true">
          <Attention />
        </div>
      }
    >
      {cause && cause.explanations.length > 0 ? (
        <>
          <p>{say('likely')}</p>
          <ol class="causes">
            {cause.explanations.slice(0, 4).map(({ text, fix, link }) => (
              <li key={text}>
                <strong>{text}</strong>
                <span class="soft">
                  {fix}{' '}
                  {link && (
                    <a href={link} target="_blank" rel="noopener noreferrer">
                      {new URL(link).host} <Outward />
                    </a>
                  )}
                </span>
              </li>
            ))}
          </ol>
        </>
      ) : (
        <>
          <p>{say(told.why, names)}</p>
          <p>{say(told.what, names)}</p>
        </>
      )}
      {expected && got && <SideBySide expected={expected} got={got} />}
      {said && (
        <p class="said">
          {say('said', { name })} <q dir="auto">{said}</q>
        </p>
      )}
      {button === 'again' && (
        <button type="button" class="go" onClick={onAgain}>
          {say('tryAgain')}
        </button>
      )}
      {button === 'back' && (
        <button type="button" class="go" onClick={onBack}>
          {say('back')}
        </button>
      )}
      {button === 'reload' && (
        <button type="button" class="go" onClick={() => location.reload()}>
          {say('tryAgain')}
        </button>
      )}
      <p class="soft under">
        {say('code')} <code>{failed.code}</code>
      </p>
    </Sheet>
  )
}

function SideBySide({ expected, got }: { expected: Record<string, string>; got: Record<string, string> }) {
  const say = useSay()
  const labels = [...new Set([...Object.keys(expected), ...Object.keys(got)])]
  return (
    <div class="pair">
      {[
        { title: say('expected'), of: expected },
        { title: say('got'), of: got },
      ].map(({ title, of }) => (
        <section class="account" key={title}>
          <h2>{title}</h2>
          <dl>
            {labels.map(label => (
              <div key={label} class={expected[label] === got[label] ? '' : 'differs'}>
                <dt>{label}</dt>
                <dd>
                  <bdi class="mono">{of[label] ?? '–'}</bdi>
                </dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
    </div>
  )
}
