#!/usr/bin/env node
/**
 * `fairlead`: the command line. Finds the command that was typed, runs it against a server's HTTP API and prints what it says: data on
 * standard output, everything else on standard error. Exit codes: 0 done, 1 refused, 2 not a command, 3 no server.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createAsk } from './ask.ts'
import { createClient } from './client.ts'
import { type Command, common, type Option, options, type Values } from './command.ts'
import { commands } from './commands/index.ts'
import { readConfig } from './config.ts'
import { Declined, exitCodeOf, Refused, Unreachable, UsageFault } from './faults.ts'
import { helpFor, helpForAll } from './help.ts'
import { createScreen, jsonText, printable } from './output.ts'

const screen = createScreen(process.stdout, process.stderr)

async function main(argv: string[]): Promise<void> {
  const { values, positionals } = parse(argv)
  if (values.version) return screen.print(version())
  const [first, ...rest] = positionals
  if (first === undefined || first === 'help') {
    const words = rest.join(' ')
    const about = commands.filter(one => words === '' || one.words === words || one.words.startsWith(`${words} `))
    if (about.length === 0)
      throw new UsageFault(`There is no command "${printable(words)}". "fairlead help" lists all.`)
    return screen.print(words === '' ? helpForAll(commands) : helpFor(about))
  }
  const { command, args } = find(positionals)
  if (values.help) return screen.print(helpFor([command]))
  check(command, values, args)

  const client = createClient(readConfig(process.env, values.env))
  const ask = createAsk(process.stdin, process.stderr, values.yes === true)
  const result = await command.run({ client, screen, values, args, ask })
  if (!result) return
  screen.print(values.json ? jsonText(result.json) : result.text)
  if (result.isBad) process.exitCode = 1
}

function parse(argv: string[]): { values: Values; positionals: string[] } {
  try {
    return parseArgs({ args: argv, options, allowPositionals: true, strict: true })
  } catch (error) {
    // Node's sentences: which option is unknown, or lacks its value.
    if (error instanceof TypeError && 'code' in error)
      throw new UsageFault(`${printable(error.message.split('. ')[0]!)}. "fairlead help" lists what there is.`)
    throw error
  }
}

/** The command with the most words that are the first ones typed. A noun alone means its `list`, as `revocations` does. */
function find(typed: string[]): { command: Command; args: string[] } {
  const found = commands
    .map(command => ({ command, length: lengthOf(command, typed) }))
    .filter(({ length }) => length > 0)
    .sort((a, b) => b.length - a.length)[0]
  if (found) return { command: found.command, args: typed.slice(found.length) }
  const group = commands.filter(({ words }) => words.startsWith(`${typed[0]} `))
  throw new UsageFault(
    group.length === 0
      ? `There is no command "${printable(typed[0]!)}". "fairlead help" lists all.`
      : `"${printable(typed.slice(0, 2).join(' '))}" is not a command. There are: ${group.map(({ words }) => words).join(', ')}.`,
  )
}

function lengthOf({ words }: Command, typed: string[]): number {
  const wanted = words.split(' ')
  if (wanted.every((word, i) => typed[i] === word)) return wanted.length
  return wanted[1] === 'list' && typed.length === 1 && typed[0] === wanted[0] ? 1 : 0
}

function check(command: Command, values: Values, args: string[]): void {
  const stray = (Object.keys(values) as Option[]).find(
    name => !common.includes(name) && !command.options.includes(name),
  )
  if (stray) throw new UsageFault(`"${command.words}" takes no --${stray}.\n${helpFor([command])}`)
  const { min, max } = command.args
  if (args.length < min) throw new UsageFault(`"${command.words}" needs more.\n${helpFor([command])}`)
  if (args.length > max)
    throw new UsageFault(`"${command.words}" does not take "${printable(args[max]!)}".\n${helpFor([command])}`)
  if (args.includes('')) throw new UsageFault('An empty name names nothing.')
}

const isExpected = (error: unknown): error is Error =>
  [UsageFault, Declined, Unreachable, Refused].some(kind => error instanceof kind)

/** A failure for a script. A refusal has the server's own code. */
function told(error: Error): { code: string; message: string; details?: string[] } {
  const { message } = error
  if (error instanceof Refused) return { code: error.code, message, details: error.details }
  if (error instanceof UsageFault) return { code: 'usage', message }
  return { code: error instanceof Declined ? 'declined' : 'unreachable', message }
}

const version = (): string =>
  (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version

// `fairlead … | head` closes the pipe: that is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

main(process.argv.slice(2)).catch((error: unknown) => {
  process.exitCode = exitCodeOf(error)
  if (process.argv.includes('--json') && isExpected(error)) screen.say(jsonText({ error: told(error) }))
  else if (error instanceof Refused)
    screen.say(
      [
        `${printable(error.message)} (${printable(error.code)})`,
        ...error.details.map(line => `  ${printable(line)}`),
      ].join('\n'),
    )
  else if (isExpected(error)) screen.say(error.message)
  else screen.say(`The command failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
})
