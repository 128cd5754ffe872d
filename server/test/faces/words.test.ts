/** Connect UI's languages: the compiler sees that no sentence is missing; this, that each says what the English one says. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ar } from '../../../connect-ui/src/words/ar.ts'
import { de } from '../../../connect-ui/src/words/de.ts'
import { en, type Words } from '../../../connect-ui/src/words/en.ts'
import { es } from '../../../connect-ui/src/words/es.ts'
import { fr } from '../../../connect-ui/src/words/fr.ts'
import { ja } from '../../../connect-ui/src/words/ja.ts'
import { pt } from '../../../connect-ui/src/words/pt.ts'

const names = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!).sort()
/** Names of products and things, the same everywhere. */
const same = new Set(['sfSandbox', 'sfIsPlayground', 'sfIsSandboxUnnamed'])
/** A language may do without naming the product or provider once more; it never names what English does not. */
const mayLeaveOut = new Set(['product', 'name'])

for (const [language, words] of Object.entries({ ar, de, es, fr, ja, pt }) as [string, Words][])
  test(`${language} says everything`, () => {
    assert.deepEqual(Object.keys(words).sort(), Object.keys(en).sort())
    for (const [key, english] of Object.entries(en)) {
      const text = words[key as keyof Words]
      assert.ok(text.trim().length > 0, key)
      const [theirs, ours] = [names(text), names(english)]
      assert.deepEqual(
        theirs.filter(name => !ours.includes(name)),
        [],
        `${key}: ${text}`,
      )
      assert.deepEqual(
        ours.filter(name => !theirs.includes(name) && !mayLeaveOut.has(name)),
        [],
        `${key}: ${text}`,
      )
      // A short word may be the same by chance; a sentence is not.
      if (english.length > 14 && !same.has(key) && english !== 'Client ID') assert.notEqual(text, english, key)
      assert.doesNotMatch(text, /something went wrong/i)
    }
  })
