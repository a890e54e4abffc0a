import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { fetchRows } from '../recipes/fetch.ts'
import type { Subject } from '../subject.ts'

export const fetchNdjson: Subject = {
  name: 'fetch() of NDJSON',
  packages: [],
  engine: 'HTTP',
  traps: ['streaming', 'waiting'],
  trap: 'without the signal the request goes on',
  recipe: (url) => ({ rows: (view, { signal }) => fetchRows(`${url}/${view}`, signal), close() {} }),
  documented: (url) => ({
    async *rows(view) {
      const { body } = await fetch(`${url}/${view}`)
      for await (const line of createInterface({ input: Readable.fromWeb(body as any) }))
        yield JSON.parse(line)
    },
    close() {}
  })
}
