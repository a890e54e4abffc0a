import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type View, WAIT, WHOLE_ROWS } from '../subject.ts'
import type { Watch } from './engine.ts'

const sizes: Record<View, number> = {
  few: 10,
  whole: WHOLE_ROWS,
  failing: WHOLE_ROWS,
  big: 300_000,
  waiting: 6_000
}

/** A server of NDJSON in the place of a database: each reply is a statement. */
export async function watchHttp(): Promise<Watch> {
  const running = new Map<ServerResponse, string>()
  const sleeping = new Set<ServerResponse>()
  const server = createServer(async (request, response) => {
    const view = (request.url as string).slice(1) as View
    const closed = new AbortController()
    running.set(response, view)
    response.once('close', () => {
      closed.abort()
      running.delete(response)
      sleeping.delete(response)
    })
    for (let n = 1; n <= sizes[view] && !response.destroyed; n++) {
      if (view === 'failing' && n === 15_050) return void response.destroy()
      if (view === 'waiting' && n === 3_050) {
        sleeping.add(response)
        await sleep(WAIT)
        sleeping.delete(response)
      }
      const line = `${JSON.stringify({ n, text: 'x'.repeat(100) + n })}\n`
      if (!response.write(line)) await once(response, 'drain', closed).catch(() => {})
    }
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    running: async (view) => [...running.values()].filter((name) => name === view).length,
    sleeping: async () => sleeping.size,
    async kill(view) {
      for (const [response, name] of running) if (name === view) response.destroy()
    },
    async close() {
      server.closeAllConnections()
    }
  }
}
