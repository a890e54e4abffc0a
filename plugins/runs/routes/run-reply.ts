import type { RunRow } from '../table/runs.ts'

/** Seconds after which to look again. */
export const retryAfter = 1

/** A run as its owner sees it, in a receipt's words. */
export interface Run {
  id: string
  report: string
  parameters: unknown
  state: RunRow['state']
  attempt: number
  progress: { rows: number; bytes: number }
  /** ISO 8601, as all times. */
  createdAt: string
  startedAt: string | null
  finishedAt: string | null
  /** When its file is removed. */
  expiresAt: string | null
  error: { code: string; message: string } | null
  result: { href: string; rows: number; bytes: number; sha256: string } | null
}

/** @param prefix of the routes */
export function toRun(row: RunRow, prefix: string): Run {
  const { id, report, parameters, state, attempt, rows, bytes, sha256, file_id } = row
  return {
    id,
    report,
    parameters,
    state,
    attempt,
    progress: { rows, bytes },
    createdAt: row.created_at,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
    expiresAt: row.expires_at,
    error: row.error_code === null ? null : { code: row.error_code, message: row.error_message as string },
    result:
      state === 'succeeded' && sha256 !== null
        ? { href: `${prefix}/runs/${id}/files/${file_id}`, rows, bytes, sha256 }
        : null
  }
}
