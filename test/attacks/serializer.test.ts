import t from 'tap'
import { skipBefore } from '../programs.ts'
import { get, Victim } from './attack.ts'

// On ecf8ce8, 19 of 43 assertions fail: the process ends.

interface Attack {
  path: string
  headers?: Record<string, string>
  /** 200 is a body whose break is seen, if there is an error. */
  status: number
  receipt: {
    status: 'complete' | 'source_failed' | 'limit_reached' | 'source_stalled'
    errorCode: string | null
  }
}

const failed = { status: 'source_failed', errorCode: 'Error' } as const
const complete = { status: 'complete', errorCode: null } as const
const timedOut = { status: 'limit_reached', errorCode: 'FST_ERR_HANDLER_TIMEOUT' } as const

const attacks: Attack[] = [
  { path: '/early', status: 500, receipt: failed },
  { path: '/late', status: 200, receipt: failed },
  // Fastify then asks for the trailers, and logs why there are none.
  { path: '/late', headers: { te: 'trailers' }, status: 200, receipt: failed },
  { path: '/onReceipt', status: 200, receipt: complete },
  { path: '/put', status: 200, receipt: complete },
  {
    path: '/release',
    status: 422,
    receipt: { status: 'limit_reached', errorCode: 'CSV_EXPORT_MAX_ROWS' }
  },
  { path: '/row', status: 500, receipt: { status: 'source_failed', errorCode: 'CSV_EXPORT_INVALID_ROW' } },
  { path: '/commit', status: 500, receipt: { status: 'source_failed', errorCode: 'CSV_EXPORT_FORMULA' } },
  { path: '/timeout', status: 503, receipt: timedOut },
  { path: '/late-timeout', status: 200, receipt: timedOut },
  {
    path: '/stalled',
    status: 200,
    receipt: { status: 'source_stalled', errorCode: 'CSV_EXPORT_SOURCE_STALLED' }
  }
]

t.test('a log serializer of errors that throws', async (t) => {
  const victim = await Victim.start(t, new URL('subjects/serializer.ts', import.meta.url))
  for (const { path, headers, status, receipt } of attacks) {
    const skip = receipt === timedOut && skipBefore('5.12.8', 'a handlerTimeout')
    t.test([path, ...Object.entries(headers ?? {}).flat()].join(' '), { skip }, async (t) => {
      const prepared = await victim.prepare(path)
      const reply = await get(prepared.url, { ...prepared.headers, ...headers })
      t.equal(reply.status, status)
      t.equal(reply.isWhole, status !== 200 || receipt.status === 'complete')
      await victim.checkSurvived(t, prepared.id, receipt)
    })
  }
})
