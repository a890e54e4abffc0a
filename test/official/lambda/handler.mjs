import { once } from 'node:events'
import { createRequire } from 'node:module'
import { pipeline } from 'node:stream/promises'
import { setTimeout } from 'node:timers/promises'
import Fastify from 'fastify'
import csvExport from '../../../plugins/csv-export/index.ts'
import { exports } from '../exports.ts'

const awsLambdaFastify = createRequire(import.meta.url)('@fastify/aws-lambda')

const app = Fastify()
app.register(csvExport, {
  // The runtime takes what is printed for the function's log.
  onReceipt: ({ report, status, rows }) => console.log(`receipt ${report} ${status} ${rows}`)
})
app.register(async (app) => {
  exports(app)
  for (const commitAfter of [50, 900_000])
    app.get(`/slow-${commitAfter}.csv`, (_request, reply) =>
      reply.csv(
        async function* () {
          await setTimeout(200)
          yield { id: 1 }
        },
        { commitAfter }
      )
    )
})

const proxy = awsLambdaFastify(app, { payloadAsStream: true })
await app.ready()

export const streamed = awslambda.streamifyResponse(async (event, response, context) => {
  const { meta, stream } = await proxy(event, context)
  const body = awslambda.HttpResponseStream.from(response, meta)
  for await (const chunk of stream) if (!body.write(chunk)) await once(body, 'drain')
  body.end()
})

/** As the pages of AWS and of the plugin have it. */
export const piped = awslambda.streamifyResponse(async (event, response, context) => {
  const { meta, stream } = await proxy(event, context)
  await pipeline(stream, awslambda.HttpResponseStream.from(response, meta))
})
