/** Who is there decides what is shown: setting up, signing in, or the shell with the page the address names. */
import type { OperatorStanding } from '@fairlead/contract'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useEffect } from 'react'
import { ask, setSignedOut } from './api.ts'
import { LinkPage, SetupPage, SignInPage } from './door.tsx'
import { OidcPage } from './oidc.tsx'
import { Fault, Toast } from './parts.tsx'
import { useRoute } from './route.ts'
import { Shell } from './shell.tsx'

export function App() {
  const queries = useQueryClient()
  const { path, query } = useRoute()
  const standing = useQuery({ queryKey: ['operator'], queryFn: () => ask<OperatorStanding>('/operator') })
  useEffect(() => setSignedOut(() => void queries.invalidateQueries({ queryKey: ['operator'] })), [queries])
  const become = (now: OperatorStanding) => {
    queries.removeQueries({ predicate: query => query.queryKey[0] !== 'operator' })
    queries.setQueryData(['operator'], now)
  }
  if (standing.error)
    return (
      <div className="door">
        <Fault error={standing.error} retry={() => void standing.refetch()} />
      </div>
    )
  if (!standing.data) return null
  const { state, identity_provider: provider } = standing.data
  return (
    <>
      {path === '/oidc' ? (
        <OidcPage query={query} become={become} />
      ) : path === '/link' ? (
        <LinkPage provider={provider} become={become} />
      ) : state === 'setup' ? (
        <SetupPage here={standing.data.setup_here} become={become} />
      ) : state === 'signed_out' ? (
        <SignInPage provider={provider} become={become} />
      ) : (
        <Shell standing={standing.data} become={become} />
      )}
      <Toast />
    </>
  )
}
