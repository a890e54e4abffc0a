import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CSV_EXPORT_TOO_MANY_PROBES } from '../errors.ts'
import type { EncodedOptions } from '../options/options.ts'
import { chosenCoding } from '../reply/content-coding.ts'
import { most, probeLines, readProbeRequest, type Seen, usualPath } from './rows.ts'

/** What is registered for the users' exports is no limit of these, which have their own, and know no users. */
export const probeOptions: EncodedOptions = {
  encoded: true,
  formulas: 'keep',
  header: true,
  filename: 'probe.csv',
  viewer: () => null,
  sourceTimeout: 0,
  maxBytes: 0,
  maxDuration: 1.5 * most.milliseconds
}

type Rows = (context: { signal: AbortSignal }) => AsyncGenerator<string>

/**
 * Adds the route that `npx fastify-csv-export probe` asks: a real export, whose rows say when they were made.
 * @param path true for the usual one
 * @param send `reply.csv()`, where no columns are registered
 */
export function addProbeRoute(
  app: FastifyInstance,
  path: string | true,
  send: (reply: FastifyReply, rows: Rows, options: EncodedOptions) => FastifyReply
): void {
  let running = 0
  // For @fastify/swagger: it is none of the users'.
  const schema = { hide: true } as object
  app.get(path === true ? usualPath : path, { schema }, (request, reply) => {
    const asked = readProbeRequest(new URL(request.url, 'http://probe').searchParams)
    async function* rows({ signal }: { signal: AbortSignal }) {
      if (running === most.atATime) throw new CSV_EXPORT_TOO_MANY_PROBES(running)
      running++
      try {
        yield* probeLines(asked, seen(request, chosenCoding(reply)), signal)
      } finally {
        running--
      }
    }
    return send(reply, rows, { ...probeOptions, maxRows: asked.breakAfter })
  })
}

function seen({ raw, headers }: FastifyRequest, coding = ''): Seen {
  return { httpVersion: raw.httpVersion, coding, asksTrailers: /\btrailers\b/i.test(`${headers.te}`) }
}
