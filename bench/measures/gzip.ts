import { download } from '../clients.ts'
import { type Measure, megabytes, rate } from '../measuring.ts'
import { exportUrl, startNode } from '../servers.ts'
import { mixed } from '../shapes.ts'

const rows = 50_000

const measure: Measure = {
  name: 'gzip',
  async *run(bench) {
    await using servers = new AsyncDisposableStack()
    const sizes: Record<string, number> = {}
    const start = async (way: string) => {
      const server = servers.use(await startNode('server.ts'))
      return async () => {
        const { seconds, bytes } = await download(
          exportUrl(server, way, mixed, rows),
          '--header',
          'accept-encoding: gzip'
        )
        sizes[way] = bytes
        return seconds
      }
    }
    const [ourWay, usualWay] = ['reply.csv, gzip', 'the usual pipeline, gzip']
    const { ours, usual } = await bench.times({ ours: await start(ourWay), usual: await start(usualWay) })
    yield {
      what: 'gzip: rows/s of reply.csv against the usual pipeline through zlib.createGzip()',
      value: usual / ours,
      unit: 'x',
      goal: { atLeast: 2 },
      detail: `${rate(rows, ours)} against ${rate(rows, usual)}`
    }
    const [ourSize = 0, usualSize = 0] = [sizes[ourWay], sizes[usualWay]]
    yield {
      what: 'gzip: size against that',
      value: ourSize / usualSize,
      unit: 'x',
      goal: { atMost: 1.1 },
      detail: `${megabytes(ourSize)} and ${megabytes(usualSize)}`
    }
  }
}

export default measure
