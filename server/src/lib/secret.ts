import { inspect } from 'node:util'

/**
 * A string that will not print. Template literals, JSON, console and loggers all show `[secret]`;
 * only a call to `reveal()`, easy to find by grep, gives the value away.
 */
export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  reveal(): string {
    return this.#value
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [inspect.custom](): string {
    return '[secret]'
  }
}
