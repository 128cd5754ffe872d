/** What several pages ask. */
import type {
  ActivitySummary,
  IntegrationView,
  ListedConnection,
  Overview,
  ProviderView,
  SettingsView,
} from '@fairlead/contract'
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback, useMemo } from 'react'
import { ask } from './api.ts'
import { say } from './parts.tsx'
import { withQuery } from './route.ts'

export const useIntegrations = () =>
  useQuery({
    queryKey: ['integrations'],
    queryFn: async () => (await ask<{ data: IntegrationView[] }>('/integrations')).data,
  })

export const useProviders = () =>
  useQuery({
    queryKey: ['providers'],
    queryFn: async () => (await ask<{ data: ProviderView[] }>('/providers')).data,
    staleTime: 60_000,
  })

export interface ConnectionsAsked {
  search?: string | undefined
  integrationId?: string | undefined
  state?: string | undefined
}

interface Listed {
  connections: ListedConnection[]
  next_cursor: string | null
}

const askConnections = (asked: ConnectionsAsked, limit: number, cursor?: string) =>
  ask<Listed>(withQuery('/connections', { ...asked, limit: String(limit), cursor }))

const listConnections = (asked: ConnectionsAsked, limit: number) => ({
  queryKey: ['connections', asked, limit],
  queryFn: async () => (await askConnections(asked, limit)).connections,
})

const most = 2_000

/** All of them, where they are no more than a page takes; then filters are answered here, and at once. */
export const everyConnection = listConnections({}, most)

/** `more` brings the next page, where there are more than one takes. */
export function useConnections(filter: ConnectionsAsked) {
  const all = useQuery({ ...everyConnection, placeholderData: keepPreviousData, refetchInterval: 15_000 })
  const isWhole = all.data !== undefined && all.data.length < most
  const paged = useInfiniteQuery({
    queryKey: ['connections', 'pages', filter],
    queryFn: ({ pageParam }) => askConnections(filter, most, pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: last => last.next_cursor ?? undefined,
    placeholderData: keepPreviousData,
    // Somebody who has gone through many pages is not asked to wait for all of them again and again.
    refetchInterval: query => ((query.state.data?.pages.length ?? 0) > 1 ? false : 15_000),
    enabled: all.data !== undefined && !isWhole,
  })
  const { search, integrationId, state } = filter
  const matched = useMemo(
    () => all.data?.filter(matching({ search, integrationId, state })),
    [all.data, search, integrationId, state],
  )
  const pages = useMemo(() => paged.data?.pages.flatMap(page => page.connections), [paged.data])
  const more = useCallback(() => {
    if (paged.hasNextPage && !paged.isFetchingNextPage) void paged.fetchNextPage()
  }, [paged])
  if (isWhole || all.error) return { ...all, data: matched, more, isMore: false }
  // Until its first page is there, what is known already matches or does not.
  return { ...paged, data: pages ?? matched, more, isMore: paged.hasNextPage }
}

/** As the server does it. */
const matching =
  ({ search = '', integrationId, state }: ConnectionsAsked) =>
  ({ connection_id, end_user, provider_config_key, state: { name } }: ListedConnection): boolean =>
    (!state || name === state) &&
    (!integrationId || provider_config_key === integrationId) &&
    [connection_id, end_user?.display_name, end_user?.email].some(text =>
      text?.toLowerCase().includes(search.toLowerCase()),
    )

/** The first few, for somebody who types. */
export const useFewConnections = (filter: ConnectionsAsked, few: number, enabled: boolean) =>
  useQuery({ ...listConnections(filter, few), placeholderData: keepPreviousData, enabled })

const overview = { queryKey: ['overview'], queryFn: () => ask<Overview>('/overview') }

export const useOverview = () => useQuery({ ...overview, refetchInterval: 10_000 })

export const useSettings = () =>
  useQuery({ queryKey: ['settings'], queryFn: () => ask<SettingsView>('/environment/settings') })

export const useChangeSettings = () => {
  const queries = useQueryClient()
  return useMutation({
    mutationFn: (body: object) => ask<SettingsView>('/environment/settings', { method: 'PATCH', body }),
    onSuccess: () => say('Saved'),
    onSettled: () => queries.invalidateQueries({ queryKey: ['settings'] }),
  })
}

export interface SummaryAsked {
  /** So many until now, unless `since` says. */
  hours: number
  since?: string | undefined
  until?: string | undefined
  provider_config_key?: string | undefined
  connection_id?: string | undefined
}

const untilAskedAnew = 30_000

/** Asked anew twice a minute; for so long whoever comes back sees what was there. */
const summary = ({ hours, since, ...filter }: SummaryAsked) => ({
  queryKey: ['summary', hours, since, filter],
  queryFn: () =>
    ask<ActivitySummary>(
      withQuery('/activity/summary', {
        ...filter,
        since: since ?? new Date(Date.now() - hours * 3_600_000).toISOString(),
        parts: '48',
      }),
    ),
  staleTime: untilAskedAnew,
})

export const useSummary = (asked: SummaryAsked) =>
  useQuery({
    ...summary(asked),
    placeholderData: keepPreviousData,
    refetchInterval: asked.until ? false : untilAskedAnew,
  })

export const lastDay: SummaryAsked = { hours: 24 }

/** What takes longest on these pages is asked for when somebody's pointer or focus comes to the link, a moment before it is followed. */
export function usePrefetch(): (path: string) => void {
  const queries = useQueryClient()
  return path => {
    if (path === '/connections') void queries.prefetchQuery(everyConnection)
    if (path === '/' || path === '/activity') void queries.prefetchQuery(summary(lastDay))
    if (path === '/') void queries.prefetchQuery(overview)
  }
}
