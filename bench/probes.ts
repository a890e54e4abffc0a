import { existsSync, readFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'
import type { FastifyInstance } from 'fastify'

/** Routes of a server under measurement: something small, what memory its process has, and where its time goes. */
export function addProbes(app: FastifyInstance): void {
  app.get('/json', async () => ({ hello: 'world' }))
  app.get('/memory', async () => ({ now: process.memoryUsage.rss(), peak: peakMemory() }))
  const session = new Session()
  app.get('/profile/start', async () => {
    session.connect()
    await session.post('Profiler.enable')
    return session.post('Profiler.start')
  })
  app.get('/profile/stop', async () => {
    const { profile } = await session.post('Profiler.stop')
    session.disconnect()
    return profile
  })
}

/** Linux counts as resourceUsage().maxRSS what the process that started this one had, too. */
function peakMemory(): number {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'utf8') : ''
  return (Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1]) || process.resourceUsage().maxRSS) * 1024
}
