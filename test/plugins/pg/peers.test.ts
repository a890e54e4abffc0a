import t from 'tap'
import { peer } from '../../../plugins/pg/peers.ts'

t.test('a peer that is not installed is named', async (t) => {
  const name = 'pg-not-installed'
  await t.rejects(peer(name, 'cursorRows()', import(name)), {
    code: 'CSV_EXPORT_NOT_INSTALLED',
    message: 'cursorRows() needs the package pg-not-installed: npm install pg-not-installed',
    cause: { code: 'ERR_MODULE_NOT_FOUND' }
  })
})

t.test('what a peer throws while it loads stays as it is', async (t) => {
  const broken = new Error('broken')
  await t.rejects(peer('pg-cursor', 'cursorRows()', Promise.reject(broken)), broken)
})
