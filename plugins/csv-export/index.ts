import type { FastifyInstance, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { declaredLength } from './connection/connection.ts'
import { CsvEncoder, type Encoder } from './csv/encoder.ts'
import { ChunkEncoder, EncodedRows, KeptBytes } from './csv/ready-text.ts'
import { CSV_EXPORT_RANGE, CSV_EXPORT_REPLY_SENT } from './errors.ts'
import { logSafely, toError } from './guard.ts'
import { internals, type KeptFile } from './internals.ts'
import { checkCsvOptions, checkPluginOptions, checkStreamTextOptions } from './options/check.ts'
import {
  type ContentCoding,
  contentCodings,
  type Heartbeat,
  type ViewerOptions,
  viewerOf
} from './options/http.ts'
import { defined } from './options/option.ts'
import {
  type BatchOptions,
  type BatchToCsvOptions,
  type CsvOptions,
  type CsvOptionsFor,
  csvDefaults,
  type EncodedOptions,
  type EncodedToCsvOptions,
  type PluginOptions,
  registrationDefaults,
  type StreamTextOptions,
  streamTextDefaults,
  type ToCsvOptions
} from './options/options.ts'
import { checkExportId, checkReturned, closeGraceOf } from './options/registration.ts'
import type {
  Advised,
  AnyItem,
  Bytes,
  Column,
  ColumnKey,
  KindOf,
  LoneRowsAdvice,
  RowsAdvice
} from './options/row-types.ts'
import { checkSettings, settler } from './options/settings.ts'
import type { StreamOptions } from './options/stream.ts'
import { addProbeRoute } from './probe/route.ts'
import { MemoryReceipts } from './receipts/receipts.ts'
import type { ExportProgress } from './receipts/record.ts'
import { ReplyCoding } from './reply/content-coding.ts'
import { ExportReply, type ReplyOptions } from './reply/export-reply.ts'
import { onHead, prepareErrorReply, setType } from './reply/headers.ts'
import { RunningExports } from './reply/running.ts'
import { endWithServer } from './reply/shutdown.ts'
import { Source, type SourceContext, type SourceInput } from './stream/source.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * The exports of this process that have begun and not ended: those of the context that the plugin is registered in,
     * and of the contexts below it. For operators alone: who has an export's id can ask for its receipt.
     * @example
     * app.get('/exports', { onRequest: operatorsOnly }, () => app.csvExports.running())
     */
    csvExports: {
      /** In the order in which they were called for. */
      running(): ExportProgress[]
      /**
       * Ends an export as a closing server does: an error reply before its first byte (503), a visible break after it.
       * Its receipt: `server_ended`, CSV_EXPORT_SERVER_ENDED.
       * @returns whether it ran
       */
      end(id: string): boolean
    }
  }

  interface FastifyReply {
    /**
     * Streams rows as a CSV download, in constant memory, at the pace of the client.
     *
     * An error before the first byte becomes a normal error reply; one after it breaks the connection, so that the
     * client never takes a part of the file for the whole.
     *
     * @param rows an iterable or async iterable of objects or of arrays, or a function that opens one; the function
     * is called only when the body is wanted, with a `signal` that fires when the client is gone or the export failed
     * @param options see {@link CsvOptions}; with `batches: true`, rows come in arrays of them, with
     * `encoded: true`, as strings or Buffers of CSV; what is left out is taken from the plugin's own options
     * @throws CSV_EXPORT_INVALID_ROWS, CSV_EXPORT_SOURCE_USED, CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION,
     * CSV_EXPORT_REPLY_SENT
     * @example
     * app.get('/users.csv', (request, reply) =>
     *   reply.csv(users.all(), { filename: 'users.csv', columns: ['id', 'name'] })
     * )
     */
    csv<Item extends AnyItem>(rows: Advised<SourceInput<Item>, LoneRowsAdvice[KindOf<Item>]>): this
    /** As with the rows alone. @param options see {@link CsvOptions}, and above */
    csv<Item extends AnyItem>(
      rows: Advised<SourceInput<Item>, RowsAdvice[KindOf<Item>]>,
      options: CsvOptionsFor<Item>[KindOf<Item>]
    ): this

    /**
     * Streams text: each string or Buffer reaches the client when it is yielded.
     * Backpressure, aborts, errors and headers are those of `reply.csv()`.
     *
     * @param chunks an iterable or async iterable of strings or Buffers, or a function that opens one
     * @param options see {@link StreamTextOptions}
     * @throws CSV_EXPORT_INVALID_ROWS, CSV_EXPORT_SOURCE_USED, CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION,
     * CSV_EXPORT_REPLY_SENT
     * @example
     * reply.streamText(progress(), { heartbeat: { every: 15_000, text: '\n' } })
     */
    streamText(chunks: SourceInput<Bytes>, options?: StreamTextOptions): this
  }
}

/** A chunk is sent when it is yielded, and is no row. */
const withoutRows = { chunkSize: 0, batches: false, compress: false, maxRows: 0 } as const

/** They have held while it was made, for whom it was made. */
const withoutLimits = { maxBytes: 0, maxDuration: 0, digest: false, viewer: undefined } as const

function csvType(hasHeader: boolean | string | Buffer): string {
  return `text/csv; charset=utf-8; header=${hasHeader ? 'present' : 'absent'}`
}

type ReplySettings = Omit<ReplyOptions, 'id' | 'report' | 'helper' | 'key' | 'coding' | 'viewer'> &
  Pick<StreamOptions, 'report'> & { compress: boolean | readonly ContentCoding[] } & ViewerOptions

async function csvExport(app: FastifyInstance, options: PluginOptions): Promise<void> {
  checkPluginOptions(options)
  const closeGrace = closeGraceOf(options, app.initialConfig.pluginTimeout)
  // A reply's export, here as the hooks of a context above, which has the plugin too, are called for it as well. No WeakMap:
  // V8's young collector holds the values of one, so that each export, its rows included, would be promoted to the old space.
  const sent = Symbol('fastify-csv-export.sent')
  type WithExport = FastifyReply & { [sent]?: ExportReply<any> }
  const registered = defined(options)
  const server = { ...registrationDefaults, ...registered }
  const settleCsv = settler(csvDefaults, registered)
  const settleText = settler(streamTextDefaults, registered)
  checkSettings(settleCsv({}))
  const running = new RunningExports(server)
  endWithServer(app, (passed) => running.close(Math.max(0, closeGrace - passed)))

  // No async function: what Fastify throws after one, as where the head has gone, nobody would catch.
  app.addHook('onError', (_request, reply, error, done) => {
    const exported = (reply as WithExport)[sent]
    if (exported !== undefined) {
      exported.endForError(error)
      prepareErrorReply(reply, error)
    }
    done()
  })

  // The first time it comes with the body itself, or with what a hook has made of it.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    const refusal = (reply as WithExport)[sent]?.admitReply()
    if (refusal === undefined) done()
    else done(refusal)
  })

  app.decorate('csvExports', { running: () => running.list(), end: (id: string) => running.end(id) })

  app.decorateReply('csv', function (
    this: FastifyReply,
    rows: SourceInput<unknown>,
    options: CsvOptions = {}
  ) {
    return sendRows(this, rows, options, settleCsv)
  } as FastifyReply['csv'])

  app.decorateReply('streamText', function (this: FastifyReply, chunks, options = {}) {
    return stream(this, 'streamText', chunks, () => {
      checkStreamTextOptions(options)
      const settings = { ...settleText(options), ...withoutRows }
      const viewer = viewerOf(settings, this.request)
      return { encoder: new ChunkEncoder(), settings, type: settings.type, viewer }
    })
  } as FastifyReply['streamText'])

  app.decorate(internals, { registered, sendFile })
  if (server.probe !== false) {
    // The users' columns are not those of its rows, and it has nobody to mask them for.
    const settleProbe = settler(csvDefaults, defined({ ...registered, columns: undefined }))
    addProbeRoute(app, server.probe, (reply, rows, options) => sendRows(reply, rows, options, settleProbe))
  }

  function sendRows(
    reply: FastifyReply,
    rows: SourceInput<unknown>,
    options: CsvOptions,
    settle: typeof settleCsv
  ): FastifyReply {
    return stream(reply, 'csv', rows, (source) => {
      checkCsvOptions(options)
      const settings = settle(options)
      checkSettings(settings)
      const { encoded, header } = settings
      const viewer = viewerOf(settings, reply.request)
      const encoder = encoded
        ? new EncodedRows(header)
        : new CsvEncoder(settings, () => source.columns, viewer)
      return { encoder, settings, type: csvType(header), viewer }
    })
  }

  /** A file that is there already, or a part of it: as many bytes as the head says, or a break. */
  function sendFile(reply: FastifyReply, chunks: SourceInput<Bytes>, file: KeptFile): FastifyReply {
    return stream(reply, 'file', chunks, () => {
      const { csv, headers, rows, ...own } = file
      const settings = { ...settleCsv(csv), ...withoutRows, ...withoutLimits, ...own }
      return { encoder: new KeptBytes(rows, file.length), settings, type: csvType(settings.header), headers }
    })
  }

  /** What both helpers share: a source, let go of when anything is wrong, and a body handed to Fastify. */
  function stream<R extends FastifyReply, T>(
    reply: R,
    helper: ReplyOptions['helper'],
    input: SourceInput<T>,
    prepare: (source: Source<T>) => {
      encoder: Encoder<T>
      settings: ReplySettings
      type: string
      headers?: KeptFile['headers']
      viewer?: unknown
    }
  ): R {
    let id: string | undefined
    const source = new Source(helper === 'csv' ? 'rows' : 'chunks', input, (err) =>
      logSafely(reply.log, 'error', { err, export: id && { id } }, 'the clean-up of a source failed')
    )
    try {
      const previous = (reply as WithExport)[sent]
      // `sent` is still false while a body streams. One that failed early makes room for an error reply.
      const isSent = reply.sent || declaredLength(reply.raw) !== undefined || previous?.isOver === false
      if (isSent) throw new CSV_EXPORT_REPLY_SENT(helper)
      const { request } = reply
      const { range } = request.headers
      // Some clients would append what a 200 brings to what they have got of an earlier export (docs/failures.md).
      // Who sends a file has looked at it.
      if (helper !== 'file' && range !== undefined && !/^bytes=0+-/.test(range))
        throw new CSV_EXPORT_RANGE(range)
      const key = server.concurrencyKey?.(request)
      if (key !== undefined) checkReturned('concurrencyKey', key)
      running.admit(reply, key)
      id = server.genExportId(request)
      checkExportId(id)
      const { encoder, settings, type, headers, viewer } = prepare(source)
      // From here on nothing throws: an error reply would have these headers too.
      setType(reply, type)
      if (headers !== undefined) reply.headers(headers)
      const report = settings.report ?? request.routeOptions.url ?? request.url
      const { compress } = settings
      const codings = compress === true ? contentCodings : compress || []
      const coding = ReplyCoding.choose(reply, codings)
      const exported = new ExportReply(
        reply,
        source,
        encoder,
        { ...settings, id, report, helper, key, coding, viewer },
        running
      )
      // Whichever is the latest then.
      if (previous === undefined) {
        const latest = () => (reply as WithExport)[sent]
        onHead(
          reply.raw,
          (statusCode) => latest()?.completeHead(statusCode),
          () => latest()?.checkHead()
        )
      }
      ;(reply as WithExport)[sent] = exported
      return reply.send(exported.body) as R
    } catch (error) {
      source.release(error)
      throw toError(error)
    }
  }
}

const plugin = fp(csvExport, { fastify: '5.x', name: 'fastify-csv-export' })

export default plugin
export type {
  ExportStart,
  ExportStatus,
  MemoryReceiptsOptions,
  NameList,
  Receipt,
  ReceiptStore
} from './receipts/receipts.ts'
export { columnsOf, type SchemaColumn } from './schema/columns.ts'
export { type CsvResponse, type CsvResponseOptions, csvResponse } from './schema/csv-response.ts'
export type { RowSchema } from './schema/row-schema.ts'
export { type KeysetPage, type KeysetPagesOptions, keysetPages } from './stream/keyset-pages.ts'
export { type CsvChunks, toCsv } from './stream/to-csv.ts'
export type {
  BatchOptions,
  BatchToCsvOptions,
  Column,
  ColumnKey,
  ContentCoding,
  CsvOptions,
  EncodedOptions,
  EncodedToCsvOptions,
  ExportProgress,
  Heartbeat,
  PluginOptions,
  SourceContext,
  SourceInput,
  StreamTextOptions,
  ToCsvOptions
}
export { MemoryReceipts, plugin as csvExport }
