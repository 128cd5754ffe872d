/** What rooms need of a logger: fields first, then one constant sentence. Secrets are of type Secret and do not print. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
