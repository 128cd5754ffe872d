import type { Finding, Severity } from '@fairlead/contract'
import type { Command } from '../command.ts'
import { printable, type Screen } from '../output.ts'
import { pathOf, resolve } from './connections.ts'

const colours = { error: 'red', warning: 'yellow', info: 'cyan', ok: 'green' } as const satisfies Record<
  Severity,
  string
>

const paragraph = (screen: Screen, { severity, title, detail, fix, link }: Finding): string =>
  [
    `${screen.colour(colours[severity], severity)}  ${printable(title)}`,
    `  ${printable(detail)}`,
    ...(fix ? [`  ${printable(fix)}`] : []),
    ...(link ? [`  ${printable(link)}`] : []),
  ].join('\n')

export const doctor: Command[] = [
  {
    words: 'doctor',
    usage: '<id> [--integration K]',
    summary: 'Examines a connection and says what is wrong, why, and what to do. Exit code 1 when something is',
    options: ['integration'],
    args: { min: 1, max: 1 },
    async run(context) {
      const { client, screen } = context
      const one = await resolve(context)
      const { provider_config_key } = one
      const { findings } = await client.get<{ findings: Finding[] }>(`${pathOf(one)}/doctor`, { provider_config_key })
      const text = findings.map(finding => paragraph(screen, finding)).join('\n\n')
      return { json: findings, text, isBad: findings.some(({ severity }) => severity === 'error') }
    },
  },
]
