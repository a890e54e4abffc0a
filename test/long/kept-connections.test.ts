import t from 'tap'
import { checkKept, connections, downloads, keptBy } from '../attacks/kept-connections.ts'
import { scaled, scaledTimeout } from './scale.ts'

t.setTimeout(scaledTimeout(120_000))

for (const [version, open] of Object.entries(connections)) {
  for (const name of ['an array', 'an array, coded', 'trailers of what is coded']) {
    const count = scaled(1_000)
    t.test(`${count} downloads over one connection: ${version}, ${name}`, async (t) => {
      const connection = await open(t)
      const download = downloads[name] as { path: string }
      // A tenth of them first: what is compiled, and what grows once, is there then.
      for (let done = 0; done < count / 10; done++) await connection.get(download)
      const before = await keptBy(connection)
      for (let done = 0; done < count; done++) await connection.get(download)
      const after = await checkKept(t, connection, before)
      // What Node compiles and caches meanwhile is some hundred KB; the rows of one export are more than 100 KB.
      const grown = after.heapUsed - before.heapUsed
      t.ok(grown < 1_000_000 + 1_000 * count, `the heap has grown by ${grown} bytes`)
    })
  }
}
