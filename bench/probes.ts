import { existsSync, readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'

/** Routes of a server under measurement: something small, and what memory its process has. */
export function addProbes(app: FastifyInstance): void {
  app.get('/json', async () => ({ hello: 'world' }))
  app.get('/memory', async () => ({ now: process.memoryUsage.rss(), peak: peakMemory() }))
}

/** Linux counts as resourceUsage().maxRSS what the process that started this one had, too. */
function peakMemory(): number {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'utf8') : ''
  return (Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1]) || process.resourceUsage().maxRSS) * 1024
}
