import type { FastifyReply } from 'fastify'
import t from 'tap'
import { toCsv } from '../../../plugins/csv-export/index.ts'
import { cursorRows } from '../../../plugins/pg/index.ts'
import { startDatabase } from '../../database.ts'
import { curl, serve } from '../../helper.ts'
import { collect, openPool } from './pools.ts'

const url = await startDatabase(t, { rows: 0 })
const text = 'SELECT 1 AS region, 2 AS "2024", 3 AS "a.b", NULL AS "constructor"'
const header = 'region,2024,a.b,constructor\n'

const statements: Record<string, { text: string; options?: object; file: string }> = {
  'one row': { text, file: `${header}1,2,3,\n` },
  'no row': { text: `${text} WHERE false`, file: header },
  'a first row after the head': { text: `${text} FROM pg_sleep(0.3)`, file: `${header}1,2,3,\n` },
  'no header': { text, options: { header: false }, file: '1,2,3,\n' },
  'an end mark': { text: `${text} WHERE false`, options: { endMark: '#END' }, file: `${header}#END 0,,,\n` },
  'columns of the call': { text: 'SELECT 1', options: { columns: ['one'] }, file: 'one\n1\n' },
  'names that a spreadsheet would run': {
    text: 'SELECT 1 AS "=1+1"',
    options: { formulas: 'escape' },
    file: "'=1+1\n1\n"
  },
  'no columns at all': { text: 'SET LOCAL work_mem = 64', file: '' }
}

t.test('a file has the names that PostgreSQL gives its columns', async (t) => {
  const pool = openPool(t, url)
  const { url: server } = await serve(t, (app) => {
    app.get<{ Params: { name: string } }>('/:name', ({ params: { name } }, reply: FastifyReply) => {
      const { text, options } = statements[name] as { text: string; options?: object }
      return reply.csv(({ signal }) => cursorRows(pool, text, [], { signal }), { commitAfter: 0, ...options })
    })
  })
  for (const [name, { text, options, file }] of Object.entries(statements)) {
    const { code, body } = await curl(`${server}/${encodeURIComponent(name)}`)
    t.strictSame({ code, body }, { code: 0, body: file }, name)
    const chunks = await collect(toCsv(cursorRows(pool, text), options))
    t.equal(Buffer.concat(chunks).toString(), file, `toCsv() of ${name}`)
  }
})

t.test('two columns of one name are an error reply that names them', async (t) => {
  const pool = openPool(t, url)
  const { url: server } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv(cursorRows(pool, 'SELECT 1 AS "id", 2 AS "id"')))
  })
  const { body } = await curl(server)
  t.match(JSON.parse(body), { statusCode: 500, code: 'CSV_EXPORT_EQUAL_NAMES', message: /"id"/ })
})
