/** How a provider's answers follow one another: by a link, by a cursor, by an offset. Pure but for `ask`. */
import { FairleadError } from './error.ts'
import type { ProxyInit } from './proxy.ts'

/** `proxy.paginate` of a provider's definition. Paths are dotted. */
export type Paginate = {
  /** Where the items stand in the answer; without it the answer itself is the list, or the one item. */
  response_path?: string
  limit_name_in_request?: string
  limit?: number | string
} & (
  | { type: 'link'; link_rel_in_response_header?: string; link_path_in_response_body?: string }
  | { type: 'cursor'; cursor_path_in_response: string; cursor_name_in_request: string }
  | {
      type: 'offset'
      offset_name_in_request: string
      offset_start_value?: number | string
      /** `per-page` counts pages, `by-response-size` counts items. */
      offset_calculation_method?: 'per-page' | 'by-response-size'
    }
)

export interface Page<Item> {
  items: Item[]
  /** The whole answer, parsed. */
  body: unknown
  /** Its body is read already. */
  response: Response
}

export interface Step {
  path: string
  init: ProxyInit & { method?: string }
}

export async function* pagesOf<Item>(
  paginate: Paginate,
  first: Step,
  ask: (step: Step) => Promise<Response>,
): AsyncGenerator<Page<Item>, void, undefined> {
  const { limit, limit_name_in_request: limitName } = paginate
  const start = paginate.type === 'offset' ? Number(paginate.offset_start_value ?? 0) : 0
  const begin = limitName && limit !== undefined ? withParameter(first, limitName, limit, 'keep') : first
  let offset = start
  let step: Step | undefined =
    paginate.type === 'offset' ? withParameter(begin, paginate.offset_name_in_request, offset) : begin
  while (step) {
    const response = await ask(step)
    const body: unknown = await response.json()
    const items = itemsOf<Item>(body, paginate.response_path)
    yield { items, body, response }

    let next: Step | undefined
    if (paginate.type === 'link') {
      const link = linkOf(paginate, response, body)
      // The link says everything that the first request's query said.
      next = link === undefined ? undefined : { path: link, init: { ...begin.init, query: {} } }
      if (next?.path === step.path)
        throw new FairleadError('provider_answer', `The next page is the same one again: ${next.path}`, {
          status: response.status,
          provider: true,
        })
    } else if (paginate.type === 'cursor') {
      const cursor = at(body, paginate.cursor_path_in_response)
      const more = (typeof cursor === 'string' && cursor !== '') || typeof cursor === 'number'
      next = more ? withParameter(begin, paginate.cursor_name_in_request, cursor) : undefined
    } else if (items.length > 0) {
      offset += paginate.offset_calculation_method === 'per-page' ? 1 : items.length
      next = withParameter(begin, paginate.offset_name_in_request, offset)
    }
    step = next
  }
}

/** In the query; in the body where the request is one with a JSON body, as search endpoints have it. */
function withParameter({ path, init }: Step, name: string, value: string | number, over?: 'keep'): Step {
  if (typeof init.json === 'object' && init.json !== null) {
    const said = over && name in init.json ? {} : { [name]: value }
    return { path, init: { ...init, json: { ...init.json, ...said } } }
  }
  const inPath = new URLSearchParams(path.split('?')[1] ?? '')
  if (over && (inPath.has(name) || init.query?.[name] !== undefined)) return { path, init }
  return { path, init: { ...init, query: { ...init.query, [name]: value } } }
}

function itemsOf<Item>(body: unknown, path: string | undefined): Item[] {
  const found = path ? at(body, path) : body
  // The definition says what they are; TypeScript cannot know.
  return (Array.isArray(found) ? found : found === undefined || found === null ? [] : [found]) as Item[]
}

function at(value: unknown, path: string): unknown {
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

/** RFC 8288; an address in a header or a body may be relative, and goes through the proxy again either way. */
function linkOf(paginate: Paginate & { type: 'link' }, response: Response, body: unknown): string | undefined {
  const { link_rel_in_response_header: rel, link_path_in_response_body: path } = paginate
  if (path) {
    const link = at(body, path)
    return typeof link === 'string' && link !== '' ? link : undefined
  }
  for (const [, target, parameters = ''] of (response.headers.get('link') ?? '').matchAll(/<([^>]*)>([^<]*)/g)) {
    const [, rels = ''] = /;\s*rel\s*=\s*"?([^";,]*)/i.exec(parameters) ?? []
    if (
      rels
        .toLowerCase()
        .split(/\s+/)
        .includes((rel ?? 'next').toLowerCase())
    )
      return target
  }
  return undefined
}
