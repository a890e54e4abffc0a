import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Body } from './file.ts'
import type { Seen } from './seen.ts'

/** What a reader in the server's own process is to do. */
export interface Injected {
  headers: Record<string, string>
  /** How it leaves, after that many bytes or turns of the event loop, if it does. */
  leave: 'not' | 'destroy' | 'abort' | 'stall'
  bytes: number
  turns: number
  /** Rows of the whole file. */
  rows: number
}

/** What it has seen, as it is told another process. */
export interface InjectedSeen extends Pick<Seen, 'status' | 'exportId' | 'end'> {
  bytes: number
  isRight: boolean
  isFile: boolean
  text: string
}

/** Reads an export with `inject({ payloadAsStream: true })`. */
export async function inject(app: FastifyInstance, injected: Injected): Promise<InjectedSeen> {
  const { headers, leave, bytes, turns, rows } = injected
  const controller = new AbortController()
  const options = { url: '/export', headers, payloadAsStream: true, signal: controller.signal }
  // One that leaves may do so before there is a reply.
  if (leave === 'abort') sleep(turns).then(() => controller.abort())
  const response = await app.inject(options as object).catch(() => undefined)
  const status = response?.statusCode
  const { 'export-id': exportId, 'content-encoding': coding } = response?.headers ?? {}
  const body = new Body(status === 200, coding as string | undefined)
  const stream = (response as { stream?: () => Readable } | undefined)?.stream?.()
  let end = (stream === undefined ? 'short' : 'none') as Seen['end']
  if (stream !== undefined) {
    stream.on('error', () => {
      end = 'short'
    })
    const read = async (): Promise<void> => {
      for await (const part of stream) {
        body.take(part)
        if (leave === 'destroy' && body.bytes >= bytes) {
          stream.destroy()
          return
        }
        if (leave === 'stall' && body.bytes >= bytes) {
          await once(stream, 'error').catch(() => {})
          return
        }
        if (turns % 4 === 0) await turn()
      }
      end = 'whole'
    }
    await read().catch(() => {
      end = 'short'
    })
  }
  if (leave !== 'not' && end !== 'whole') end = 'left'
  return {
    status,
    exportId: exportId as string | undefined,
    end,
    bytes: body.bytes,
    isRight: body.isRight,
    isFile: end === 'whole' && status === 200 && body.isFileOf(rows),
    text: body.text
  }
}
