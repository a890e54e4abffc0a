import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import { logSafely } from '../guard.ts'
import type { ExportStatus, Receipt, ReceiptStore } from './receipts.ts'
import type { ExportProgress } from './record.ts'

const startChannel = channel('fastify-csv-export:start')
const progressChannel = channel('fastify-csv-export:progress')
const endChannel = channel('fastify-csv-export:end')

/** The progress is asked for only where somebody listens. */
export function publishStart(progress: () => ExportProgress): void {
  if (startChannel.hasSubscribers) startChannel.publish(progress())
}

export function publishProgress(progress: () => ExportProgress): void {
  if (progressChannel.hasSubscribers) progressChannel.publish(progress())
}

export interface Recipients {
  receipts?: ReceiptStore | undefined
  onReceipt?: ((receipt: Receipt, request: FastifyRequest) => unknown) | undefined
}

const levels: Record<ExportStatus, 'info' | 'warn' | 'error'> = {
  complete: 'info',
  client_gone: 'info',
  client_stalled: 'warn',
  server_closing: 'warn',
  limit_reached: 'warn',
  source_stalled: 'error',
  source_failed: 'error',
  abandoned: 'info'
}

/** Tells everyone who wants to know how an export ended; resolves when they know. Never rejects. */
export async function deliver(
  receipt: Receipt,
  error: unknown,
  reply: FastifyReply,
  { receipts, onReceipt }: Recipients
): Promise<void> {
  const { log, request } = reply
  const level = levels[receipt.status]
  const err = level === 'error' ? error : undefined
  logSafely(log, level, { err, export: receipt }, `export ${receipt.status}`)
  warnOfColumns(log, receipt)
  if (endChannel.hasSubscribers) endChannel.publish(receipt)
  const attempt = async (what: string, tell: () => unknown): Promise<void> => {
    try {
      await tell()
    } catch (err) {
      logSafely(log, 'error', { err, export: receipt }, `${what} failed`)
    }
  }
  await Promise.all([
    receipts && attempt('the receipt store', () => receipts.put(receipt)),
    onReceipt && attempt('onReceipt', () => onReceipt(receipt, request))
  ])
}

const warnings = {
  columnsWithoutValue: 'an export has columns that no row had a value for',
  keysWithoutColumn: 'an export has left out keys that its first row did not have'
} as const

/** What is wrong in most cases, and no failure in some. */
function warnOfColumns(log: FastifyBaseLogger, receipt: Receipt): void {
  const { id, report } = receipt
  for (const name of ['columnsWithoutValue', 'keysWithoutColumn'] as const) {
    if (receipt[name] === null) continue
    logSafely(log, 'warn', { export: { id, report, [name]: receipt[name] } }, warnings[name])
  }
}
