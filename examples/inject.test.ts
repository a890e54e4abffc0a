import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import Fastify from 'fastify'
import csvExport from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

test('a download is whole, or fails', async () => {
  const app = Fastify()
  await app.register(csvExport)
  app.get('/whole.csv', (_request, reply) => reply.csv([{ id: 1 }, { id: 2 }]))
  app.get('/broken.csv', (_request, reply) =>
    reply.csv(async function* () {
      yield { id: 1 }
      await setTimeout(10) // the first row has left
      throw new Error('the source failed')
    })
  )

  const { statusCode, body } = await app.inject('/whole.csv')
  assert.equal(statusCode, 200)
  assert.equal(body, 'id\n1\n2\n')
  await assert.rejects(app.inject('/broken.csv'))
})
