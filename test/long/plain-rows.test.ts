import t from 'tap'
import { checkDates, checkPlainRows } from '../plugins/csv-export/csv/plain-files.ts'
import { scaled, scaledTimeout } from './scale.ts'

t.setTimeout(scaledTimeout(900_000))

t.test('plain rows are written as csv-stringify writes them', async (t) => {
  checkPlainRows(t, scaled(1_000_000))
})

t.test('every day has the text that toISOString gives it', async (t) => {
  checkDates(t, 1)
})
