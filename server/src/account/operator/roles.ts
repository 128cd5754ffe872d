/**
 * What a role may do, in the scopes API keys have. A viewer reads and never sees a secret. Everybody else's day needs no secrets either: what
 * shows or makes one is theirs for five minutes after they have shown again who they are, and only in requests that ask for it by the
 * header Fairlead-Reveal (caller.ts), so that a page which merely reads a connection is never handed its tokens.
 */
import type { Role } from '@fairlead/contract'

const reading = [
  'environment:integrations:list',
  'environment:integrations:read',
  'environment:connections:list',
  'environment:connections:read',
  'environment:activity:read',
  'environment:webhooks:read',
  'environment:settings:read',
  'environment:encryption:read',
  'environment:audit:read',
  'environment:api_keys:read',
  'account:environments:list',
]

const working = [
  ...reading,
  'environment:api_keys:read',
  'environment:integrations:create',
  'environment:integrations:update',
  'environment:integrations:delete',
  'environment:connections:create',
  'environment:connections:update',
  'environment:connections:delete',
  'environment:connect_sessions:write',
  'environment:proxy',
  'environment:webhooks:write',
  'environment:settings:update',
  'environment:encryption:rotate',
]

export const scopesOf = (role: Role, confirmed: boolean): readonly string[] =>
  role === 'viewer'
    ? reading
    : !confirmed
      ? working
      : role === 'owner'
        ? ['environment:*', 'account:*']
        : ['environment:*']
