import type { Command } from './command.ts'

const line = ({ words, usage }: Command): string => `fairlead ${words}${usage ? ` ${usage}` : ''}`

export const helpFor = (commands: Command[]): string =>
  commands
    .map(command =>
      [
        line(command),
        `  ${command.summary}.`,
        ...(command.example === undefined ? [] : [`  For example: fairlead ${command.example}`]),
      ].join('\n'),
    )
    .join('\n\n')

export function helpForAll(commands: Command[]): string {
  const wide = Math.max(...commands.map(({ words }) => words.length))
  return [
    'fairlead: what runs on a Fairlead server, from a terminal.',
    '',
    ...commands.map(({ words, summary }) => `  ${words.padEnd(wide)}  ${summary}`),
    `  ${'help [command]'.padEnd(wide)}  Shows what a command takes`,
    '',
    'Everywhere:',
    '  --json      the answer as JSON, for scripts',
    '  --env NAME  the API key in FAIRLEAD_SECRET_KEY_NAME, e.g. --env dev',
    '  --version   the version of this program',
    '',
    'FAIRLEAD_URL says where the server is (http://localhost:3003 unless set), FAIRLEAD_SECRET_KEY is its API key.',
    'Exit codes: 0 done, 1 refused, 2 not a command, 3 no server there.',
  ].join('\n')
}
