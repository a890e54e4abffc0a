import swagger from '@fastify/swagger'
import { Validator } from '@seriousme/openapi-schema-validator'
import Fastify from 'fastify'
import { jsonSchemaTransform, serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import t from 'tap'
import { Type } from 'typebox'
import { z } from 'zod'
import { csvExport, csvResponse, type RowSchema } from '../../../../plugins/csv-export/index.ts'

const schemas: Record<string, RowSchema> = {
  typebox: Type.Object({ id: Type.Integer({ title: 'No.' }), when: Type.String({ format: 'date-time' }) }),
  json: {
    $defs: { when: { type: 'string', format: 'date-time' } },
    properties: { id: { title: 'No.', type: ['integer', 'null'] }, when: { $ref: '#/$defs/when' } }
  } as RowSchema,
  zod: z.object({ id: z.int().meta({ title: 'No.' }), when: z.iso.datetime().nullable() })
}

/** The document of routes with these rows, as one who has this serializer would have it. */
async function documentOf(openapi: string, zod: typeof z | undefined) {
  const app = Fastify()
  if (zod !== undefined) {
    app.setValidatorCompiler(validatorCompiler)
    app.setSerializerCompiler(serializerCompiler)
  }
  await app.register(swagger, {
    openapi: { openapi, info: { title: 'orders', version: '1' } },
    exposeHeadRoutes: true,
    ...(zod === undefined ? {} : { transform: jsonSchemaTransform })
  })
  await app.register(csvExport)
  for (const [name, schema] of Object.entries(schemas)) {
    app.get(`/${name}.csv`, { schema: { response: csvResponse(schema, { zod }) } }, (_request, reply) =>
      reply.csv([])
    )
  }
  await app.ready()
  // As a client would get it.
  return JSON.parse(JSON.stringify(app.swagger()))
}

const validate = async (document: Parameters<Validator['validate']>[0]) =>
  (await new Validator().validate(structuredClone(document))).errors

for (const openapi of ['3.0.3', '3.1.0']) {
  for (const [serializer, zod] of [['Fastify', undefined] as const, ['zod', z] as const]) {
    t.test(`OpenAPI ${openapi} of routes with the serializer of ${serializer} is valid`, async (t) => {
      const document = await documentOf(openapi, zod)
      t.equal(await validate(document), undefined)
      for (const name of Object.keys(schemas)) {
        const { get, head } = document.paths[`/${name}.csv`]
        t.same(get.responses[200].content, { 'text/csv': { schema: { type: 'string' } } })
        const columns = '- `No.`: integer\n- `when`: string (date-time)'
        t.equal(get.responses[200].description, `CSV, with these columns:\n\n${columns}`, name)
        t.same(Object.keys(get.responses), ['200', '412', '422', '429', '500', '503', '504'])
        for (const status of [412, 422, 429, 500, 503, 504]) {
          const { description, content } = get.responses[status]
          t.match(description, /\.$/)
          t.same(Object.keys(content), ['application/json'])
          t.same(Object.keys(content['application/json'].schema.properties), [
            'statusCode',
            'code',
            'error',
            'message'
          ])
        }
        t.same(head.responses, get.responses)
        // The transform of zod's passes no headers on.
        if (zod !== undefined) continue
        t.same(Object.keys(get.responses[200].headers), ['Content-Disposition', 'Export-Id'])
        for (const status of [429, 503]) {
          t.same(get.responses[status].headers['Retry-After'].schema, { type: 'integer' })
        }
      }
      document.paths['/zod.csv'].get.responses[200].content['text/csv'].schema = 'string'
      t.ok(await validate(document), 'the validator sees what is wrong there')
    })
  }
}
