import { type ChannelListener, subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ExportProgress, Receipt } from '../csv-export/index.ts'

/** What counts of one; their types would need pg's. */
interface Run {
  report: string
  state: string
}

/** What is told while exports and runs of this process go on; docs/receipts.md lists the channels. */
export interface Listeners {
  start(progress: ExportProgress): void
  progress?(progress: ExportProgress): void
  end(receipt: Receipt): void
  'run-taken-over'?(run: Run): void
  'run-finished'?(run: Run): void
}

/** @returns a function that listens no longer */
export function listen(listeners: Listeners): () => void {
  const entries = Object.entries(listeners).map(
    ([name, listener]) => [`fastify-csv-export:${name}`, listener as ChannelListener] as const
  )
  for (const [name, listener] of entries) subscribe(name, listener)
  return () => {
    for (const [name, listener] of entries) unsubscribe(name, listener)
  }
}

/** Ids alone may repeat: they may be of the user's own making. */
export function keyOf({ id, requestId, startedAt }: Pick<Receipt, 'id' | 'requestId' | 'startedAt'>): string {
  return JSON.stringify([id, requestId, startedAt])
}
