import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import { app } from '../examples/recipes.ts'
import type { Receipt } from '../plugins/csv-export/index.ts'

export const page = await readFile(new URL('../docs/recipes.md', import.meta.url), 'utf8')

export interface Block {
  language: string
  code: string
}

export const blocks: Block[] = [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(
  ([, language = '', code = '']) => ({ language, code })
)

/** The block after the one that is asked for: what comes out of it. */
export function outputOf(isAsked: (block: Block) => boolean): Block {
  const index = blocks.findIndex(isAsked)
  const output = blocks[index + 1]
  if (index === -1 || output === undefined) throw new Error('docs/recipes.md has no such block')
  return output
}

/** The bytes that a block shows: hexadecimal, a string of JSON, or the text itself. */
export function bytesOf({ language, code }: Block): Buffer {
  if (/^[\da-f\s]+$/.test(code)) return Buffer.from(code.replaceAll(/\s/g, ''), 'hex')
  return Buffer.from(language === 'json' ? JSON.parse(code) : code)
}

/** The code of a program for the reader, by its language on the page. */
export function codeOf(language: string, index = 0): string {
  return blocks.filter((block) => block.language === language)[index]?.code ?? ''
}

/** What people type, and what breaks a CSV file. */
export const hostileText = fc.oneof(
  fc.string({ unit: fc.constantFrom(...'"\',;\t\n\r\\N=+-@ aZöß😀\ufeff\0') }),
  fc.constantFrom('', '\\N', '\\.', 'NA', '007', 'ID', 'sep=;')
)

/** Rows that a recipe gets instead of its own. */
let given: Iterable<object> | undefined
let onReceipt: ((receipt: Receipt) => void) | undefined

app.addHook('onRequest', async (_request, reply) => {
  const csv = reply.csv.bind(reply)
  reply.csv = ((rows: Iterable<object>, options: object) =>
    csv(given ?? rows, { ...options, onReceipt })) as typeof reply.csv
})

/** The file of a recipe. */
export async function download(path: string, rows?: Iterable<object>): Promise<Buffer> {
  given = rows
  return (await app.inject(path)).rawPayload
}

/** The receipt of a recipe with `reply.csv()`. */
export async function receiptOf(path: string, rows: Iterable<object>): Promise<Receipt> {
  const { promise, resolve } = Promise.withResolvers<Receipt>()
  onReceipt = resolve
  await download(path, rows)
  onReceipt = undefined
  return promise
}
