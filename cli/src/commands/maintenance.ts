/**
 * What is done on the server's database, beside the server and without it. The program that does it came with the server and takes its
 * configuration (DATABASE_URL, FAIRLEAD_DATA_DIR, FAIRLEAD_ENCRYPTION_KEY) from the environment; no API key is needed.
 */
import { type Command, needed, type Values } from '../command.ts'
import { serverProgram, start } from './run.ts'

const maintain = (values: Values, ...args: string[]) =>
  start(serverProgram('maintain'), [...(values.json ? ['--json'] : []), '--', ...args])

export const maintenance: Command[] = [
  {
    words: 'backup',
    usage: '<file>',
    summary:
      'Writes the whole database to a file, sealed with the encryption key, while the server goes on. Works on the database itself, not through the API; - is standard output',
    options: [],
    args: { min: 1, max: 1 },
    run: ({ values, args }) => maintain(values, 'backup', args[0]!),
  },
  {
    words: 'restore',
    usage: '<file>',
    summary:
      'Checks every byte of a backup, then brings it into an empty database. Works on the database itself, not through the API',
    options: [],
    args: { min: 1, max: 1 },
    run: ({ values, args }) => maintain(values, 'restore', args[0]!),
  },
  {
    words: 'db move',
    usage: '--to URL',
    summary:
      'Copies the database, embedded or not, into an empty PostgreSQL and compares the two; the source stays as it is. Can be stopped and run again. Works on the databases themselves, not through the API; - reads the URL from standard input',
    options: ['to'],
    args: { min: 0, max: 0 },
    run: ({ values }) => maintain(values, 'move', needed(values, 'to')),
  },
  {
    words: 'doctor system',
    usage: '',
    summary:
      'Examines the installation: address and TLS, clock, database, pooler, migrations, encryption key, disk. Works on the database itself, not through the API. Exit code 1 when something is wrong',
    options: [],
    args: { min: 0, max: 0 },
    run: ({ values }) => maintain(values, 'doctor'),
  },
]
