/** What a form of provider data demands of a value; the server says it again, whatever the page in front has checked. */
import type { FormField } from './schema.ts'

/** What is wrong with it, to be read after the field's name. */
export function fieldFault(field: FormField | undefined, value: string, longest = 1024): string | undefined {
  if (value.length > longest) return `is longer than ${longest} characters.`
  if (!field) return undefined
  const like = field.example ? `, for example ${field.example}` : ''
  if (field.enum && !field.enum.includes(value)) return `must be one of ${field.enum.join(', ')}.`
  if (field.pattern && !new RegExp(field.pattern).test(value)) return `does not have the form it needs${like}.`
  switch (field.format) {
    case 'hostname':
      return /^[a-z0-9-]+(\.[a-z0-9-]+)*$/i.test(value) ? undefined : 'is not a host name.'
    case 'uri':
      return URL.canParse(value) ? undefined : 'is not a URL.'
    case 'uuid':
      return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value) ? undefined : 'is not a UUID.'
    case 'email':
      return /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(value) ? undefined : 'is not an e-mail address.'
    default:
      return undefined
  }
}
