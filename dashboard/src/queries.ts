/** What several pages ask. */
import type {
  ActivitySummary,
  IntegrationView,
  ListedConnection,
  Overview,
  ProviderView,
  SettingsView,
} from '@fairlead/contract'
import { keepPreviousData, useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
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
  limit?: number
}

export const useConnections = ({ limit = 2_000, ...filter }: ConnectionsAsked, enabled = true) =>
  useQuery({
    queryKey: ['connections', filter, limit],
    queryFn: async () =>
      (await ask<{ connections: ListedConnection[] }>(withQuery('/connections', { ...filter, limit: String(limit) })))
        .connections,
    placeholderData: keepPreviousData,
    refetchInterval: limit > 100 ? 15_000 : false,
    enabled,
  })

export const useOverview = () =>
  useQuery({ queryKey: ['overview'], queryFn: () => ask<Overview>('/overview'), refetchInterval: 10_000 })

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
  hours: number
  parts: number
  provider_config_key?: string | undefined
  connection_id?: string | undefined
}

/** The last hours until now, asked anew twice a minute. */
export const useSummary = ({ hours, parts, ...filter }: SummaryAsked) =>
  useQuery({
    queryKey: ['summary', hours, parts, filter],
    queryFn: () =>
      ask<ActivitySummary>(
        withQuery('/activity/summary', {
          ...filter,
          since: new Date(Date.now() - hours * 3_600_000).toISOString(),
          parts: String(parts),
        }),
      ),
    placeholderData: keepPreviousData,
    refetchInterval: 30_000,
  })
