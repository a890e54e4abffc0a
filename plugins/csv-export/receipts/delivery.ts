import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import { attempt, type LogLevel, logSafely } from '../guard.ts'
import type { ExportStart, ExportStatus, Receipt, ReceiptStore } from './receipts.ts'
import type { ExportProgress, ExportRecord } from './record.ts'

const startChannel = channel('fastify-csv-export:start')
const progressChannel = channel('fastify-csv-export:progress')
const endChannel = channel('fastify-csv-export:end')

/** Tells that an export has begun. Nobody is waited for. */
export function announce(record: ExportRecord, { log }: FastifyReply, { receipts }: Recipients): void {
  if (startChannel.hasSubscribers) startChannel.publish(record.progress())
  if (receipts?.begin === undefined) return
  const { start } = record
  tell(log, start, 'the receipt store', () => receipts.begin?.(start))
}

/** The progress is asked for only where somebody listens. */
export function publishProgress(progress: () => ExportProgress): void {
  if (progressChannel.hasSubscribers) progressChannel.publish(progress())
}

export interface Recipients {
  receipts?: ReceiptStore | undefined
  onReceipt?: ((receipt: Receipt, request: FastifyRequest) => unknown) | undefined
  receiptLogLevel?: LogLevel | 'silent' | undefined
}

/** How an export ended. */
export interface End {
  receipt: Receipt
  /** None if it is complete. */
  reason: Error | undefined
  /** Whether Fastify makes an error reply of the reason, and logs it. */
  isReplied: boolean
}

const levels: Record<ExportStatus, 'info' | 'warn' | 'error'> = {
  complete: 'info',
  client_gone: 'info',
  client_stalled: 'warn',
  server_closing: 'warn',
  server_ended: 'warn',
  limit_reached: 'warn',
  source_stalled: 'error',
  source_failed: 'error',
  abandoned: 'info'
}

/** Tells everyone who wants to know how an export ended; resolves when they know. Never rejects. */
export async function deliver(
  end: End,
  { log, request }: FastifyReply,
  { receipts, onReceipt, receiptLogLevel = levelOf(end) }: Recipients
): Promise<void> {
  const { receipt } = end
  if (receiptLogLevel !== 'silent') {
    const err = levels[receipt.status] === 'error' && !end.isReplied ? end.reason : undefined
    logSafely(log, receiptLogLevel, { err, export: receipt }, `export ${receipt.status}`)
  }
  warnOfColumns(log, receipt)
  if (endChannel.hasSubscribers) endChannel.publish(receipt)
  await Promise.all([
    receipts && tell(log, receipt, 'the receipt store', () => receipts.put(receipt)),
    onReceipt && tell(log, receipt, 'onReceipt', () => onReceipt(receipt, request))
  ])
}

/** Never rejects. */
async function tell(
  log: FastifyBaseLogger,
  about: Receipt | ExportStart,
  what: string,
  call: () => unknown
): Promise<void> {
  try {
    await call()
  } catch (err) {
    logSafely(log, 'error', { err, export: about }, `${what} failed`)
  }
}

/** One that is refused before its first byte, as what it asks for does not exist, is no failure of the server. */
function levelOf({ receipt, reason, isReplied }: End): LogLevel {
  const status = attempt(() => statusOf(reason)) ?? 500
  return isReplied && status >= 400 && status < 500 ? 'info' : levels[receipt.status]
}

/** As Fastify reads it. */
function statusOf(error: (Error & { statusCode?: number; status?: number }) | undefined): number | undefined {
  return error?.statusCode || error?.status
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
