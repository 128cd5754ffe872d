/** What is seen behind the window of a sign-in: how far it is, and after a minute of nothing, what it usually is. */
import { Attention, Check, Outward, Windows } from '../icons.tsx'
import { type Frame, Notice, Sheet } from '../parts.tsx'
import type { SignIn, Watched } from '../sign-in.ts'
import type { Key } from '../words/en.ts'
import { useSay } from '../words.ts'

interface Props {
  frame: Frame
  name: string
  mark: { logo: string; name: string }
  signIn: SignIn
  watched: Watched
  /** A window was not allowed, and there is no leaving this page for the provider's: it stands in somebody's frame. */
  isBlocked: boolean
  callback: string
  onAgain: () => void
  onCancel: () => void
  /** Leaves for the provider with the whole tab; not from within a frame. */
  onHere: (() => void) | undefined
}

export function SigningIn(props: Props) {
  const { watched, isBlocked } = props
  if (watched.silent) return <Silence {...props} />
  if (isBlocked && watched.phase === 'opening') return <Blocked {...props} />
  return <Waiting {...props} />
}

function Waiting({ frame, name, mark, signIn, watched, isBlocked, onCancel, onHere }: Props) {
  const say = useSay()
  const steps: Key[] = ['signWaiting', 'signReturned', 'signVerifying', 'signDone']
  const at = watched.phase === 'returned' ? 2 : 0
  return (
    <Sheet {...frame} title={say('signTitle', { name })} mark={mark} onBack={onCancel}>
      <p>{say(isBlocked ? 'signLeadTab' : 'signLead')}</p>
      <ol class="steps">
        {steps.map((step, index) => (
          <li
            key={step}
            class={index < at ? 'past' : index === at ? 'now' : 'ahead'}
            aria-current={index === at ? 'step' : undefined}
          >
            <span class="dot">{index < at && <Check />}</span>
            {say(step, { name })}
          </li>
        ))}
      </ol>
      <p class="unseen" role="status">
        {say(steps[at]!, { name })}
      </p>
      {watched.closed && watched.phase !== 'returned' && (
        <Notice kind="degraded" icon={<Attention />}>
          <p>{say('signClosed')}</p>
          <button type="button" class="link" onClick={signIn.show}>
            {say('signReopen')}
          </button>
        </Notice>
      )}
      {watched.phase !== 'returned' && (
        <div class="actions">
          {!watched.closed && !isBlocked && (
            <button type="button" class="quiet" onClick={signIn.show}>
              <Windows /> {say('signFront')}
            </button>
          )}
          {onHere && (
            <button type="button" class="link" onClick={onHere}>
              {say('signHere')}
            </button>
          )}
          <button type="button" class="link" onClick={onCancel}>
            {say('signCancel')}
          </button>
        </div>
      )}
    </Sheet>
  )
}

function Blocked({ frame, name, mark, signIn, onCancel }: Props) {
  const say = useSay()
  return (
    <Sheet {...frame} title={say('blockedTitle')} mark={mark} onBack={onCancel}>
      <p>{say('blockedWhy')}</p>
      <p>{say('blockedDo', { name })}</p>
      {/* A link that is clicked is never blocked; the tab it opens knows nothing of this one. */}
      <a class="go" href={signIn.url} target="_blank" rel="noopener noreferrer">
        {say('blockedGo', { name })} <Outward />
      </a>
    </Sheet>
  )
}

function Silence({ frame, name, mark, callback, signIn, onAgain, onCancel }: Props) {
  const say = useSay()
  const causes: [Key, Key][] = [
    ['silenceWindow', 'silenceWindowFix'],
    ['silenceKind', 'silenceKindFix'],
    ['silenceApproval', 'silenceApprovalFix'],
    ['silenceRedirect', 'silenceRedirectFix'],
  ]
  return (
    <Sheet {...frame} title={say('silenceTitle', { name })} mark={mark} onBack={onCancel}>
      <p>{say('silenceLead')}</p>
      <ol class="causes">
        {causes.map(([cause, fix], index) => (
          <li key={cause}>
            <strong>{say(cause, { name })}</strong>
            <span class="soft">
              {say(fix, { name, callback })}{' '}
              {index === 0 && (
                <button type="button" class="link" onClick={signIn.show}>
                  {say('signFront')}
                </button>
              )}
            </span>
          </li>
        ))}
      </ol>
      <button type="button" class="go" onClick={onAgain}>
        {say('tryAgain')}
      </button>
      <p class="soft under" role="status">
        {say('silenceStill')}
      </p>
    </Sheet>
  )
}
