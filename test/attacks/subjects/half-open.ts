import type { Server } from 'node:http'
import type { FastifyInstance } from 'fastify'
import routes from './sockets.ts'

export { defaults } from './sockets.ts'

export default function (app: FastifyInstance): void {
  ;(app.server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true
  routes(app)
}
