/** The environments of this installation: each has integrations, connections, keys and settings of its own. */
import type { OperatorView } from '@fairlead/contract'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask, currentEnvironment, post } from '../api.ts'
import { Card, Fault, Field, Loaded, Sure, say } from '../parts.tsx'

interface Environment {
  id: number
  name: string
}

export function Environments({ you }: { you: OperatorView | null }) {
  const queries = useQueryClient()
  const isOwner = you?.role === 'owner'
  const environments = useQuery({
    queryKey: ['environments'],
    queryFn: async () => (await ask<{ data: Environment[] }>('/environments')).data,
  })
  const [deleting, setDeleting] = useState<Environment>()
  // The rail's list is part of who is signed in.
  const again = () =>
    Promise.all(['environments', 'operator'].map(name => queries.invalidateQueries({ queryKey: [name] })))
  const make = useMutation({
    mutationFn: (name: string) => post<{ data: Environment }>('/environments', { name }),
    onSuccess: async ({ data }) => {
      await again()
      say(`${data.name} is there, without a key yet`)
    },
  })
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const form = event.currentTarget
    make.mutate(String(new FormData(form).get('name')), { onSuccess: () => form.reset() })
  }
  return (
    <div className="grid2">
      <Card title="Environments" plain>
        <Loaded query={environments}>
          {list => (
            <ul className="list">
              {list.map(one => (
                <li key={one.id} className="item">
                  <span className="grow">
                    <strong>{one.name}</strong>
                    {one.name === currentEnvironment() && <span className="soft"> (you are in it)</span>}
                  </span>
                  {isOwner && list.length > 1 && (
                    <button type="button" className="button tiny danger" onClick={() => setDeleting(one)}>
                      Delete<span className="hidden"> {one.name}</span>
                    </button>
                  )}
                </li>
              ))}
            </ul>
          )}
        </Loaded>
      </Card>
      {isOwner && (
        <Card title="Another one" note="For staging, a region, or a product of its own.">
          <form className="stack" onSubmit={submit}>
            <Field label="Name" hint="Lower-case letters, digits, _ and -.">
              <input name="name" required maxLength={64} pattern="[a-z0-9_\-]+" placeholder="staging" />
            </Field>
            {make.error && <Fault error={make.error} />}
            <div>
              <button type="submit" className="button primary" disabled={make.isPending}>
                Make it
              </button>
            </div>
          </form>
        </Card>
      )}
      <Sure
        title={`Delete the environment “${deleting?.name}”?`}
        text="Its integrations, keys, settings and records go with it. Its connections have to be deleted first, so that their tokens are ended at their providers."
        verb="Delete it"
        open={deleting !== undefined}
        onClose={() => setDeleting(undefined)}
        act={async () => {
          await ask(`/environments/${deleting?.id}`, { method: 'DELETE' })
          await again()
          say('Deleted')
        }}
      />
    </div>
  )
}
