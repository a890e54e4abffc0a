import t from 'tap'
import { checkReader } from '../plugins/csv-export/csv/random-exports.ts'
import { holds } from '../plugins/csv-export/csv/reader-limits.ts'
import { skipWithout } from '../programs.ts'
import {
  csvParse,
  fastCsv,
  pandasPython,
  papaparse,
  startPandas,
  startPhp,
  startPython,
  startRuby
} from '../readers.ts'
import { scaled, scaledTimeout } from './scale.ts'

t.setTimeout(scaledTimeout(240_000))
const withoutPython = skipWithout('python3', 'python3', '--version')
const withoutPandas = skipWithout('pandas (python3-pandas)', pandasPython, '-c', 'import pandas')

t.test('pandas reads the cells that were written', { skip: withoutPandas }, async (t) => {
  const pandas = startPandas(t)
  await checkReader(() => pandas, { numRuns: scaled(5_000), holds: holds.pandas })
  t.pass()
})

t.test("Python's csv module reads the cells that were written", { skip: withoutPython }, async (t) => {
  const python = startPython(t)
  await checkReader(() => python, { numRuns: scaled(20_000), holds: holds.python })
  t.pass()
})

const withoutPhp = skipWithout('PHP (php-cli)', 'php', '--version')
const withoutRuby = skipWithout('Ruby', 'ruby', '-rcsv', '-e', '')

t.test('PHP reads the cells that were written', { skip: withoutPhp }, async (t) => {
  const php = startPhp(t)
  await checkReader(() => php, { numRuns: scaled(20_000), holds: holds.php })
  t.pass()
})

t.test('Ruby reads the cells that were written', { skip: withoutRuby }, async (t) => {
  const ruby = startRuby(t)
  await checkReader(() => ruby, { numRuns: scaled(20_000), holds: holds.ruby })
  t.pass()
})

t.test('csv-parse, papaparse and fast-csv read the cells that were written', async (t) => {
  await checkReader(() => csvParse, { numRuns: scaled(20_000), holds: holds.csvParse })
  await checkReader(() => papaparse, { numRuns: scaled(20_000), holds: holds.papaparse })
  await checkReader(() => fastCsv, { numRuns: scaled(20_000), holds: holds.fastCsv })
  t.pass()
})
