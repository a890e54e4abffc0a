import { download, request, startProbe } from '../clients.ts'
import type { Measure } from '../measuring.ts'
import { exportUrl, startNode } from '../servers.ts'
import { mixed } from '../shapes.ts'

const rows = 10
const connections = 20
const many = 500

/** What most requests for an export are: few rows, and few clients at a time. */
function throughput(source: string, suffix: string): Measure {
  return {
    name: `small: ${source}`,
    async *run(bench) {
      await using servers = new AsyncDisposableStack()
      const start = async (way: string) => {
        const server = servers.use(await startNode('server.ts'))
        const url = exportUrl(server, way + suffix, mixed, rows)
        return async () => {
          const { requests, seconds } = await request(url, connections, 1_000)
          return seconds / requests
        }
      }
      const seconds = await bench.times({
        ours: await start('reply.csv'),
        usual: await start('the usual pipeline'),
        whole: await start('stringify-sync and send()')
      })
      const perSecond = (time: number) => `${Math.round(1 / time)} requests/s`
      for (const [peer, time, atLeast] of [
        ['the usual pipeline', seconds.usual, 2],
        ['stringify-sync and send()', seconds.whole, 0.5]
      ] as const) {
        yield {
          what: `${rows} rows of ${source}: requests/s of reply.csv against ${peer}`,
          value: time / seconds.ours,
          unit: 'x',
          goal: { atLeast },
          detail: `${perSecond(seconds.ours)} against ${perSecond(time)}`
        }
      }
    }
  }
}

const latency: Measure = {
  name: 'small: latency',
  async *run(bench) {
    await using servers = new AsyncDisposableStack()
    const start = async (way: string) => {
      const server = servers.use(await startNode('server.ts'))
      const url = exportUrl(server, way, mixed, rows)
      await download(url)
      return async () => {
        const probe = await startProbe(`${server.url}/json`, 2)
        await request(url, many, 5_000)
        return (await probe.stop()).p99
      }
    }
    const { ours, usual } = await bench.medians(
      { ours: await start('reply.csv'), usual: await start('the usual pipeline') },
      3
    )
    yield {
      what: `a JSON route's p99 while ${many} clients ask for ${rows} rows again and again`,
      value: ours,
      unit: ' ms',
      goal: { atMost: 80 },
      detail: `${ours.toFixed(2)} ms, with the usual pipeline ${usual.toFixed(2)} ms`
    }
  }
}

export default [throughput('a generator', ''), throughput('an array', ', an array'), latency]
