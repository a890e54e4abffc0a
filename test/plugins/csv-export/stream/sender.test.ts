import { EventEmitter } from 'node:events'
import t from 'tap'
import { Sender } from '../../../../plugins/csv-export/stream/sender.ts'
import { gate } from '../../../helper.ts'

/** A destination that does something in each write and takes nothing, and chunks that tell when they are let go of. */
function send(write: (sender: Sender) => void) {
  const released = gate()
  const errors: unknown[] = []
  async function* chunks() {
    try {
      for (;;) yield Buffer.alloc(100_000)
    } finally {
      released.open()
    }
  }
  const destination = Object.assign(new EventEmitter(), {
    writableNeedDrain: false,
    write: () => {
      write(sender)
      return false
    }
  })
  const sender = new Sender(destination, {
    transport: destination,
    stallTimeout: 61_013,
    isClientAsked: () => true,
    onStalled() {},
    onError(error) {
      errors.push(error)
      sender.stop()
    },
    onMark() {},
    onWrite() {}
  })
  return { sent: sender.send(chunks()), released: released.opened, errors }
}

t.test('chunks are let go of when a write throws, once that has been told', { timeout: 5_000 }, async (t) => {
  const error = new Error('write')
  const { sent, released, errors } = send(() => {
    throw error
  })
  await Promise.all([sent, released])
  t.same(errors, [error])
})

t.test('chunks are let go of when a write ends the export', { timeout: 5_000 }, async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length
  const before = timers()
  const { sent, released, errors } = send((sender) => sender.stop())
  await Promise.all([sent, released])
  t.same(errors, [])
  t.equal(timers(), before, 'no timer waits')
})
