/** Every way a provider pages, judged on literal answers. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Paginate, pagesOf, type Step } from '../src/pages.ts'

type Row = [
  what: string,
  paginate: Paginate,
  first: Step,
  answers: [body: unknown, headers?: Record<string, string>][],
  asked: string[],
  items: unknown[],
]

const get = (path: string, query?: Record<string, string>): Step => ({ path, init: query ? { query } : {} })

const rows: Row[] = [
  [
    'a link in the body',
    { type: 'link', link_path_in_response_body: 'meta.next', response_path: 'records' },
    get('/query', { q: 'x' }),
    [[{ records: [1, 2], meta: { next: '/query/01g-2' } }], [{ records: [3], meta: { next: null } }]],
    ['/query {"q":"x"}', '/query/01g-2 {}'],
    [1, 2, 3],
  ],
  [
    'a link in the header, by its relation',
    { type: 'link', link_rel_in_response_header: 'next' },
    get('/issues', { per_page: '2' }),
    [
      [
        [1, 2],
        { link: '<https://a.example/issues?page=1>; rel="prev", <https://a.example/issues?page=2,3>; rel="next last"' },
      ],
      [[3], { link: '<https://a.example/issues?page=1>; rel="first"' }],
    ],
    ['/issues {"per_page":"2"}', 'https://a.example/issues?page=2,3 {}'],
    [1, 2, 3],
  ],
  [
    'a cursor, with a limit',
    {
      type: 'cursor',
      cursor_path_in_response: 'next',
      cursor_name_in_request: 'after',
      response_path: 'data',
      limit_name_in_request: 'limit',
      limit: 2,
    },
    get('/list', { a: 'b' }),
    [[{ data: [1, 2], next: 'c2' }], [{ data: [], next: 7 }], [{ data: [3], next: '' }]],
    ['/list {"a":"b","limit":2}', '/list {"a":"b","limit":2,"after":"c2"}', '/list {"a":"b","limit":2,"after":7}'],
    [1, 2, 3],
  ],
  [
    'a cursor in the body of a search',
    {
      type: 'cursor',
      cursor_path_in_response: 'next_cursor',
      cursor_name_in_request: 'start_cursor',
      response_path: 'results',
    },
    { path: '/search', init: { method: 'POST', json: { query: 'x' } } },
    [[{ results: ['a'], next_cursor: 'n' }], [{ results: ['b'] }]],
    ['/search {"query":"x"}', '/search {"query":"x","start_cursor":"n"}'],
    ['a', 'b'],
  ],
  [
    'an offset in items, and the limit of the caller',
    {
      type: 'offset',
      offset_name_in_request: 'startAt',
      offset_calculation_method: 'by-response-size',
      response_path: 'values',
      limit_name_in_request: 'max',
      limit: 50,
    },
    get('/search?max=2'),
    [[{ values: [1, 2] }], [{ values: [3] }], [{ values: [] }]],
    ['/search?max=2 {"startAt":0}', '/search?max=2 {"startAt":2}', '/search?max=2 {"startAt":3}'],
    [1, 2, 3],
  ],
  [
    'an offset in pages that begins at one',
    { type: 'offset', offset_name_in_request: 'page', offset_start_value: '1', offset_calculation_method: 'per-page' },
    get('/x'),
    [[['a']], [['b']], [[]]],
    ['/x {"page":1}', '/x {"page":2}', '/x {"page":3}'],
    ['a', 'b'],
  ],
  [
    'an answer without items',
    { type: 'link', link_path_in_response_body: 'next', response_path: 'none' },
    get('/x'),
    [[{}]],
    ['/x {}'],
    [],
  ],
]

for (const [what, paginate, first, answers, asked, items] of rows)
  test(what, async () => {
    const steps: string[] = []
    const found: unknown[] = []
    const left = [...answers]
    const ask = async ({ path, init }: Step) => {
      steps.push(`${path} ${JSON.stringify(init.json ?? init.query ?? {})}`)
      const [body, headers = {}] = left.shift()!
      return new Response(JSON.stringify(body), { headers })
    }
    for await (const page of pagesOf(paginate, first, ask)) found.push(...page.items)
    assert.deepEqual([steps, found], [asked, items])
  })

test('a next page that is the same page ends the walk with an error, not in a circle', async () => {
  const ask = async () => new Response('{"next":"/x"}')
  const pages = pagesOf({ type: 'link', link_path_in_response_body: 'next' }, get('/x'), ask)
  await pages.next()
  await assert.rejects(pages.next(), /same one again/)
})
