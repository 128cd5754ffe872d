/** The code blocks of a page, and of every page that has any: docs/*.md and the README of each package. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const repository = join(import.meta.dirname, '../../..')

export interface Block {
  page: string
  /** 1 is the first of its page. */
  number: number
  language: string
  /** Why nobody runs it: what stands behind `not run: ` in its info string. */
  notRun: string | undefined
  code: string
}

export const written: string[] = [
  ...['', ...readdirSync(repository).map(name => `${name}/`)]
    .map(folder => `${folder}README.md`)
    .filter(page => existsSync(join(repository, page))),
  ...readdirSync(join(repository, 'docs'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
].filter(page => !page.startsWith('node_modules/'))

/** `address` stands where a reader has the address of their own server. */
export function blocksOf(page: string, address = 'http://localhost:3003'): Block[] {
  const source = readFileSync(join(repository, page), 'utf8')
  return [...source.matchAll(/^( *)```([^\n]*)\n([\s\S]*?)^\1```$/gm)].map(([, indent, info = '', code = ''], i) => {
    const [, language = '', notRun] = /^(\w*)(?: not run: (.+))?$/.exec(info) ?? [undefined, info]
    const plain = code.replaceAll(new RegExp(`^${indent}`, 'gm'), '')
    const shown = plain.replaceAll('{{url}}', address).replaceAll('http://localhost:3003', address)
    return { page, number: i + 1, language, notRun, code: shown }
  })
}
