import { Readable } from 'node:stream'
import t from 'tap'
import { openCargoFile } from '../../database/cargo-file.ts'
import { cargoColumns } from '../../database/cargoes.ts'

const header = cargoColumns.join(',')
const good = '1,Tea,"Porto, PT","Oslo, NO",1.500,2024-01-02 03:04:05+00,'
const bad = good.replace('1.500', 'heavy')
const withCommodity = (cell: string, line = good) => line.replace('Tea', cell)

/** How many cargoes are in a file, which comes in chunks of so many characters. */
async function count(text: string, size = 1000): Promise<number> {
  const chunks = text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? []
  const cargoes = await openCargoFile(Readable.from(chunks.map((chunk) => Buffer.from(chunk))))
  let found = 0
  for await (const _cargo of cargoes) found++
  return found
}

/** What an editor shows: its lines end with LF, or CR and LF. A lone CR is a character like others. */
const wrong: [name: string, lines: string[], message: RegExp][] = [
  ['a cell with CR LF before it', [withCommodity('"a\r\nb"'), bad], /^line 4, column weight/],
  ['a cell with a lone CR before it', [withCommodity('"a\rb"'), bad], /^line 3, column weight/],
  ['CR LF in its own record', [withCommodity('"a\r\nb\r\nc"', bad)], /^line 2, column weight/],
  ['a lone CR in its own record', [good, withCommodity('"a\rb"', bad)], /^line 3, column weight/],
  [
    'LF before it and in it',
    [withCommodity('"a\n\nb"'), withCommodity('"\n"', bad)],
    /^line 5, column weight/
  ],
  ['blank lines before it', [good, '', '', bad], /^line 5, column weight/],
  [
    'a short record after breaks',
    [withCommodity('"\r\n\r"'), '1,"a\r\n"'],
    /^line 4: 7 cells expected, got 2/
  ],
  ['a quote never closed', ['', '1,"Tea', '2,a', '', '3,b'], /^line 3: a quote that .* is not closed/],
  [
    'a quote closed by one of the next record',
    [good, withCommodity('"Tea'), good],
    /^line 3: .*after a closing quote/
  ],
  [
    'a quote closed far below',
    [withCommodity('"\r\n"'), '', withCommodity('"Tea').slice(0, 10), '2,a', '3,"b"'],
    /^line 5: .*after a closing quote/
  ],
  ['a quote inside a cell', [withCommodity('"\r"'), withCommodity('Te"a')], /^line 3: a quote stands inside/],
  [
    'a record that is too large',
    [withCommodity('"\r\n"'), '', `1,"${'x\r\n'.repeat(50_000)}`],
    /^line 5: .*more than 65536 bytes/
  ]
]
for (const [name, lines, message] of wrong) {
  t.test(`the line of a mistake is where its record begins: ${name}`, async (t) => {
    for (const lineBreak of ['\n', '\r\n']) {
      for (const size of [1, 7, 1_000_000]) {
        if (size < 10 && lines.join('').length > 100_000) continue
        const text = [header, ...lines, ''].join(lineBreak)
        await t.rejects(
          count(text, size),
          { code: 'CARGO_FILE_INVALID', message },
          `${size} characters a chunk`
        )
      }
    }
  })
}

t.test('a header that is one quoted cell is none', async (t) => {
  for (const mark of ['', '\uFEFF']) {
    await t.rejects(count(`${mark}"${header}"\n${good}\n`), {
      message: `line 1: quotes make one cell of several names, the header must be ${header}`
    })
  }
  t.equal(await count(`${header.replace('number', '"number"')}\n${good}\n`), 1, 'its cells may be quoted')
})

t.test('a header is looked for on the line where it stands', async (t) => {
  await t.rejects(count(`\n\n${header.replace('number', 'id')}\n`), {
    message: /^line 3: the header must be/
  })
})

t.test('lines end with LF or CR LF, also both in one file, and not with a lone CR', async (t) => {
  t.equal(await count(`${header}\r\n${good}\n${good}\r\n${good}`), 3)
  const message = /^line 1 ends with CR alone/
  for (const line of [good, good.replace('1', '"1"'), `${good}2020-10-29`]) {
    const text = [header, ...Array.from({ length: 2_000 }, () => line)].join('\r')
    for (const size of [7, header.length + 1, 1_000_000]) await t.rejects(count(text, size), { message })
  }
  for (const size of [1, header.length + 1]) t.equal(await count(`${header}\r\n${good}\r\n`, size), 1)
})
