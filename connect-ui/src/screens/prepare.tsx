/** Prepare: what has to be known before the sign-in, or instead of one. The form is made of provider data. */
import { useState } from 'preact/hooks'
import { type Asked, faultOf, idOf, isVisible, type Values, withoutAffixes } from '../form.ts'
import { Attention, Eye, Lock, Outward } from '../icons.tsx'
import { type Frame, Notice, Sheet } from '../parts.tsx'
import { useSay } from '../words.ts'

interface Props {
  frame: Frame
  name: string
  mark: { logo: string; name: string }
  fields: Asked[]
  values: Values
  onValues: (values: Values) => void
  /** Where the provider explains what is asked. */
  docs: string | undefined
  /** The form is the whole sign-in: nothing follows at the provider. */
  isAll: boolean
  isBusy: boolean
  onBack: (() => void) | undefined
  onGo: () => void
}

export function Prepare(props: Props) {
  const { frame, name, mark, fields, values, onValues, docs, isAll, isBusy, onBack, onGo } = props
  const say = useSay()
  /** A fault is shown once its field was left, and from then on while one types. */
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set())
  const shown = fields.filter(field => isVisible(field, fields, values))
  const titleOf = (field: Asked) => field.title ?? (field.titleKey ? say(field.titleKey) : field.name)
  const faults = shown.flatMap(field => {
    const fault = faultOf(field, values[idOf(field)] ?? '')
    return fault ? [{ id: idOf(field), text: say(fault, { field: titleOf(field) }) }] : []
  })

  const go = (event: Event) => {
    event.preventDefault()
    if (faults.length === 0) return onGo()
    setLeft(new Set(shown.map(idOf)))
    document.getElementById(faults[0]!.id)?.focus()
  }

  return (
    <Sheet {...frame} title={say('prepareTitle', { name })} mark={mark} onBack={onBack}>
      <p>{say(isAll ? 'prepareSecretLead' : 'prepareLead')}</p>
      <form onSubmit={go} noValidate autocomplete="off">
        {shown.map(field => {
          const id = idOf(field)
          return (
            <FieldRow
              key={id}
              field={field}
              title={titleOf(field)}
              value={values[id] ?? field.default_value ?? ''}
              fault={left.has(id) ? faults.find(fault => fault.id === id)?.text : undefined}
              docs={docs}
              onLeave={() => setLeft(new Set([...left, id]))}
              onInput={value => onValues({ ...values, [id]: value })}
            />
          )
        })}
        {isAll && isBusy && (
          <Notice kind="quiet" icon={<Lock />}>
            {say('connecting', { name })}
          </Notice>
        )}
        <button type="submit" class="go" disabled={isBusy}>
          {isAll ? say('connect', { name }) : say('continue')}
        </button>
        {docs && (
          <a class="aside" href={docs} target="_blank" rel="noopener noreferrer">
            {say('help')} <Outward />
          </a>
        )}
      </form>
    </Sheet>
  )
}

interface RowProps {
  field: Asked
  title: string
  value: string
  fault: string | undefined
  docs: string | undefined
  onLeave: () => void
  onInput: (value: string) => void
}

function FieldRow({ field, title, value, fault, docs, onLeave, onInput }: RowProps) {
  const say = useSay()
  const [isShown, setShown] = useState(false)
  const id = idOf(field)
  const described = [field.description && `${id}-about`, field.example && `${id}-example`, fault && `${id}-fault`]
  const shared = {
    id,
    value,
    required: !field.optional,
    'aria-invalid': fault !== undefined,
    'aria-describedby': described.filter(Boolean).join(' ') || undefined,
    onBlur: () => {
      if (!field.enum && value !== '') onInput(withoutAffixes(field, value))
      if (value !== '') onLeave()
    },
  }
  return (
    <div class={fault ? 'field wrong' : 'field'}>
      <div class="label">
        <label for={id}>{title}</label>
        {field.optional && <span class="soft">{say('optional')}</span>}
      </div>
      {field.description && (
        <p class="soft" id={`${id}-about`}>
          <bdi>{field.description}</bdi>
        </p>
      )}
      {field.enum ? (
        <select {...shared} onChange={event => onInput(event.currentTarget.value)}>
          <option value="" />
          {field.enum.map(option => (
            <option key={option} value={option}>
              {option}
            </option>
          ))}
        </select>
      ) : (
        // With an affix it is an address, which reads from left to right in every language.
        <div class="input" dir={(field.prefix ?? field.suffix) ? 'ltr' : undefined}>
          {field.prefix && <span class="affix">{field.prefix}</span>}
          <input
            {...shared}
            {...(field.secret && !isShown ? { type: 'password' as const } : {})}
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            dir="ltr"
            onInput={event => onInput(event.currentTarget.value)}
          />
          {field.suffix && <span class="affix">{field.suffix}</span>}
          {field.secret && (
            <button
              type="button"
              class="icon"
              aria-pressed={isShown}
              aria-label={`${say(isShown ? 'hide' : 'show')}: ${title}`}
              onClick={() => setShown(!isShown)}
            >
              <Eye open={isShown} />
            </button>
          )}
        </div>
      )}
      {fault && (
        <p class="fault" id={`${id}-fault`} role="alert">
          <Attention /> {fault}
        </p>
      )}
      {field.example && (
        <p class="soft example" id={`${id}-example`}>
          {say('example', { example: '' })}
          <bdi>{field.example}</bdi>
        </p>
      )}
      {docs && field.doc_section && (
        <a
          class="aside"
          href={`${docs}#${field.doc_section.replace(/^#/, '')}`}
          target="_blank"
          rel="noopener noreferrer"
        >
          {say('whereIsThis')} <Outward />
        </a>
      )}
    </div>
  )
}
