import { newId } from '../lib/id.ts'
import { Secret } from '../lib/secret.ts'
import type { Db } from '../seams.ts'
import type { KeyedHash } from './pepper.ts'
import { addDefaultKey, addEnvironment, listEnvironments, setDefaultKey } from './store.ts'

const fullScope = ['environment:*']

/** FAIRLEAD_SECRET_KEY_<this> names an environment. */
const variableName = (environment: string): string => environment.toUpperCase().replaceAll('-', '_')

interface Deps {
  db: Db
  keyedHash: KeyedHash
}

/**
 * A fresh server has `dev` and `prod`, each with one key. Returns the keys that were generated just now: the only moment they can be shown.
 * A pinned key replaces the environment's default one. Throws when a pinned key names no environment.
 */
export async function prepareEnvironments(
  { db, keyedHash }: Deps,
  pinned: { variable: string; key: Secret }[],
): Promise<{ environment: string; key: Secret }[]> {
  if ((await listEnvironments(db)).length === 0) for (const name of ['dev', 'prod']) await addEnvironment(db, name)
  const environments = await listEnvironments(db)

  const names = new Set(environments.map(environment => variableName(environment.name)))
  const strays = pinned.filter(({ variable }) => !names.has(variable))
  if (strays.length > 0)
    throw new Error(
      `${strays.map(({ variable }) => `FAIRLEAD_SECRET_KEY_${variable}`).join(', ')} names no environment; there are ${environments.map(({ name }) => name).join(', ')}.`,
    )

  const generated: { environment: string; key: Secret }[] = []
  for (const environment of environments) {
    const pin = pinned.find(({ variable }) => variable === variableName(environment.name))
    if (pin) {
      await setDefaultKey(db, environment.id, keyedHash(pin.key.reveal()), fullScope)
      continue
    }
    const key = new Secret(newId())
    if (await addDefaultKey(db, environment.id, keyedHash(key.reveal()), fullScope))
      generated.push({ environment: environment.name, key })
  }
  return generated
}
