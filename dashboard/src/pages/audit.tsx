import type { AuditEntry } from '@fairlead/contract'
import { keepPreviousData, useInfiniteQuery, useMutation } from '@tanstack/react-query'
import { ask, post } from '../api.ts'
import { count, exact, short, words } from '../format.ts'
import { Card, Empty, Fault, Id, Page, Skeleton, Time } from '../parts.tsx'
import { setQuery, useRoute, withQuery } from '../route.ts'

interface Listed {
  entries: AuditEntry[]
  next_before: number | null
}
type Verdict = { intact: true; rows: number; head: string } | { intact: false; rows: number; broken_at: number }

const nouns = ['sign_in', 'operator', 'integration', 'connection', 'settings', 'api_key', 'data_keys', 'signing_key']

export function AuditPage() {
  const { query } = useRoute()
  const action = query.get('action') ?? undefined
  const actor = query.get('actor') ?? undefined
  const audit = useInfiniteQuery({
    queryKey: ['audit', action, actor],
    queryFn: ({ pageParam }) => ask<Listed>(withQuery('/audit', { action, actor, before: pageParam })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: last => (last.next_before === null ? undefined : String(last.next_before)),
    placeholderData: keepPreviousData,
  })
  const verify = useMutation({ mutationFn: () => post<Verdict>('/audit/verify', undefined) })
  const entries = audit.data?.pages.flatMap(page => page.entries)
  return (
    <Page
      title="Audit"
      lead="Who changed what, and who looked at a secret. Only added to; each entry covers the one before it."
      actions={
        <button type="button" className="button" disabled={verify.isPending} onClick={() => verify.mutate()}>
          {verify.isPending ? 'Walking the chain…' : 'Verify'}
        </button>
      }
    >
      {verify.error && <Fault error={verify.error} />}
      {verify.data && (
        <div className={`notice ${verify.data.intact ? '' : 'bad'}`} role="status">
          {verify.data.intact ? (
            <p>
              <strong className="good">The chain is whole:</strong> {count(verify.data.rows)} entries. Its head is{' '}
              <Id value={verify.data.head} />; written down elsewhere it proves all of them.
            </p>
          ) : (
            <p>
              <strong>The chain breaks at entry {verify.data.broken_at}.</strong> It, or one before it, was altered or
              taken out in the database.
            </p>
          )}
        </div>
      )}
      <div className="filters">
        <input
          type="search"
          className="search"
          aria-label="Who"
          placeholder="Who"
          defaultValue={actor}
          onChange={event => setQuery({ actor: event.target.value })}
        />
        <select aria-label="What" value={action ?? ''} onChange={event => setQuery({ action: event.target.value })}>
          <option value="">Everything</option>
          {nouns.map(noun => (
            <option key={noun} value={noun}>
              {words(noun)}
            </option>
          ))}
        </select>
      </div>
      <Card plain>
        {audit.error ? (
          <Fault error={audit.error} retry={() => void audit.refetch()} />
        ) : !entries ? (
          <Skeleton lines={10} />
        ) : entries.length === 0 ? (
          <Empty title="Nothing matches">
            <p>Nobody has done this, or not in this environment.</p>
          </Empty>
        ) : (
          <div className="scroll">
            <table className="cards">
              <thead>
                <tr>
                  <th>When</th>
                  <th>Who</th>
                  <th>What</th>
                  <th>On</th>
                  <th>Detail</th>
                  <th>From</th>
                </tr>
              </thead>
              <tbody>
                {entries.map(one => (
                  <tr key={one.sequence}>
                    <td data-label="When" title={exact(one.at)}>
                      <Time at={one.at} />
                    </td>
                    <td data-label="Who">
                      {one.actor.name || '–'}
                      <br />
                      <span className="soft">{one.actor.kind.replace('_', ' ')}</span>
                    </td>
                    <td data-label="What">{words(one.action)}</td>
                    <td data-label="On">
                      <code>{short(one.target)}</code>
                    </td>
                    <td className="soft wide">
                      {Object.keys(one.detail).length > 0
                        ? Object.entries(one.detail)
                            .map(
                              ([name, value]) => `${name}: ${Array.isArray(value) ? value.join(', ') : String(value)}`,
                            )
                            .join(' · ')
                        : '–'}
                    </td>
                    <td className="soft mono wide">{one.address ?? '–'}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Card>
      {audit.hasNextPage && (
        <button
          type="button"
          className="button"
          disabled={audit.isFetchingNextPage}
          onClick={() => void audit.fetchNextPage()}
        >
          Older entries
        </button>
      )}
    </Page>
  )
}
