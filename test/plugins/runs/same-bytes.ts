import { buffer } from 'node:stream/consumers'
import fc from 'fast-check'
import type { Test } from 'tap'
import { type CsvOptions, type PluginOptions, toCsv } from '../../../plugins/csv-export/index.ts'
import { csvOptions, toCsvOptionsOf } from '../../../plugins/csv-export/options/options.ts'
import { defineReport, type FileStore } from '../../../plugins/runs/index.ts'
import { anyExport } from '../csv-export/csv/random-exports.ts'
import { curlReply, finishedRun, type RunsServerOptions, serveRuns } from './runs.ts'

type Case = [rows: unknown, csv: CsvOptions]

const rows = Array.from({ length: 20 }, (_, id) => ({
  id,
  name: `Crème "${id}"`,
  at: new Date(id),
  n: -id
}))

const fixed: Case[] = [
  [rows, {}],
  [[rows, rows], { batches: true, columns: ['name', { key: 'id', header: 'No.' }] }],
  [
    rows,
    {
      columns: [
        { key: 'twice', value: ({ id }) => id * 2 },
        { key: 'name', mask: ({ role }) => role === 'buyer' },
        { key: 'id', mask: ({ role }) => role !== 'buyer' }
      ]
    }
  ],
  [['a,b\n', Buffer.from('1,2\n')], { encoded: true }],
  [rows, { excel: true, cast: { date: () => 'then', number: (value: number) => value.toFixed(1) } }],
  [rows, { headerAsComment: true, quotedMatch: /ème/, quotedEmpty: true, formulas: 'escape' }],
  [rows, { bom: false, eof: false, endMark: '#else', chunkSize: 10, compress: ['gzip'], filename: 'é.csv' }],
  [rows, { delimiter: ';', quote: "'", escape: '\\', recordDelimiter: '\r\n', quoteRecordDelimiter: false }],
  [rows, { header: false, quoted: true, encoder: 'csv-stringify' }],
  [rows, { maxRows: 20, maxBytes: 10_000, maxDuration: 60_000, sourceTimeout: 60_000, digest: true }],
  [rows, { quotedString: true, stallTimeout: 60_000, onReceipt: () => {} }],
  // More than one write of a store, and one piece of a read.
  [Array.from({ length: 100_000 }, (_, id) => ({ id, name: `Crème ${id}` })), { chunkSize: 100_000 }],
  [[], { columns: ['id'] }],
  [[], {}]
]

const random = fc
  .sample(anyExport, { numRuns: 5, seed: 1 })
  .map(({ columns, rows, settings }): Case => [rows, { columns, ...settings }])

const viewer = { role: 'buyer' }

const defaults: PluginOptions = { bom: true, quotedEmpty: true, endMark: '#end', commitAfter: 5_000 }

/** Checks that a streamed reply, the file of a run and `toCsv()` are the same, with options of all kinds. */
export async function givesSameBytes(
  t: Test,
  options: Pick<RunsServerOptions, 'connectionString'> & { files: FileStore | undefined }
): Promise<void> {
  const cases = [...fixed, ...random]
  const tried = new Set(Object.keys(Object.assign({}, defaults, ...fixed.map(([, csv]) => csv))))
  const untried = Object.keys(csvOptions).filter((name) => !tried.has(name))
  t.same(untried.sort(), ['report', 'viewer'], 'each option that a report has is tried')
  const reports = cases.map(([rows, csv], index) =>
    defineReport({
      name: `case-${index}`,
      version: 1,
      parameters: { type: 'object', additionalProperties: false, properties: {} },
      viewer: () => viewer,
      rows: () => rows as [],
      csv
    })
  )
  const { url } = await serveRuns(t, { ...options, reports, defaults, concurrency: 4, maxOpenPerOwner: 0 })
  await Promise.all(
    cases.map(async ([rows, csv], index) => {
      const script = await buffer(
        toCsv(rows as [], { ...toCsvOptionsOf(csv.encoded ? csv : { ...defaults, ...csv }), viewer })
      )
      const run = await finishedRun(url, `case-${index}`)
      t.match(run, { state: 'succeeded', error: null })
      const kept = await curlReply('-L', `${url}${run.result?.href}`)
      const reply = await curlReply(`${url}/reports/case-${index}.csv`)
      t.ok(reply.body.equals(script), `the reply of case ${index}`)
      t.ok(kept.body.equals(script), `the run of case ${index}`)
      t.equal(run.result?.bytes, script.length)
      for (const name of ['content-type', 'content-disposition']) {
        t.equal(kept.headers.get(name), reply.headers.get(name), name)
      }
    })
  )
}
