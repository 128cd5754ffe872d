/** One statement with its parameters apart from its text. */
export interface Sql {
  text: string
  values: unknown[]
}

/**
 * Tags a template as SQL: every `${value}` becomes a numbered parameter, so a value can never be read as SQL.
 * The text is constant per call site, which is what lets PostgreSQL keep a plan for it.
 */
export function sql(strings: TemplateStringsArray, ...values: unknown[]): Sql {
  return { text: strings.reduce((text, part, i) => `${text}$${i}${part}`), values }
}
