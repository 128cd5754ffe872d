import type { Delivery } from '@fairlead/contract'
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { ask, enc, post } from '../api.ts'
import { exact, ms, short, words } from '../format.ts'
import { Card, Empty, Fault, Icon, Id, Link, Loaded, Modal, Page, Skeleton, say, Time } from '../parts.tsx'
import { useSettings } from '../queries.ts'
import { setQuery, useRoute, withQuery } from '../route.ts'

interface Listed {
  deliveries: Delivery[]
  next_cursor: string | null
}
interface Attempt {
  number: number
  at: string
  url: string | null
  status: number | null
  ms: number
  error: string | null
  answer: string | null
}
type Detail = Delivery & { body: string; history: Attempt[] }

const looks = {
  pending: ['degraded', 'half', 'Pending'],
  delivered: ['active', 'check', 'Delivered'],
  failed: ['attention', 'bang', 'Failed'],
} as const

function DeliveryState({ state }: { state: Delivery['state'] }) {
  const [look, sign, word] = looks[state]
  return (
    <span className={`state ${look}`}>
      <Icon name={sign} size={13} />
      {word}
    </span>
  )
}

export function WebhooksPage({ canChange }: { canChange: boolean }) {
  const { query } = useRoute()
  const state = query.get('state') ?? undefined
  const id = query.get('delivery') ?? undefined
  const queries = useQueryClient()
  const settings = useSettings()
  const deliveries = useInfiniteQuery({
    queryKey: ['deliveries', state],
    queryFn: ({ pageParam }) => ask<Listed>(withQuery('/webhooks/deliveries', { state, cursor: pageParam })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: last => last.next_cursor ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: 5_000,
  })
  const test = useMutation({
    mutationFn: () => post('/webhooks/test', undefined),
    onSuccess: () => say('A test event is on its way'),
    onSettled: () => queries.invalidateQueries({ queryKey: ['deliveries'] }),
  })
  const replayAll = useMutation({
    mutationFn: () =>
      post<{ replayed: number }>('/webhooks/replay', { since: new Date(Date.now() - 3 * 86_400_000).toISOString() }),
    onSuccess: ({ replayed }) => say(`${replayed} on their way again`),
    onSettled: () => queries.invalidateQueries({ queryKey: ['deliveries'] }),
  })
  const list = deliveries.data?.pages.flatMap(page => page.deliveries)
  const url = settings.data?.webhook_url
  return (
    <Page
      title="Webhooks"
      lead={
        url ? (
          <>
            Events go to <code>{url}</code>.
          </>
        ) : (
          'What is told to your server when a connection changes.'
        )
      }
      actions={
        canChange && (
          <>
            <Link className="button" to="/settings/webhooks">
              Where they go
            </Link>
            <button type="button" className="button" disabled={replayAll.isPending} onClick={() => replayAll.mutate()}>
              Replay failed ones
            </button>
            <button
              type="button"
              className="button primary"
              disabled={test.isPending || !url}
              onClick={() => test.mutate()}
            >
              Send a test
            </button>
          </>
        )
      }
    >
      {(test.error ?? replayAll.error) && <Fault error={test.error ?? replayAll.error} />}
      <div className="filters">
        {(['pending', 'delivered', 'failed'] as const).map(one => (
          <button
            key={one}
            type="button"
            className="chip"
            aria-pressed={state === one}
            onClick={() => setQuery({ state: state === one ? undefined : one })}
          >
            {words(one)}
          </button>
        ))}
      </div>
      <Card plain>
        {deliveries.error ? (
          <Fault error={deliveries.error} retry={() => void deliveries.refetch()} />
        ) : !list ? (
          <Skeleton lines={8} />
        ) : list.length === 0 ? (
          <Empty title={state ? `None is ${state}` : 'Nothing was sent yet'}>
            {!url && <p>This environment has no webhook URL, so nothing is told to anybody.</p>}
            {!url && canChange && (
              <Link className="button primary" to="/settings/webhooks">
                Set a webhook URL
              </Link>
            )}
          </Empty>
        ) : (
          <div className="scroll">
            <table className="cards">
              <thead>
                <tr>
                  <th>State</th>
                  <th>Event</th>
                  <th>Connection</th>
                  <th>To</th>
                  <th className="number">Attempts</th>
                  <th>When</th>
                </tr>
              </thead>
              <tbody>
                {list.map(one => (
                  <tr key={one.id}>
                    <td>
                      <DeliveryState state={one.state} />
                    </td>
                    <td>
                      <Link to={withQuery('/webhooks', { state, delivery: one.id })}>{one.event.name}</Link>
                    </td>
                    <td data-label="Connection">
                      <code>{one.event.connection_id ? short(one.event.connection_id) : '–'}</code>
                    </td>
                    <td data-label="To">{one.receiver}</td>
                    <td className="number" data-label="Attempts">
                      {one.attempts}
                    </td>
                    <td data-label="When">
                      <Time at={one.event.created_at} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Card>
      {deliveries.hasNextPage && (
        <button type="button" className="button" onClick={() => void deliveries.fetchNextPage()}>
          Older ones
        </button>
      )}
      <Modal
        title="Delivery"
        className="panel"
        open={id !== undefined}
        onClose={() => setQuery({ delivery: undefined })}
      >
        {id && <DeliveryDetail id={id} canChange={canChange} />}
      </Modal>
    </Page>
  )
}

function DeliveryDetail({ id, canChange }: { id: string; canChange: boolean }) {
  const queries = useQueryClient()
  const detail = useQuery({
    queryKey: ['delivery', id],
    queryFn: () => ask<Detail>(`/webhooks/deliveries/${enc(id)}`),
    refetchInterval: 3_000,
  })
  const replay = useMutation({
    mutationFn: () => post(`/webhooks/deliveries/${enc(id)}/replay`, undefined),
    onSuccess: () => say('On its way again'),
    onSettled: () => queries.invalidateQueries(),
  })
  return (
    <Loaded query={detail}>
      {one => (
        <>
          <p className="row wrap">
            <DeliveryState state={one.state} />
            <strong>{one.event.name}</strong>
            {canChange && (
              <button
                type="button"
                className="button tiny end"
                disabled={replay.isPending}
                onClick={() => replay.mutate()}
              >
                Replay
              </button>
            )}
          </p>
          {replay.error && <Fault error={replay.error} />}
          <dl className="facts">
            <dt>webhook-id</dt>
            <dd>
              <Id value={one.event.id} />
            </dd>
            <dt>Receiver</dt>
            <dd>{one.receiver}</dd>
            {one.next_attempt_at && (
              <>
                <dt>Next attempt</dt>
                <dd>
                  <Time at={one.next_attempt_at} />
                </dd>
              </>
            )}
          </dl>
          <h3>Attempts</h3>
          {one.history.length === 0 ? (
            <p className="soft">None yet.</p>
          ) : (
            <ul className="stack tight">
              {one.history.map(attempt => (
                <li key={attempt.number} className="small">
                  <span className={`code ${attempt.status !== null && attempt.status < 300 ? 'good' : 'bad'}`}>
                    {attempt.status ?? 'no answer'}
                  </span>{' '}
                  <span title={exact(attempt.at)}>
                    <Time at={attempt.at} />
                  </span>{' '}
                  · {ms(attempt.ms)}
                  {attempt.error && <span className="bad"> · {attempt.error}</span>}
                  {attempt.answer && <pre>{attempt.answer}</pre>}
                </li>
              ))}
            </ul>
          )}
          <h3>Body</h3>
          <pre>{pretty(one.body)}</pre>
        </>
      )}
    </Loaded>
  )
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
