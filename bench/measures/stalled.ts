import type { Measure } from '../measuring.ts'
import { measureStalled, mostKiB } from '../stalled.ts'

const measure: Measure = {
  name: 'stalled',
  async *run() {
    for await (const { source, clients, rss, heap, external } of measureStalled()) {
      yield {
        what: `memory of a client that reads nothing, one of ${clients}: ${source}`,
        value: rss,
        unit: ' KiB',
        goal: { atMost: mostKiB(source) },
        detail: `${heap.toFixed(0)} KiB of heap, ${external.toFixed(0)} KiB of Buffers`
      }
    }
  }
}

export default measure
