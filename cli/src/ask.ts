/** Asking whoever sits at the terminal. Where nobody does, the command says what to give it instead. */
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import type { Ask } from './command.ts'
import { Declined, UsageFault } from './faults.ts'

export function createAsk(input: NodeJS.ReadStream, output: NodeJS.WriteStream, yes: boolean): Ask {
  return {
    async confirm(question) {
      if (yes) return
      if (!input.isTTY)
        throw new UsageFault(`${question}\nThere is nobody to ask here: add --yes if that is what you want.`)
      const terminal = createInterface({ input, output })
      const answer = await terminal.question(`${question} [y/N] `).finally(() => terminal.close())
      if (!/^y(es)?$/i.test(answer.trim())) throw new Declined('Nothing was changed.')
    },

    async secret(what, option) {
      if (!input.isTTY)
        throw new UsageFault(
          `There is nobody to ask for it here (${what.toLowerCase()}): give --${option}, or "-" to read it from standard input.`,
        )
      output.write(`${what}: `)
      // The terminal echoes through this stream; what is typed goes nowhere.
      const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
      const terminal = createInterface({ input, output: silent, terminal: true })
      const answer = await terminal.question('').finally(() => terminal.close())
      output.write('\n')
      if (answer.trim() === '') throw new Declined('Nothing was changed: it was empty.')
      return answer.trim()
    },
  }
}
