import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { CsvOptions, PluginOptions } from '../../plugins/csv-export/index.ts'
import { becomes, watch } from './watch.ts'

// On ecf8ce8, 49 of 129 assertions fail: an early 4xx is logged above info.

const levels = { info: 30, warn: 40, error: 50 }
const row = { id: 1 }

const failure = (statusCode?: number) =>
  Object.assign(new Error('no such report'), { code: 'NO_REPORT', statusCode })

t.test('an error of the source before the first byte is logged as the reply says', async (t) => {
  const expected: Record<string, [status: number | undefined, level: keyof typeof levels]> = {
    'a 404': [404, 'info'],
    'a 400': [400, 'info'],
    'a 499': [499, 'info'],
    'a 503': [503, 'error'],
    'none of its own': [undefined, 'error']
  }
  for (const [name, [status, level]] of Object.entries(expected)) {
    for (const place of ['the function', 'the first row', 'a stream']) {
      t.test(`${name}, by ${place}`, async (t) => {
        const { url, log, receipt } = await watch(t, (app) =>
          app.get('/', (_request, reply) =>
            reply.csv(
              place === 'the function'
                ? () => Promise.reject(failure(status))
                : // biome-ignore lint/correctness/useYield: it fails before its first row
                  async function* (): AsyncGenerator<object> {
                    throw failure(status)
                  }
            )
          )
        )
        t.equal((await fetch(url)).status, status ?? 500)
        t.match(await receipt(), { status: 'source_failed', errorCode: 'NO_REPORT' })
        const lines = log.lines.filter((line) => line.export !== undefined || line.err !== undefined)
        t.ok(lines.length > 0, 'it is logged')
        const highest = Math.max(...lines.map((line) => line.level))
        t.equal(highest, levels[level], `no line is above ${level}`)
      })
    }
  }

  t.test('a limit that is a 422', async (t) => {
    const { url, log, receipt } = await watch(t, (app) =>
      app.get('/', (_request, reply) => reply.csv([row, row], { maxRows: 1 }))
    )
    t.equal((await fetch(url)).status, 422)
    await receipt()
    const line = await log.find(/^export limit_reached/)
    t.equal(line.level, levels.info, 'info')
  })

  t.test('one after the first byte is an error, whatever its status', async (t) => {
    const { url, log, receipt } = await watch(t, (app) =>
      app.get('/', (_request, reply) =>
        reply.csv(async function* () {
          yield row
          await new Promise(setImmediate)
          await new Promise(setImmediate)
          throw failure(404)
        })
      )
    )
    await fetch(url)
      .then((response) => response.text())
      .catch(() => {})
    t.match(await receipt(), { status: 'source_failed' })
    t.equal((await log.find(/^export source_failed/)).level, levels.error)
  })
})

/** Where a clean-up fails. */
const cleanUps: Record<string, { source: () => any; options?: CsvOptions<any>; method?: string }> = {
  'return() throws': {
    source: () => ({
      [Symbol.iterator]: () => ({
        next: () => ({ done: false, value: row }),
        return() {
          throw new Error('clean-up')
        }
      })
    }),
    options: { maxRows: 10 }
  },
  'return() rejects': {
    source: () => ({
      [Symbol.asyncIterator]: () => ({
        next: async () => ({ done: false, value: row }),
        return: () => Promise.reject(new Error('clean-up'))
      })
    }),
    options: { maxRows: 10 }
  },
  'finally throws': {
    source: () =>
      (async function* () {
        try {
          for (;;) yield row
        } finally {
          // biome-ignore lint/correctness/noUnsafeFinally: it is what is tested
          throw new Error('clean-up')
        }
      })(),
    options: { maxRows: 10 }
  },
  'cancel() of a web stream rejects': {
    source: () =>
      new ReadableStream({
        pull: (controller) => controller.enqueue(row),
        cancel: () => Promise.reject(new Error('clean-up'))
      }),
    options: { maxRows: 10 }
  },
  'of what was not opened': {
    source: () =>
      Object.assign((function* () {})(), {
        return() {
          throw new Error('clean-up')
        }
      }),
    method: 'HEAD'
  }
}

t.test('a clean-up that fails is an error of its export', async (t) => {
  for (const [name, { source, options = {}, method = 'GET' }] of Object.entries(cleanUps)) {
    t.test(name, async (t) => {
      const { url, log } = await watch(
        t,
        (app) => app.get('/', (_request, reply) => reply.csv(source(), options)),
        { defaults: { genExportId: () => 'this-one' } }
      )
      await fetch(url, { method })
        .then((response) => response.text())
        .catch(() => {})
      const line = await log.find(/clean-up of a source failed/)
      t.match(line, { err: { message: 'clean-up' } })
      t.equal(line.level, levels.error, 'an error')
      t.equal(line.export?.id, 'this-one', "its export's id")
    })
  }
})

/** Sources that fail by themselves, before their first row and after it. */
const failing: Record<string, (rows: number) => any> = {
  generator: async function* (rows) {
    if (rows > 0) yield row
    await new Promise(setImmediate)
    throw new Error('the source')
  },
  'web stream': (rows) =>
    new ReadableStream({
      async pull(controller) {
        if (rows-- > 0) controller.enqueue(row)
        await new Promise(setImmediate)
        if (rows < 0) controller.error(new Error('the source'))
      }
    }),
  'stream of Node': (rows) => Readable.from(failing.generator?.(rows))
}

t.test('a source that fails has not failed to clean up, too', async (t) => {
  for (const [name, source] of Object.entries(failing)) {
    for (const rows of [0, 1]) {
      t.test(`${name}, after ${rows} rows`, async (t) => {
        const { url, log, receipt } = await watch(t, (app) =>
          app.get('/', (_request, reply) => reply.csv(source(rows)))
        )
        await fetch(url)
          .then((response) => response.text())
          .catch(() => {})
        t.match(await receipt(), { status: 'source_failed' })
        await new Promise(setImmediate)
        t.notOk(log.lines.some(({ msg }) => /clean-up/.test(msg)))
      })
    }
  }
})

t.test("the receipt's line of the log", async (t) => {
  const attempts: Record<string, { option: object; level: number | undefined }> = {
    'a level': { option: { receiptLogLevel: 'debug' }, level: 20 },
    off: { option: { receiptLogLevel: 'silent' }, level: undefined }
  }
  for (const [name, { option, level }] of Object.entries(attempts)) {
    t.test(name, async (t) => {
      const { default: Fastify } = await import('fastify')
      const { default: csvExport } = await import('../../plugins/csv-export/index.ts')
      const lines: { level: number; msg: string }[] = []
      const app = Fastify({
        logger: { level: 'debug', stream: { write: (line: string) => void lines.push(JSON.parse(line)) } }
      }) as unknown as FastifyInstance
      t.teardown(() => app.close())
      const isTaken = await app.register(csvExport, option as PluginOptions).then(
        () => true,
        () => false
      )
      t.ok(isTaken, 'there is an option for it')
      app.get('/', (_request, reply) => reply.csv([row]))
      await app.inject('/')
      t.ok(await becomes(() => lines.some(({ msg }) => msg === 'request completed')))
      t.equal(lines.find(({ msg }) => msg.startsWith('export complete'))?.level, level)
    })
  }
})
