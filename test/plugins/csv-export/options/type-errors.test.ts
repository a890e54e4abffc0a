import t from 'tap'
import { messagesOf } from '../../../compiler.ts'

/** What the calls below are about; `give` is one of the two helpers. */
const subjects = `
interface Cargo { id: number; weight: string | null; port: { name: string } | null }
declare const cargo: Cargo
declare const cargoes: AsyncIterable<Cargo>
declare const batches: AsyncIterable<Cargo[]>
declare const text: AsyncIterable<Buffer>
declare const encoded: AsyncIterable<string | Buffer>
declare const numbers: AsyncIterable<number>
declare const holes: AsyncIterable<Cargo | null>
declare const promised: Promise<Cargo[]>
declare const anyRows: any
declare const anyBatches: AsyncIterable<any[]>
declare const unknownArrays: AsyncIterable<readonly unknown[]>
declare const dates: AsyncIterable<Date[]>
declare const mixed: AsyncIterable<Cargo | string[]>
declare const shared: CsvOptions<Cargo> | undefined
class Row { id = 1; get name() { return '' } }
`

const helpers = {
  'reply.csv()': `import type { FastifyReply } from 'fastify'
import type { CsvOptions } from '#root/plugins/csv-export/index.ts'
declare const reply: FastifyReply
const give: FastifyReply['csv'] = reply.csv
`,
  'toCsv()': `import { toCsv as give, type ToCsvOptions as CsvOptions } from '#root/plugins/csv-export/index.ts'
`
}

/** A wrong call, and what has to be in its message besides the length that every one has. */
const wrong: [call: string, message: RegExp][] = [
  [
    'give(cargoes, { delimeter: ";" })',
    /'delimeter' does not exist in type '\w+<Cargo>'. Did you mean to write 'delimiter'/
  ],
  ['give(cargoes, { delimiter: 5 })', /'number' is not assignable to type 'string \| Buffer/],
  ['give(cargoes, { header: "yes" })', /'string' is not assignable to type 'boolean/],
  [
    'give(cargoes, { formulas: "drop" })',
    /'"drop"' is not assignable to type '"escape" \| "keep" \| "reject"/
  ],
  [
    'give(cargoes, { columns: ["wieght"] })',
    /'"wieght"' is not assignable to type 'Column<Cargo>'. Did you mean '"weight"'/
  ],
  ['give(cargoes, { columns: ["id", { key: "wieght" }] })', /'"wieght"' is not assignable/],
  ['give(cargoes, { columns: [{ key: "wieght", mask: () => true }] })', /'"wieght"' is not assignable/],
  ['give(cargoes, { columns: [{ key: "any", value: (row) => row.wieght }] })', /Did you mean 'weight'/],
  ['give(cargoes, { columns: ["id.name"] })', /'"id.name"' is not assignable/],
  ['give(cargoes, { columns: [{ key: "id", title: "No." }] })', /'title' does not exist/],
  [
    'give(async () => [cargo], { columns: ["wieght"] })',
    /'"wieght"' is not assignable to type 'Column<Cargo>'/
  ],
  ['give(cargo)', /'Cargo' is not assignable to parameter of type '\w+<SourceInput</],
  ['give(cargo, { header: false })', /'Cargo' is not assignable to parameter of type '\w+<SourceInput</],
  ['give({ id: 1 })', /'id' does not exist in type '\w+<SourceInput</],
  ['give(5)', /'number' is not assignable to parameter of type '\w+<SourceInput</],
  [
    'give(promised, { header: false })',
    /'Promise<Cargo\[\]>' is not assignable to parameter of type '\w+<SourceInput</
  ],
  ['give([1, 2])', /each row has to be an object or an array/],
  ['give(numbers)', /each row has to be an object or an array/],
  ['give(numbers, { columns: ["any"] })', /each row has to be an object or an array/],
  ['give(holes)', /each row has to be an object or an array/],
  ['give(holes, { columns: ["id"] })', /each row has to be an object or an array/],
  [
    'give(async function* ({ signal }) { yield signal.aborted ? null : cargo })',
    /each row has to be an object or an array/
  ],
  ['give(text, { encoded: true, delimiter: ";" })', /'delimiter' does not exist in type 'Encoded\w*Options'/],
  ['give(encoded, { encoded: true, formulas: "escape" })', /'"escape"' is not assignable to type '"keep"/],
  ['give(text, { header: false })', /Property 'encoded' is missing in type/],
  ['give(["text"])', /rows of encoded CSV need the option { encoded: true }/],
  ['give(batches, { maxRows: 5 })', /Property 'batches' is missing in type '{ maxRows: number; }'/],
  ['give(() => batches, { batches: false })', /'false' is not assignable to type 'true'/],
  ['give(batches)', /arrays of rows need the option { batches: true }/],
  ['give(async () => [[cargo]])', /arrays of rows need the option { batches: true }/],
  ['give(batches, { batches: true, columns: ["ID"] })', /'"ID"' is not assignable to type 'Column<Cargo>'/],
  [
    'give(batches, { batches: true, colums: ["id"] })',
    /'colums' does not exist in type 'Batch\w*Options<Cargo>'/
  ]
]

const right = [
  'give(cargoes)',
  'give(cargoes, undefined)',
  'give(cargoes, shared)',
  'give(cargoes, { columns: ["id", "port", "port.name", { key: "weight", header: "Weight" }] })',
  'give(cargoes, { columns: ["id", { key: "any", header: "Port", value: ({ port }) => port?.name, mask: (viewer) => viewer.id === 1 }] })',
  'give(batches, { batches: true, columns: [{ key: "any", value: (row) => row.id * 2 }] })',
  'give([new Row()], { columns: ["name"] })',
  'give(async ({ signal }) => (signal.aborted ? [] : [cargo]), { columns: ["id"] })',
  'give(async function* ({ signal }) { yield { stopped: signal.aborted } }, { columns: ["stopped"] })',
  'give(async function* ({ signal }) { yield { stopped: signal.aborted } })',
  'give([])',
  'give([], { columns: ["id"] })',
  'give([["a", 1]], { columns: ["any", "name"] })',
  'give(dates, { header: false })',
  'give(mixed, { columns: ["any"] })',
  'give(anyRows)',
  'give(anyRows, { columns: ["any"], batches: true })',
  'give<any>(cargoes, { columns: ["any"] })',
  'give(anyBatches)',
  'give(anyBatches, { batches: true, columns: ["any"] })',
  'give(unknownArrays, { columns: ["any"] })',
  'give(unknownArrays, { batches: true })',
  'give(batches, { batches: true, columns: ["id"] })',
  'give(encoded, { encoded: true, header: false, formulas: "keep" })',
  // A user's own helper, for rows of any type.
  'const a = <T extends object>(rows: Iterable<T>, options?: CsvOptions<T>) => [give(rows), give(rows, options)]',
  'const b = <T extends Record<string, unknown>>(rows: Iterable<T>) => give(rows, { header: false })',
  'const c = <T extends Cargo | string[]>(rows: Iterable<T>) => give(rows, { header: false })'
]

for (const [name, head] of Object.entries(helpers)) {
  t.test(`${name}: what the compiler says of a wrong call is short, and names what is wrong`, async (t) => {
    const before = head + subjects
    const calls = [...wrong.map(([call]) => call), ...right]
    const messages = await messagesOf(t, `${before}${calls.join('\n')}\n`)
    const first = before.split('\n').length
    for (const [index, [call, message]] of wrong.entries()) {
      const lines = messages.get(first + index) ?? []
      t.match(lines.join('\n'), message, call)
      t.ok(lines.length >= 1 && lines.length <= 4, `${call}: ${lines.length} lines`)
    }
    for (const [index, call] of right.entries()) {
      t.equal(messages.get(first + wrong.length + index)?.join('\n'), undefined, call)
    }
  })
}
