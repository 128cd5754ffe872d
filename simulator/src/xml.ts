// The small XML that metadata documents are: elements and text. No attributes but xmlns, no DOCTYPE, no processing
// beyond the declaration.

export class BadXml extends Error {}

export type Element = { name: string; text: string; children: Element[]; line: number }

const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

const decode = (text: string): string =>
  text.replace(/&(#x[0-9a-f]+|#\d+|\w+);/gi, (whole, name: string) => {
    if (name.startsWith('#x')) return String.fromCodePoint(Number.parseInt(name.slice(2), 16))
    if (name.startsWith('#')) return String.fromCodePoint(Number(name.slice(1)))
    const char = ENTITIES[name]
    if (char === undefined) throw new BadXml(`unknown entity ${whole}`)
    return char
  })

export function readXml(source: string): Element {
  const root: Element = { name: '', text: '', children: [], line: 1 }
  const open: Element[] = [root]
  let line = 1
  let at = 0
  const pattern =
    /<\?[\s\S]*?\?>|<!--[\s\S]*?-->|<\/([\w.:-]+)\s*>|<([\w.:-]+)((?:\s+[\w.:-]+\s*=\s*"[^"<]*")*)\s*(\/?)>|([^<]+)/y
  for (; at < source.length; at = pattern.lastIndex) {
    pattern.lastIndex = at
    const found = pattern.exec(source)
    const here = open.at(-1)
    if (!found || !here) throw new BadXml(`line ${line}: content is not allowed here`)
    const [whole, closing, opening, , selfClosing, text] = found
    if (closing !== undefined) {
      if (open.length === 1 || here.name !== closing) throw new BadXml(`line ${line}: </${closing}> closes nothing`)
      if (here.children.length > 0 && here.text.trim() !== '') throw new BadXml(`line ${line}: text between elements`)
      open.pop()
    } else if (opening !== undefined) {
      const element: Element = { name: opening, text: '', children: [], line }
      here.children.push(element)
      if (!selfClosing) open.push(element)
      if (open.length > 20) throw new BadXml(`line ${line}: nested too deeply`)
    } else if (text !== undefined) here.text += decode(text)
    line += whole.split('\n').length - 1
  }
  const [document, ...more] = root.children
  if (open.length > 1) throw new BadXml(`line ${line}: <${open.at(-1)?.name}> is never closed`)
  if (!document || more.length > 0 || root.text.trim() !== '') throw new BadXml('a document has one root element')
  return document
}
