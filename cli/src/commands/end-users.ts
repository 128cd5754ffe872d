/** People's rights: what is stored about somebody, and its end. */
import type { Erasure, PersonExport, PersonTarget } from '@fairlead/contract'
import type { Command, Values } from '../command.ts'
import { UsageFault } from '../faults.ts'
import { facts, jsonText, printable } from '../output.ts'

function targetOf({ 'end-user': endUser, organization }: Values): PersonTarget {
  if (endUser && organization === undefined) return { end_user_id: endUser }
  if (organization && endUser === undefined) return { organization_id: organization }
  throw new UsageFault('It takes exactly one of --end-user and --organization.')
}

export const endUsers: Command[] = [
  {
    words: 'end-users export',
    usage: '(--end-user ID | --organization ID)',
    summary: 'Prints everything stored about an end user or an organization, as JSON. No token',
    example: 'end-users export --end-user ada',
    options: ['end-user', 'organization'],
    args: { min: 0, max: 0 },
    async run({ client, values }) {
      const found = await client.post<PersonExport>('/end-users/export', targetOf(values))
      return { json: found, text: jsonText(found) }
    },
  },
  {
    words: 'end-users erase',
    usage: '(--end-user ID | --organization ID) [--yes]',
    summary: 'Erases everything stored about an end user or an organization, revokes their tokens and prints a receipt',
    options: ['end-user', 'organization', 'yes'],
    args: { min: 0, max: 0 },
    async run({ client, values, ask }) {
      const target = targetOf(values)
      const who =
        'end_user_id' in target ? `the end user ${target.end_user_id}` : `the organization ${target.organization_id}`
      await ask.confirm(
        `Erase everything about ${printable(who)} at ${client.url}, and whatever shares a grant with a connection of theirs? It cannot be undone.`,
      )
      const receipt = await client.post<Erasure>('/end-users/erase', target)
      return {
        json: receipt,
        text: facts([
          ['Subject', receipt.subject],
          ...Object.entries(receipt.deleted).map(([table, rows]): [string, string] => [
            `Deleted from ${table}`,
            String(rows),
          ]),
          ...Object.entries(receipt.stripped).map(([table, rows]): [string, string] => [
            `Stripped in ${table}`,
            String(rows),
          ]),
          ['Revocations queued', String(receipt.revocations_queued)],
          ['Audit entries kept', String(receipt.audit_entries_kept)],
        ]),
      }
    },
  },
]
