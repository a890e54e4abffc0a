import t from 'tap'
import { BinaryFields } from '../../../../plugins/runs/files/binary-fields.ts'

/** As `COPY (...) TO STDOUT (FORMAT binary)` gives rows of one field. */
function copied(fields: readonly Buffer[]): Buffer {
  const rows = fields.map((field) => {
    const prefix = Buffer.alloc(6)
    prefix.writeInt16BE(1)
    prefix.writeInt32BE(field.length, 2)
    return Buffer.concat([prefix, field])
  })
  return Buffer.concat([
    Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'),
    Buffer.alloc(8),
    ...rows,
    Buffer.from([255, 255])
  ])
}

const cases: Record<string, Buffer[]> = {
  'no row': [],
  'an empty field': [Buffer.alloc(0)],
  'fields that look like the format': [Buffer.from([255, 255]), Buffer.alloc(0), copied([Buffer.from('a')])]
}

for (const [name, fields] of Object.entries(cases)) {
  t.test(`${name}: its bytes, wherever what is copied is cut`, async (t) => {
    const bytes = copied(fields)
    for (let size = 1; size <= bytes.length; size++) {
      const given: Buffer[] = []
      const reader = new BinaryFields(given)
      for (let at = 0; at < bytes.length; at += size) reader.add(bytes.subarray(at, at + size))
      t.equal(
        Buffer.concat(given).toString('hex'),
        Buffer.concat(fields).toString('hex'),
        `pieces of ${size}`
      )
    }
  })
}
