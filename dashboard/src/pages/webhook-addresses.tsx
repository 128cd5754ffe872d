/** Where the provider of a connection sends its webhooks: when the address was made, whether anything comes, and a new one, shown once. */
import type { NewWebhookAddress, WebhookAddresses } from '@fairlead/contract'
import { useMutation, useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { ask, post } from '../api.ts'
import { Card, CopyField, Fault, Modal, Sure, say, Time } from '../parts.tsx'

export function WebhookAddressCard({ base, named, canChange }: { base: string; named: string; canChange: boolean }) {
  const path = `${base}/webhook-addresses${named}`
  const listed = useQuery({ queryKey: ['webhook-addresses', path], queryFn: () => ask<WebhookAddresses>(path) })
  const make = useMutation({
    mutationFn: () => post<NewWebhookAddress>(path),
    onSettled: () => listed.refetch(),
  })
  const [ending, setEnding] = useState(false)
  if (!listed.data?.is_offered) return null
  const { addresses } = listed.data
  return (
    <Card
      title="Incoming webhooks"
      note="What the provider sends to this connection’s own address goes on to your webhook URL."
      actions={
        canChange && (
          <button type="button" className="button tiny" disabled={make.isPending} onClick={() => make.mutate()}>
            New address
          </button>
        )
      }
    >
      <div className="stack">
        {make.error && <Fault error={make.error} />}
        {addresses.length === 0 ? (
          <p className="small soft">There is no address yet.</p>
        ) : (
          <dl className="facts">
            {addresses.map(one => (
              <WebhookAddress key={one.id} {...one} />
            ))}
          </dl>
        )}
        {canChange && addresses.length > 0 && (
          <div>
            <button type="button" className="button tiny danger" onClick={() => setEnding(true)}>
              End…
            </button>
          </div>
        )}
      </div>
      <Modal title="An address for webhooks" open={make.data !== undefined} onClose={make.reset}>
        <p>
          Enter it at the provider and show it to nobody else: who knows it can send. It is not shown again; a new one
          can be made at any time.
        </p>
        {make.data && <CopyField label="Address" value={make.data.url} />}
        {make.data?.previous_until && (
          <p className="small soft">
            The previous one works until <Time at={make.data.previous_until} />.
          </p>
        )}
      </Modal>
      <Sure
        title="End the address?"
        text="What the provider sends there is refused from now on, and lost once it stops trying."
        verb="End it"
        open={ending}
        onClose={() => setEnding(false)}
        act={async () => {
          await ask(path, { method: 'DELETE' })
          await listed.refetch()
          say('Nothing is taken there any more')
        }}
      />
    </Card>
  )
}

function WebhookAddress({ created_at, retires_at, received_at }: WebhookAddresses['addresses'][number]) {
  return (
    <>
      <dt>{retires_at ? 'Works until' : 'Made'}</dt>
      <dd>
        <Time at={retires_at ?? created_at} />
      </dd>
      <dt>Last received</dt>
      <dd>
        <Time at={received_at} none="nothing yet" />
      </dd>
    </>
  )
}
