/**
 * The contract: what goes over the wire. Request and response schemas, error codes, field rules; no behaviour.
 * The one package every other may import. Compatible with the clients teams already use (same paths, names,
 * statuses and envelope); what is ours alone is additional members, never changed ones.
 */
export * from './activity.ts'
export * from './audit.ts'
export * from './connect-sessions.ts'
export * from './connect-ui.ts'
export * from './connections.ts'
export * from './credentials.ts'
export * from './doctor.ts'
export * from './egress.ts'
export * from './encryption.ts'
export * from './environments.ts'
export * from './errors.ts'
export * from './explained.ts'
export * from './fields.ts'
export * from './guides.ts'
export * from './health.ts'
export * from './import.ts'
export * from './integrations.ts'
export * from './operators.ts'
export * from './people.ts'
export * from './providers.ts'
export * from './revocations.ts'
export * from './service.ts'
export * from './settings.ts'
export * from './webhooks.ts'
