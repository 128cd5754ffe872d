/**
 * Rows on their way into one `insert … select … from unnest(…)`: each column an array in PostgreSQL's binary format (array_recv), into which a
 * value is written when it comes. Whoever gathers thousands of rows a second keeps no objects for them, which would all grow old in the
 * heap: as objects, encoded at the end, a row cost twice what it costs so.
 */

/** What an element is: `text`, or `double precision`, which PostgreSQL assigns to any column of numbers. */
const oids = { text: 25, number: 701 }

/** Dimensions, flags, the elements' type, their number, and the first one's index. */
const headBytes = 20

export class Column {
  #bytes = Buffer.allocUnsafe(4_096)
  #end = headBytes
  #rows = 0
  readonly #type: keyof typeof oids

  constructor(type: keyof typeof oids) {
    this.#type = type
  }

  text(value: string | null): void {
    if (value === null) {
      this.#none()
      return
    }
    // UTF-8 takes three bytes for a unit of UTF-16 at the most.
    const bytes = this.#room(4 + 3 * value.length)
    const length = bytes.write(value, this.#end + 4)
    bytes.writeInt32BE(length, this.#end)
    this.#end += 4 + length
  }

  number(value: number | null): void {
    if (value === null) {
      this.#none()
      return
    }
    const bytes = this.#room(12)
    bytes.writeInt32BE(8, this.#end)
    bytes.writeDoubleBE(value, this.#end + 4)
    this.#end += 12
  }

  #none(): void {
    this.#room(4).writeInt32BE(-1, this.#end)
    this.#end += 4
  }

  /** With room for one more element of so many bytes. */
  #room(size: number): Buffer {
    this.#rows++
    if (this.#end + size > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(2 * (this.#end + size))
      this.#bytes.copy(grown, 0, 0, this.#end)
      this.#bytes = grown
    }
    return this.#bytes
  }

  clear(): void {
    this.#end = headBytes
    this.#rows = 0
  }

  /** As a statement's value. The bytes are this column's own: sent before the next row is written. */
  array(): Buffer {
    const head = [1, 0, oids[this.#type], this.#rows, 1]
    if (this.#rows === 0) head[0] = 0
    head.forEach((value, i) => void this.#bytes.writeInt32BE(value, 4 * i))
    return this.#bytes.subarray(0, this.#rows === 0 ? 12 : this.#end)
  }
}
