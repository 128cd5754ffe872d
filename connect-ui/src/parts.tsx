/** What every screen is made of. */
import { type Language, languages } from '@fairlead/contract/languages'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { Back, Cross, Joint } from './icons.tsx'
import { isLanguage, useSay } from './words.ts'

export interface Brand {
  product: string | undefined
  logo: string | undefined
}

export interface Frame {
  brand: Brand
  language: Language
  onLanguage: (language: Language) => void
  onClose: (() => void) | undefined
}

interface SheetProps extends Frame {
  /** The one heading of a screen; it gets the focus, so that a screen reader begins there. */
  title: string
  onBack?: (() => void) | undefined
  /** The mark of the provider, once there is one. */
  mark?: { logo: string; name: string } | undefined
  /** A sign above the heading: how it ended. */
  seal?: ComponentChildren
  children: ComponentChildren
}

export function Sheet({ title, onBack, mark, brand, language, onLanguage, onClose, seal, children }: SheetProps) {
  const say = useSay()
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = title
    heading.current?.focus({ preventScroll: true })
  }, [title])
  return (
    <main class="sheet">
      <header class="top">
        {onBack ? (
          <button type="button" class="icon" aria-label={say('back')} title={say('back')} onClick={onBack}>
            <Back />
          </button>
        ) : (
          <span />
        )}
        <Marks brand={brand} mark={mark} />
        {onClose ? (
          <button type="button" class="icon" aria-label={say('close')} title={say('close')} onClick={onClose}>
            <Cross />
          </button>
        ) : (
          <span />
        )}
      </header>
      <div class={seal ? 'content ended' : 'content'}>
        {seal}
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        {children}
      </div>
      <footer>
        <label>
          <span class="unseen">{say('language')}</span>
          <select
            value={language}
            onChange={event => isLanguage(event.currentTarget.value) && onLanguage(event.currentTarget.value)}
          >
            {Object.entries(languages).map(([code, name]) => (
              <option key={code} value={code} lang={code}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </footer>
    </main>
  )
}

/** Who asks and whom: the product's mark, joined to the provider's. */
function Marks({ brand, mark }: { brand: Brand; mark: SheetProps['mark'] }) {
  const own = brand.logo ? (
    <img class="mark" src={brand.logo} alt={brand.product ?? ''} />
  ) : brand.product ? (
    <span class="mark letter" aria-hidden="true">
      {[...brand.product][0]?.toUpperCase()}
    </span>
  ) : undefined
  if (!own && !mark) return <span />
  return (
    <div class="marks">
      {own}
      {own && mark && <Joint />}
      {mark && <img class="mark" src={mark.logo} alt="" />}
    </div>
  )
}

/** A line that is read out when it appears or changes. */
export const Notice = ({
  kind,
  icon,
  children,
}: {
  kind: string
  icon?: ComponentChildren
  children: ComponentChildren
}) => (
  <div class={`notice ${kind}`} role={kind === 'attention' ? 'alert' : 'status'}>
    {icon}
    <div>{children}</div>
  </div>
)
